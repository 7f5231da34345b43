"""The FHIR notification: one transaction with a preliminary DiagnosticReport and its numbers.

Every resource has an identifier that is derived from DICOM UIDs, and is written by a conditional
update or a conditional create (https://hl7.org/fhir/R4/http.html#cond-update), so that a repeated
message changes nothing and a later revision of a series replaces the earlier one. The patient is
a logical reference: no Patient is made, changed or guessed at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from urllib.parse import quote

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from chestct.errors import NotificationImpossible
from chestct.results import ResultObject
from chestct.verdict import unassessed
from dicom_out.objects import codes
from dicom_out.objects.identity import MANUFACTURER, observer_uid
from rales.state.results import sr_reference
from rales.state.store import Job, Notification
from rales.steps.notify.resources import (
    AI_ASSERTED,
    Json,
    Measured,
    Result,
    concept,
    dicom_identifier,
    name_for,
    observations,
)
from rales.steps.notify.subject import Subject
from rales.steps.notify.transport import Outcome, OutcomeKind, Request
from rales.steps.notify.webhook import NOTICE

_URI = "urn:ietf:rfc:3986"
_V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
_LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage; pydicom 3.0 does not name it."""
_MODALITIES: dict[str, str] = {
    SegmentationStorage: "SEG",
    _LABELMAP: "SEG",
    Comprehensive3DSRStorage: "SR",
}
_MEDIA_TYPE = "application/fhir+json"


def fhir_request(
    one: Notification,
    job: Job,
    result: Result,
    subject: Subject,
    objects: Sequence[ResultObject],
    *,
    patient_id_system: str,
) -> Request:
    """Return the request that carries the bundle.

    Raises:
        NotificationImpossible: The bundle is not valid FHIR; the message names the elements.
    """
    bundle = transaction(one, job, result, subject, objects, patient_id_system=patient_id_system)
    body: str = bundle.model_dump_json()
    return Request(body=body.encode(), headers={"Content-Type": _MEDIA_TYPE, "Accept": _MEDIA_TYPE})


def transaction(
    one: Notification,
    job: Job,
    result: Result,
    subject: Subject,
    objects: Sequence[ResultObject],
    *,
    patient_id_system: str,
) -> Bundle:
    """Return the validated bundle.

    Args:
        one: The message; its time is when the report was issued.
        job: The job that is done.
        result: What was measured.
        subject: Patient and examination.
        objects: The results that a destination took.
        patient_id_system: The URI of the system that Patient IDs are of, where the images do
            not name their issuer by an OID.

    Raises:
        NotificationImpossible: As in :func:`fhir_request`.
    """
    study, device = name_for(job.study_uid, "study"), f"urn:oid:{observer_uid(result.models)}"
    common: Json = {
        "meta": {"security": [AI_ASSERTED]},
        "status": "preliminary",
        "subject": _patient(subject, patient_id_system),
        "issued": one.occurred_at,
        **_effective(subject.acquired),
    }
    entries = [
        _study_entry(study, job, common["subject"], subject, objects),
        _device_entry(device, result),
    ]
    told = [(name_for(job.series_uid, item.part), item) for item in observations(result)]
    for name, item in told:
        entries.append(_updated(name, _observation(name, item, common, study, device)))
    report = name_for(job.series_uid, "report")
    names = [name for name, _ in told]
    resource = _report(report, job, common, study, names)
    resource |= {**_order(subject), "conclusion": _conclusion(result)}
    entries.append(_updated(report, resource))
    plain = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    try:
        return Bundle.model_validate(plain)
    except ValidationError as error:
        wrong = sorted({".".join(map(str, item["loc"])) for item in error.errors()})
        raise NotificationImpossible(f"not valid FHIR: {', '.join(wrong)}") from error


def taken(outcome: Outcome) -> Outcome:
    """Return the outcome of a transaction: it is taken when every entry was.

    A server that answers 200 with something else (a portal, a proxy) has taken nothing.
    """
    if outcome.kind is not OutcomeKind.DELIVERED:
        return outcome
    try:
        answer = json.loads(outcome.answer)
        whole = answer["type"] == "transaction-response" and all(
            str(entry["response"]["status"]).startswith("2") for entry in answer["entry"]
        )
    except (ValueError, KeyError, TypeError):
        whole = False
    if whole:
        return outcome
    message = f"{outcome.message}, but the answer is no whole transaction-response"
    return replace(outcome, kind=OutcomeKind.FAILED, message=message)


def _updated(name: str, resource: Json) -> Json:
    """Return an entry that writes the resource of that identifier, new or not."""
    kind = resource["resourceType"]
    query = f"{kind}?identifier={quote(f'{_URI}|{name}', safe=':')}"
    return {"fullUrl": name, "resource": resource, "request": {"method": "PUT", "url": query}}


def _created(name: str, resource: Json) -> Json:
    """Return an entry that makes the resource unless there is one of its identifier."""
    identifier = resource["identifier"][0]
    unless = f"identifier={quote(identifier['system'] + '|' + identifier['value'], safe=':')}"
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": unless}
    return {"fullUrl": name, "resource": resource, "request": request}


def _patient(subject: Subject, system: str) -> Json:
    oid = subject.issuer_oid
    identifier: Json = {
        "type": {"coding": [{"system": _V2_0203, "code": "MR"}]},
        "system": f"urn:oid:{oid}" if oid else system,
        "value": subject.patient_id,
    }
    if subject.issuer:
        identifier["assigner"] = {"display": subject.issuer}
    return {"type": "Patient", "identifier": identifier}


def _effective(acquired: datetime | date | None) -> Json:
    return {"effectiveDateTime": acquired} if acquired else {}


def _order(subject: Subject) -> Json:
    """Return the order by its accession number, for who joins reports with orders."""
    if not subject.accession_number:
        return {}
    identifier = {
        "type": {"coding": [{"system": _V2_0203, "code": "ACSN"}]},
        "value": subject.accession_number,
    }
    return {"basedOn": [{"type": "ServiceRequest", "identifier": identifier}]}


def _study_entry(
    name: str, job: Job, patient: Json, subject: Subject, objects: Sequence[ResultObject]
) -> Json:
    """Return the study, for a server that has none: an archive's own is left as it is."""
    started = {"started": subject.acquired} if subject.acquired else {}
    source: Json = {
        "uid": job.series_uid,
        "modality": _modality("CT"),
        "numberOfInstances": job.instance_count,
    }
    if subject.series_number is not None:
        source["number"] = subject.series_number
    resource: Json = {
        "resourceType": "ImagingStudy",
        "identifier": [dicom_identifier(job.study_uid)],
        "status": "available",
        "subject": patient,
        **started,
        **_order(subject),
        "series": [source, *_result_series(objects)],
    }
    return _created(name, resource)


def _result_series(objects: Sequence[ResultObject]) -> list[Json]:
    return [
        {
            "uid": item.series_uid,
            "modality": _modality(_MODALITIES[item.sop_class_uid]),
            "numberOfInstances": 1,
            "instance": [
                {
                    "uid": item.sop_instance_uid,
                    "sopClass": {"system": _URI, "code": f"urn:oid:{item.sop_class_uid}"},
                }
            ],
        }
        for item in objects
        if item.sop_class_uid in _MODALITIES
    ]


def _modality(code: str) -> Json:
    return {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": code}


def _device_entry(name: str, result: Result) -> Json:
    """Return the device, with the Device UID that the SR gives its observer."""
    resource: Json = {
        "resourceType": "Device",
        "identifier": [dicom_identifier(name.removeprefix("urn:oid:"))],
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": result.software, "type": "model-name"}],
        "type": concept(codes.ARTIFICIAL_INTELLIGENCE),
        "version": [{"value": f"{model.name} {model.version}"} for model in result.models],
        "note": [{"text": NOTICE}],
    }
    return _created(name, resource)


def _observation(
    name: str, item: Measured, common: Mapping[str, object], study: str, device: str
) -> Json:
    category = {
        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
        "code": "imaging",
    }
    return {
        "resourceType": "Observation",
        **common,
        "identifier": [{"system": _URI, "value": name}],
        "category": [{"coding": [category]}],
        **item.content,
        "derivedFrom": [{"reference": study}],
        "device": {"reference": device},
        "note": [{"text": NOTICE}],
    }


def _report(
    name: str, job: Job, common: Mapping[str, object], study: str, results: Sequence[str]
) -> Json:
    identifiers: list[Json] = [{"system": _URI, "value": name}]
    if sr := sr_reference(job):
        identifiers.append(dicom_identifier(sr.sop_instance_uid))
    category = {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}
    return {
        "resourceType": "DiagnosticReport",
        **common,
        "identifier": identifiers,
        "category": [{"coding": [category]}],
        "code": concept(codes.CT_CHEST),
        "imagingStudy": [{"reference": study}],
        "result": [{"reference": one} for one in results],
    }


def _conclusion(result: Result) -> str:
    covered, missing = result.covered, unassessed(result.covers)
    if result.lesions:
        found = (
            f"Lung lesions found: {result.lesions}, {covered.lesion_ml:.1f} ml in all,"
            f" {covered.involved_percent:.1f} % of {result.covers.words} involved"
            f" ({result.severity or missing})."
        )
    elif missing:
        found = f"None marked by the algorithm in the assessed lung; {missing}."
    else:
        found = "No lung lesion found by the algorithm, which does not say that there is none."
    flags = f" Quality: {', '.join(result.quality_flags)}." if result.quality_flags else ""
    return f"{NOTICE} {found}{flags}"
