"""The FHIR notification: one transaction with a preliminary DiagnosticReport and its numbers.

Every resource has an identifier that is derived from DICOM UIDs, and is written by a conditional
update or a conditional create (https://hl7.org/fhir/R4/http.html#cond-update). So a repeated
message changes nothing, and a later revision of a series replaces the earlier one. The patient is
a logical reference: no Patient is created, changed or matched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from urllib.parse import quote

from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, SegmentationStorage

from chestct.findings import Findings
from chestct.results import ResultObject
from chestct.verdict import scope, sentence, verdict
from dicom_out.network.outcome import OutcomeKind
from dicom_out.objects import codes
from dicom_out.objects.identity import MANUFACTURER, observer_uid
from rales.state.store import Job
from rales.steps.notify.fhir_types import (
    AI_ASSERTED,
    URI_SYSTEM,
    Json,
    coded,
    concept,
    dicom_identifier,
    modality,
    name_for,
)
from rales.steps.notify.observations import observations
from rales.steps.notify.result import Result
from rales.steps.notify.subject import Subject
from rales.steps.notify.transport import PostResult, Request
from rales.steps.notify.webhook import NOTICE

_LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage; pydicom 3.0 does not name it."""
_CT_CHEST = Code(value="24627-2", meaning="CT Chest", scheme_designator="LN")
"""Not in CID 100 of the SR; FHIR prefers any code of LOINC."""
_MODALITIES: dict[str, str] = {
    SegmentationStorage: "SEG",
    _LABELMAP: "SEG",
    Comprehensive3DSRStorage: "SR",
    ComprehensiveSRStorage: "SR",
}
_MEDIA_TYPE = "application/fhir+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirReport:
    """What a FHIR server gets about one job.

    Attributes:
        issued: When the job ended.
        subject: The patient and the examination.
        objects: The result objects that a destination took.
        patient_id_system: The URI of the system of Patient IDs, where the images do not name their
            issuer by an OID.
    """

    issued: datetime
    job: Job
    result: Result
    subject: Subject
    objects: Sequence[ResultObject]
    patient_id_system: str

    def request(self) -> Request:
        """Return the request that carries the bundle."""
        body = json.dumps(
            self.bundle(),
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
            default=_time,
        )
        headers = {"Content-Type": _MEDIA_TYPE, "Accept": _MEDIA_TYPE}
        return Request(body=body.encode(), headers=headers)

    def bundle(self) -> Json:
        """Return the transaction: study, device, Observations and DiagnosticReport."""
        study = name_for(self.job.study_uid, "study")
        device = f"urn:oid:{observer_uid(self.result.models)}"
        patient = _patient(self.subject, self.patient_id_system)
        common: Json = {
            "meta": {"security": [AI_ASSERTED]},
            "status": "preliminary",
            "subject": patient,
            "issued": self.issued,
            **({"effectiveDateTime": self.subject.acquired} if self.subject.acquired else {}),
        }
        measured = {
            name_for(self.job.series_uid, observation.part): observation.content
            for observation in observations(self.result.findings)
        }
        report = _report(self.job, self.objects, common, study, list(measured))
        report |= {**_order(self.subject), "conclusion": _conclusion(self.result.findings)}
        entries = [
            _created(study, self._study(patient)),
            _created(device, _device(device, self.result)),
            *(
                _updated(name, _observation(name, content, common, study, device))
                for name, content in measured.items()
            ),
            _updated(name_for(self.job.series_uid, "report"), report),
        ]
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}

    def _study(self, patient: Json) -> Json:
        """Return the study, for a server that has none: the study of an archive stays as it is."""
        source: Json = {
            "uid": self.job.series_uid,
            "modality": modality("CT"),
            "numberOfInstances": self.job.instance_count,
        }
        if self.subject.series_number is not None:
            source["number"] = self.subject.series_number
        return {
            "resourceType": "ImagingStudy",
            "identifier": [dicom_identifier(self.job.study_uid)],
            "status": "available",
            "subject": patient,
            **({"started": self.subject.acquired} if self.subject.acquired else {}),
            **_order(self.subject),
            "series": [source, *_result_series(self.objects)],
        }


def check_transaction(posted: PostResult) -> PostResult:
    """Return the result of a transaction: it is delivered when the server took every entry.

    A portal or a proxy that answers 200 with something else has taken nothing.
    """
    if posted.kind is not OutcomeKind.DELIVERED:
        return posted
    try:
        answer = json.loads(posted.answer)
        is_whole = answer["type"] == "transaction-response" and all(
            str(entry["response"]["status"]).startswith("2") for entry in answer["entry"]
        )
    except (ValueError, KeyError, TypeError):
        is_whole = False
    if is_whole:
        return posted
    message = f"{posted.message}, but the answer is no whole transaction-response"
    return replace(posted, kind=OutcomeKind.FAILED, message=message)


def _time(value: object) -> str:
    """Return a date or a time as FHIR writes it."""
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _updated(name: str, resource: Json) -> Json:
    """Return an entry that writes the resource with that identifier, whether it exists or not."""
    kind = resource["resourceType"]
    query = f"{kind}?identifier={quote(f'{URI_SYSTEM}|{name}', safe=':')}"
    return {"fullUrl": name, "resource": resource, "request": {"method": "PUT", "url": query}}


def _created(name: str, resource: Json) -> Json:
    """Return an entry that creates the resource unless its identifier exists."""
    identifier = resource["identifier"][0]
    unless = f"identifier={quote(identifier['system'] + '|' + identifier['value'], safe=':')}"
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": unless}
    return {"fullUrl": name, "resource": resource, "request": request}


def _patient(subject: Subject, system: str) -> Json:
    identifier: Json = {
        "type": coded("v2-0203", "MR"),
        "system": f"urn:oid:{subject.issuer_oid}" if subject.issuer_oid else system,
        "value": subject.patient_id,
    }
    if subject.issuer:
        identifier["assigner"] = {"display": subject.issuer}
    return {"type": "Patient", "identifier": identifier}


def _order(subject: Subject) -> Json:
    """Return the order by its accession number, for systems that join reports with orders."""
    if not subject.accession_number:
        return {}
    identifier = {"type": coded("v2-0203", "ACSN"), "value": subject.accession_number}
    return {"basedOn": [{"type": "ServiceRequest", "identifier": identifier}]}


def _result_series(objects: Sequence[ResultObject]) -> list[Json]:
    """Return the series of the SEGs and SRs; the parts of a SEG are in one series."""
    series: dict[str, list[ResultObject]] = {}
    for item in objects:
        if item.sop_class_uid in _MODALITIES:
            series.setdefault(item.series_uid, []).append(item)
    return [
        {
            "uid": uid,
            "modality": modality(_MODALITIES[items[0].sop_class_uid]),
            "numberOfInstances": len(items),
            "instance": [
                {
                    "uid": item.sop_instance_uid,
                    "sopClass": {"system": URI_SYSTEM, "code": f"urn:oid:{item.sop_class_uid}"},
                }
                for item in items
            ],
        }
        for uid, items in series.items()
    ]


def _device(name: str, result: Result) -> Json:
    """Return the device, with the Device UID that the SR gives its observer."""
    return {
        "resourceType": "Device",
        "identifier": [dicom_identifier(name.removeprefix("urn:oid:"))],
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": result.software, "type": "model-name"}],
        "type": concept(codes.ARTIFICIAL_INTELLIGENCE),
        "version": [{"value": f"{model.name} {model.version}"} for model in result.models],
        "note": [{"text": NOTICE}],
    }


def _observation(
    name: str, content: Mapping[str, object], common: Mapping[str, object], study: str, device: str
) -> Json:
    return {
        "resourceType": "Observation",
        **common,
        "identifier": [{"system": URI_SYSTEM, "value": name}],
        "category": [coded("observation-category", "imaging")],
        **content,
        "derivedFrom": [{"reference": study}],
        "device": {"reference": device},
        "note": [{"text": NOTICE}],
    }


def _report(
    job: Job,
    objects: Sequence[ResultObject],
    common: Mapping[str, object],
    study: str,
    results: Sequence[str],
) -> Json:
    """Return the report; the SRs that a destination has, of any profile, also identify it."""
    identifiers: list[Json] = [{"system": URI_SYSTEM, "value": name_for(job.series_uid, "report")}]
    identifiers += [
        dicom_identifier(item.sop_instance_uid)
        for item in objects
        if _MODALITIES.get(item.sop_class_uid) == "SR"
    ]
    return {
        "resourceType": "DiagnosticReport",
        **common,
        "identifier": identifiers,
        "category": [coded("v2-0074", "RAD")],
        "code": concept(_CT_CHEST),
        "imagingStudy": [{"reference": study}],
        "result": [{"reference": name} for name in results],
    }


def _conclusion(findings: Findings) -> str:
    flags = f" Quality: {', '.join(findings.quality_flags)}." if findings.quality_flags else ""
    return f"{sentence(verdict(findings))}. {scope(findings)}{flags} {NOTICE}"
