"""Invalid header values of the source are mended or left out; valid ones, and trials, are carried.

dciodvfy judges every object that is written from them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from chest_cases import SOFTWARE, Case, make_case
from judges import run
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from chestct.results import Extra, ResultObject
from dicom_out.objects.extras import compose_extras
from dicom_out.objects.patient_study import header_note
from rales.pictures.page import drawings_of

pytestmark = pytest.mark.slow

LONG = b"x" * 80
INVALID = {
    "PatientBirthDate": (b"1970-01-01", b"19700101"),
    "PatientBirthTime": (b"01:02:03", b"010203"),
    "PatientSex": (b"f", b"F"),
    "StudyTime": (b"noon", b""),
    "StudyDate": (b"20260231", b""),
    "AccessionNumber": (b"a" * 17, b""),
    "IssuerOfPatientID": (LONG, None),
    "StudyDescription": (LONG, b"x" * 64),
    "PatientAge": (b"56", None),
    "PatientSize": (b"1,80", None),
    "PatientWeight": (b"7.12345678901234567", None),
    "EthnicGroup": (b"first\\second", None),
    "PatientComments": (b"bell \x07", None),
    "OtherPatientIDs": (b"1\\2", b"1\\2"),
    "AdmissionID": (b"", None),
    "PatientIdentityRemoved": (b"yes", b"YES"),
    "LongitudinalTemporalInformationModified": (b"PERHAPS", None),
    "ClinicalTrialSponsorName": (b"Sponsor", None),  # without protocol and subject
}
"""Values of the source, and the values of the results; None is an absent attribute."""


def put(dataset: Dataset, keyword: str, value: bytes) -> None:
    """Set the encoded value of an element, whatever it is, with no padding."""
    tag, vr = Tag(keyword), dictionary_VR(keyword)
    dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)  # noqa: FBT003


def every_object(case: Case, folder: Path) -> dict[str, ResultObject]:
    """Write SEG, SR and every extra."""
    analysed = case.analysed()
    objects = case.compose(folder).objects
    extras = compose_extras(
        tuple(Extra), drawings_of(analysed, case.sources()), analysed, case.sources(), folder
    )
    assert extras.left_out == ()
    return {item.role: item for item in (*objects, *extras.objects)}


def errors_of(path: Path) -> list[str]:
    done = run("dciodvfy", path)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_invalid_values_are_mended_or_left_out_of_every_object(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        for keyword, (received, _) in INVALID.items():
            put(dataset, keyword, received)
        put(dataset, "PositionReferenceIndicator", LONG)

    case = make_case(tmp_path / "series", change=change)
    for role, written in every_object(case, tmp_path / "out").items():
        result = pydicom.dcmread(written.path)
        for keyword, (_, expected) in INVALID.items():
            if expected is None:
                assert keyword not in result, (role, keyword)
            else:
                found = result.get_item(keyword).value or b""
                assert found.rstrip(b" ") == expected, (role, keyword)
        if role in {"seg", "colour-overlay"}:
            assert result.PositionReferenceIndicator == "x" * 64
        assert result.DeidentificationMethod == "Not stated by the source images"
        assert errors_of(written.path) == []


def test_the_note_names_attributes_and_no_values(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        put(dataset, "PatientBirthDate", b"1970-01-01")
        put(dataset, "PatientSize", b"1,80")

    case = make_case(tmp_path / "series", change=change)
    assert header_note(pydicom.dcmread(case.series.instances[0].path)) == (
        "the images have invalid header values; mended: Patient's Birth Date; "
        "left out: Patient's Size"
    )


def test_a_valid_header_has_no_note(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    assert header_note(pydicom.dcmread(case.series.instances[0].path)) == ""


@pytest.mark.parametrize("character_set", [b"ISO_IR 192", b"GB18030", b"ISO_IR 100"])
def test_a_text_is_cut_between_characters(character_set: bytes, tmp_path: Path) -> None:
    codec = {b"ISO_IR 192": "utf-8", b"GB18030": "gb18030"}.get(character_set, "latin-1")
    text = ("ü" if codec == "latin-1" else "胸") * 70

    def change(dataset: Dataset) -> None:
        put(dataset, "SpecificCharacterSet", character_set)
        put(dataset, "StudyDescription", text.encode(codec))

    case = make_case(tmp_path / "series", change=change)
    for written in case.compose(tmp_path / "out").objects:
        assert pydicom.dcmread(written.path).StudyDescription == text[:64]


TRIAL: dict[str, Any] = {
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "Profile of the trial",
    "DeidentificationMethodCodeSequence": [
        item(
            CodeValue="113100",
            CodingSchemeDesignator="DCM",
            CodeMeaning="Basic Application Confidentiality Profile",
        )
    ],
    "LongitudinalTemporalInformationModified": "MODIFIED",
    "ClinicalTrialSponsorName": "Sponsor",
    "ClinicalTrialProtocolID": "P-1",
    "ClinicalTrialSubjectID": "S-17",
    "ClinicalTrialTimePointID": "T1",
    "IssuerOfAccessionNumberSequence": [item(LocalNamespaceEntityID="RIS")],
    "OtherPatientIDsSequence": [item(PatientID="ALIAS", IssuerOfPatientID="X")],
    "ProcedureCodeSequence": [
        item(CodeValue="CT1", CodingSchemeDesignator="99HOSP", CodeMeaning="CT Thorax"),
        item(CodeValue="CT2", CodeMeaning="no coding scheme: not valid"),
    ],
    "AdmissionID": "ADM-3",
    "RequestAttributesSequence": [
        item(
            AccessionNumber="ACC-7",
            RequestedProcedureID="RP1",
            RequestedProcedureDescription="CT Thorax",
            ScheduledProcedureStepID="SPS1",
        )
    ],
}


def test_trial_order_and_history_are_carried(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        for keyword, value in TRIAL.items():
            setattr(dataset, keyword, value)

    case = make_case(tmp_path / "series", change=change)
    objects = every_object(case, tmp_path / "out")
    for role, written in objects.items():
        result = pydicom.dcmread(written.path)
        assert errors_of(written.path) == []
        for keyword in (
            "PatientIdentityRemoved",
            "DeidentificationMethod",
            "LongitudinalTemporalInformationModified",
            "ClinicalTrialSponsorName",
            "ClinicalTrialProtocolID",
            "ClinicalTrialSubjectID",
            "ClinicalTrialTimePointID",
            "AdmissionID",
            "DeidentificationMethodCodeSequence",
            "IssuerOfAccessionNumberSequence",
        ):
            assert result.get(keyword) == TRIAL[keyword], (role, keyword)
        (other,) = result.OtherPatientIDsSequence
        assert (other.PatientID, other.TypeOfPatientID) == ("ALIAS", "TEXT")
        (procedure,) = result.ProcedureCodeSequence
        assert procedure.CodeValue == "CT1"
        is_document = result.Modality in {"SR", "KO"}
        request = "ReferencedRequestSequence" if is_document else "RequestAttributesSequence"
        other_request = "RequestAttributesSequence" if is_document else "ReferencedRequestSequence"
        (reference,) = result[request].value
        assert (reference.RequestedProcedureID, reference.AccessionNumber) == ("RP1", "ACC-7")
        assert other_request not in result


def test_an_invalid_time_zone_is_left_out(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        put(dataset, "TimezoneOffsetFromUTC", b"+2500")

    case = make_case(tmp_path / "series", change=change)
    for written in case.compose(tmp_path / "out").objects:
        assert "TimezoneOffsetFromUTC" not in pydicom.dcmread(written.path)
        assert errors_of(written.path) == []
    note = header_note(pydicom.dcmread(case.series.instances[0].path))
    assert note.endswith("left out: Timezone Offset From UTC")


def test_the_lossy_history_of_the_source_is_carried_by_every_image(tmp_path: Path) -> None:
    history = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": ["8.5", "2.0"],
        "LossyImageCompressionMethod": ["ISO_15444_1", "ISO_14495_1"],
    }

    def change(dataset: Dataset) -> None:
        for keyword, value in history.items():
            setattr(dataset, keyword, value)

    objects = every_object(make_case(tmp_path / "series", change=change), tmp_path / "out")
    for role in ("seg", "secondary-capture", "colour-overlay"):
        result = pydicom.dcmread(objects[role].path)
        assert {keyword: result.get(keyword) for keyword in history} == history, role
        assert errors_of(objects[role].path) == []


def test_equipment_and_body_part_are_stated(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    serial_numbers = set()
    for role, written in every_object(case, tmp_path / "out").items():
        result = pydicom.dcmread(written.path)
        assert result.StationName == "RALES", role
        serial_numbers.add(result.DeviceSerialNumber)
        has_body_part = result.Modality in {"SEG", "OT", "PR"}
        assert (result.get("BodyPartExamined") == "CHEST") == has_body_part, role
    (serial_number,) = serial_numbers
    assert len(serial_number) == 16
    other = case.compose(
        tmp_path / "other", software=replace(SOFTWARE, station_name="OTHER")
    ).objects[0]
    assert pydicom.dcmread(other.path).DeviceSerialNumber != serial_number


def test_a_key_object_selection_follows_its_template(tmp_path: Path) -> None:
    """TID 2010: images without concept name, after the observer and the description."""
    objects = every_object(make_case(tmp_path / "series"), tmp_path / "out")
    document = pydicom.dcmread(objects["key-objects"].path)
    kinds = [(item.RelationshipType, item.ValueType) for item in document.ContentSequence]
    images = [item for item in document.ContentSequence if item.ValueType == "IMAGE"]
    assert kinds.count(("CONTAINS", "TEXT")) == 1
    assert kinds == sorted(kinds, key=lambda kind: (kind[0] == "CONTAINS", kind[1] == "IMAGE"))
    assert images
    assert all("ConceptNameCodeSequence" not in item for item in images)
