"""The FHIR bundle, re-read as a server gets it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pydicom
import pytest
from fhir.resources.R4B.bundle import Bundle
from http_receiver import HttpReceiver
from notify_rig import HEALTHY, ILL, ISSUER_SYSTEM, PATIENT_ID, MakeRig, Rig, write_header
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, SegmentationStorage

from chestct.results import ResultObject
from chestct.series import ReceivedInstance
from chestct.states import DeliveryState
from chestct.uids import Uid
from rales.state.store import DeliveryStore
from rales.state.store.outbox import Attempt
from rales.steps.notify.fhir import FhirReport
from rales.steps.notify.result import read_result
from rales.steps.notify.subject import read_subject
from rales.steps.retry import retry

from .conftest import NOON


def sent_bundle(rig: Rig, receiver: HttpReceiver) -> Bundle:
    rig.send()
    assert rig.told.state is DeliveryState.DELIVERED, rig.told.message
    assert receiver.received[-1].headers["Content-Type"] == "application/fhir+json"
    return Bundle.model_validate_json(receiver.received[-1].body)


def numbers(bundle: Bundle) -> dict[tuple[str, str, str], tuple[Decimal, str]]:
    """Return (value, UCUM code) by code, body site and code of the component."""
    found = {}
    for entry in bundle.entry:
        one = entry.resource
        if one.get_resource_type() != "Observation":
            continue
        key = (one.code.coding[0].code, one.bodySite.coding[0].code)
        if one.valueQuantity:
            found[*key, ""] = (one.valueQuantity.value, one.valueQuantity.code)
        for part in one.component or ():
            quantity = part.valueQuantity
            found[*key, part.code.coding[0].code] = (quantity.value, quantity.code)
    return found


def test_the_numbers_of_the_bundle_are_those_of_the_findings(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(ILL)
    bundle = sent_bundle(rig, receiver)
    lung, left, right = "39607008", "44029006", "3341006"
    volume, hu = "118565006", "112031"

    def told(value: float, unit: str, digits: int = 2) -> tuple[Decimal, str]:
        return Decimal(str(round(value, digits))), unit

    assert numbers(bundle) == {
        (volume, lung, ""): told(ILL.total.volume_ml, "ml"),
        ("LESION_VOLUME", lung, ""): told(ILL.total.lesion_ml, "ml"),
        ("PCT_INVOLVED", lung, ""): told(ILL.total.involved_percent, "%"),
        (volume, left, ""): told(ILL.left.volume_ml, "ml"),
        ("LESION_VOLUME", left, ""): told(ILL.left.lesion_ml, "ml"),
        ("PCT_INVOLVED", left, ""): told(ILL.left.involved_percent, "%"),
        ("PCT_INVOLVED", left, "PCT_UPPER_THIRD"): told(1.11, "%"),
        ("PCT_INVOLVED", left, "PCT_MIDDLE_THIRD"): told(2.22, "%"),
        ("PCT_INVOLVED", left, "PCT_LOWER_THIRD"): told(3.33, "%"),
        ("PCT_INVOLVED", left, "PCT_PERIPHERAL"): told(4.44, "%"),
        ("PCT_INVOLVED", left, "PCT_CENTRAL"): told(5.55, "%"),
        (volume, right, ""): told(ILL.right.volume_ml, "ml"),
        ("LESION_VOLUME", right, ""): told(0.0, "ml"),
        ("PCT_INVOLVED", right, ""): told(0.0, "%"),
        ("246206008", lung, ""): told(1, "{lesions}"),
        ("PRESENCE_SCORE", lung, ""): told(ILL.presence.score, "1", 4),
        ("52988006", lung, volume): told(ILL.total.lesion_ml, "ml"),
        ("52988006", lung, "PCT_HIGH_OPACITY"): told(ILL.total.high_opacity_percent, "%"),
        ("52988006", lung, hu): told(-412.349, "[hnsf'U]"),
        ("112120", lung, volume): told(ILL.ground_glass.volume_ml, "ml"),
        ("112120", lung, hu): told(-498.123, "[hnsf'U]"),
        ("95436008", lung, volume): told(ILL.consolidation.volume_ml, "ml"),
        ("95436008", lung, hu): told(-101.5, "[hnsf'U]"),
    }


def test_the_report_is_preliminary_ai_made_and_of_the_right_patient(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(ILL)
    bundle = sent_bundle(rig, receiver)
    resources = [entry.resource for entry in bundle.entry]
    report = resources[-1]
    assert report.get_resource_type() == "DiagnosticReport"
    assert report.status == "preliminary"
    assert report.conclusion.startswith("Opacities found: 1.5 % of the lungs.")
    assert "AI-made, research use only, not verified" in report.conclusion
    assert report.identifier[1].value == "urn:oid:2.25.8"
    assert report.basedOn[0].identifier.value == "ACC9"
    assert report.effectiveDateTime.isoformat().startswith("2025-12-31T10:15:30")
    observations = [one for one in resources if one.get_resource_type() == "Observation"]
    for one in (report, *observations):
        assert one.meta.security[0].code == "AIAST"
        assert one.status == "preliminary"
        assert one.subject.identifier.value == PATIENT_ID
        assert one.subject.identifier.system == ISSUER_SYSTEM
        assert one.subject.reference is None
    names = [entry.fullUrl for entry in bundle.entry]
    assert len(set(names)) == len(names)
    assert [one.reference for one in report.result] == names[2:-1]
    study = resources[0]
    assert study.identifier[0].value == "urn:oid:1.2"
    assert [series.modality.code for series in study.series] == ["CT", "SEG", "SR"]
    assert report.imagingStudy[0].reference == names[0]
    assert {one.device.reference for one in observations} == {names[1]}
    assert b"Quimby" not in receiver.received[-1].body


def test_a_repeated_bundle_is_the_same_and_a_later_revision_writes_over_it(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    receiver.answers = [(503, "")]
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(ILL)
    rig.send()
    rig.clock.advance(10)
    sent_bundle(rig, receiver)
    first, second = receiver.received
    assert first.body == second.body
    compact = json.dumps(first.json, ensure_ascii=False, separators=(",", ":"))
    assert first.body == compact.encode()
    (rig.folder / "findings.json").write_text(
        (rig.folder / "findings.json").read_text().replace("1987.654", "1999.0")
    )
    retry(rig.jobs, rig.job, at=rig.clock())
    DeliveryStore(rig.database).begin(rig.job, planned={}, at=rig.clock())
    DeliveryStore(rig.database).finish_jobs(at=rig.clock())
    rig.send()
    third = receiver.received[2]
    assert third.body != first.body
    requests = [[one["request"] for one in got.json["entry"]] for got in (first, third)]
    assert requests[0] == requests[1]
    puts = [one["url"] for one in requests[0] if one["method"] == "PUT"]
    assert len(set(puts)) == len(puts) == len(requests[0]) - 2
    for url in puts:
        assert re.fullmatch(r"\w+\?identifier=urn:ietf:rfc:3986%7Curn:uuid:[0-9a-f-]{36}", url)
    assert requests[0][0] == {
        "method": "POST",
        "url": "ImagingStudy",
        "ifNoneExist": "identifier=urn:dicom:uid%7Curn:oid:1.2",
    }


def test_the_parts_of_a_seg_are_instances_of_one_series(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(ILL)
    segs, srs = SegmentationStorage, (Comprehensive3DSRStorage, ComprehensiveSRStorage)
    objects = [
        ResultObject(
            role=role,
            path=Path(role),
            sop_class_uid=Uid(kind),
            sop_instance_uid=Uid(f"2.25.{number}"),
            series_uid=Uid(f"2.25.{series}0"),
            study_uid=Uid("1.2"),
        )
        for role, kind, number, series in (
            ("seg-1-weasis", segs, 1, 1),
            ("seg-2-weasis", segs, 2, 1),
            ("sr-weasis", srs[0], 3, 3),
            ("sr-plain", srs[1], 4, 4),
        )
    ]
    image = Path(rig.instances.of_series(rig.job.series_uid)[0].path)
    bundle = FhirReport(
        issued=NOON,
        job=rig.job,
        result=read_result(rig.job),
        subject=read_subject(image),
        objects=objects,
        patient_id_system="urn:oid:1.2.3",
    ).bundle()
    study, report = bundle["entry"][0]["resource"], bundle["entry"][-1]["resource"]
    assert [
        (series["modality"]["code"], [item["uid"] for item in series["instance"]])
        for series in study["series"][1:]
    ] == [("SEG", ["2.25.1", "2.25.2"]), ("SR", ["2.25.3"]), ("SR", ["2.25.4"])]
    assert [series["numberOfInstances"] for series in study["series"][1:]] == [2, 1, 1]
    named = [identifier["value"] for identifier in report["identifier"][1:]]
    assert named == ["urn:oid:2.25.3", "urn:oid:2.25.4"], "every SR that a destination has"


def test_an_earlier_revision_that_ends_last_is_not_written_over_the_newer_one(
    make_rig: MakeRig, receiver: HttpReceiver, make_instance: Callable[..., ReceivedInstance]
) -> None:
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(ILL)
    rig.send()
    earlier, deliveries = rig.job, DeliveryStore(rig.database)
    retry(rig.jobs, earlier, at=NOON)
    kept = {"pacs": [("sr", Uid("2.25.8"))]}  # at a destination that is down
    deliveries.begin(rig.job, planned=kept, at=NOON)
    assert deliveries.may_send(deliveries.due("pacs", at=NOON), at=NOON)
    rig.instances.record(make_instance(2))
    rig.finish(HEALTHY)
    newer = rig.job
    (waiting,) = deliveries.of_job(earlier.id)
    taken = Attempt(state=DeliveryState.DELIVERED, status=0, message="", at=NOON)
    deliveries.record(waiting, taken)
    deliveries.finish_jobs(at=NOON)
    for _ in range(3):
        rig.send(1)
    states = [one.state for one in rig.outbox.of_job(earlier.id)]
    assert states == [DeliveryState.DELIVERED, DeliveryState.WITHDRAWN]
    assert rig.outbox.of_job(earlier.id)[1].message == "the receiver has a newer revision already"
    (told,) = rig.outbox.of_job(newer.id)
    assert told.state is DeliveryState.DELIVERED
    assert len(receiver.received) == 2
    assert b"None marked" in receiver.received[-1].body


def test_no_lesion_is_said_as_none_marked(make_rig: MakeRig, receiver: HttpReceiver) -> None:
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(HEALTHY)
    bundle = sent_bundle(rig, receiver)
    by_code = {
        entry.resource.code.coding[0].code: entry.resource
        for entry in bundle.entry
        if entry.resource.get_resource_type() == "Observation"
    }
    presence = by_code["LESION_PRESENCE"]
    assert presence.valueCodeableConcept.coding[0].code == "NONE_MARKED"
    assert "246112005" not in by_code, "severity has no source"
    assert (
        "No ground-glass opacity or consolidation marked." in bundle.entry[-1].resource.conclusion
    )


def test_an_issuer_with_an_oid_is_the_system_of_the_patient_id(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    qualifiers = Dataset()
    qualifiers.UniversalEntityID = "1.2.276.0.76"
    qualifiers.UniversalEntityIDType = "ISO"
    patient = {
        "IssuerOfPatientID": "North",
        "IssuerOfPatientIDQualifiersSequence": [qualifiers],
        "StudyDate": "20251231",
        "StudyTime": None,
    }
    rig = make_rig(patient, kind="fhir", url=receiver.url("/fhir"))
    rig.finish(HEALTHY)
    report = sent_bundle(rig, receiver).entry[-1].resource
    assert report.subject.identifier.system == "urn:oid:1.2.276.0.76"
    assert report.subject.identifier.assigner.display == "North"
    assert str(report.effectiveDateTime) == "2025-12-31"


@pytest.mark.parametrize(
    ("day", "time", "offset", "said"),
    [
        ("20251231", "101530", "-0500", "2025-12-31T10:15:30-05:00"),
        ("20251231", "9am", "", "2025-12-31"),
        ("yesterday", "101530", "", None),
        ("", "101530", "", None),
    ],
)
def test_the_time_of_the_study_is_as_precise_as_it_is_said(
    tmp_path: Path, day: str, time: str, offset: str, said: str | None
) -> None:
    header = {"StudyDate": day, "StudyTime": time, "TimezoneOffsetFromUTC": offset}
    with pydicom.config.disable_value_validation():
        write_header(tmp_path / "ct.dcm", header)
        acquired = read_subject(tmp_path / "ct.dcm").acquired
    assert (acquired.isoformat() if acquired else None) == said


def test_without_a_patient_id_nothing_goes_to_fhir(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    rig = make_rig({"PatientID": ""}, kind="fhir", url=receiver.url("/fhir"))
    rig.finish(HEALTHY)
    rig.send()
    assert rig.told.state is DeliveryState.REFUSED
    assert rig.told.message == "the images have no Patient ID"
    assert not receiver.received


def test_an_answer_that_is_no_transaction_response_is_no_success(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    half = {"type": "transaction-response", "entry": [{"response": {"status": "409 Conflict"}}]}
    receiver.answers = [(200, "<html>Welcome to the portal</html>"), (200, json.dumps(half))]
    rig = make_rig(kind="fhir", url=receiver.url("/fhir"))
    rig.finish(HEALTHY)
    for _ in range(2):
        rig.send(10)
        assert rig.told.state is DeliveryState.PENDING
        assert "no whole transaction-response" in rig.told.message
    rig.send(60)
    assert rig.told.state is DeliveryState.DELIVERED


def test_fhir_is_not_told_of_a_series_without_results(make_rig: MakeRig) -> None:
    rig = make_rig(kind="fhir", url="http://127.0.0.1:9/")
    rig.reject()
    assert rig.outbox.of_job(rig.job.id) == []
