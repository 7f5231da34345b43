"""FHIR R4 data types in plain JSON: codes, identifiers, quantities (R4B does not differ here)."""

from __future__ import annotations

import uuid
from typing import Any

from pydicom.sr.coding import Code

from chestct.uids import Uid
from dicom_out.objects import codes

Json = dict[str, Any]

URI_SYSTEM = "urn:ietf:rfc:3986"
_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    codes.PRIVATE_SCHEME: "urn:uuid:0bb1b9d2-5c8c-5e0f-9a37-4f2d1c9f7a61",
}
"""The URI of each coding scheme (https://hl7.org/fhir/R4/terminologies-systems.html)."""
AI_ASSERTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
"""Security label of every resource (HL7 AI Transparency on FHIR, ProvenanceVS)."""
_NAMESPACE = uuid.UUID("6f1d7d0e-2b0e-5b6b-8a55-0c5a9b3c7e42")


def name_for(series_uid: Uid, part: str) -> str:
    """Return the ``urn:uuid`` of one part of the report on a series; it never changes."""
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{series_uid}/{part}')}"


def dicom_identifier(uid: str) -> Json:
    """Return a DICOM UID as FHIR writes it (https://hl7.org/fhir/R4/imagingstudy.html)."""
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}


def concept(code: Code, text: str = "") -> Json:
    """Return a code as a CodeableConcept."""
    coding = {
        "system": _SYSTEMS[code.scheme_designator],
        "code": code.value,
        "display": code.meaning,
    }
    return {"coding": [coding], "text": text or code.meaning}


def coded(system: str, code: str) -> Json:
    """Return a CodeableConcept of an HL7 code system, without a text."""
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": code}]}


def modality(code: str) -> Json:
    """Return the Coding of a modality."""
    return {"system": _SYSTEMS["DCM"], "code": code}


def quantity(value: float, unit: Code, digits: int = 2) -> Json:
    """Return a value with its UCUM unit, rounded as in the SR."""
    return {
        "value": round(value, digits),
        "unit": unit.meaning,
        "system": _SYSTEMS["UCUM"],
        "code": unit.value,
    }


def absent(code: str, why: str) -> Json:
    """Return the reason why an Observation has no value."""
    return {"dataAbsentReason": {**coded("data-absent-reason", code), "text": why}}
