"""The parts of the FHIR bundle: what was measured, as R4 resources in plain JSON types.

R4B and R4 do not differ in what is used here. The numbers, their rounding and their codes are
those of the SR (:mod:`dicom_out.objects.sr_numbers`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydicom.sr.coding import Code

from chestct.errors import NotificationImpossible
from chestct.findings import (
    Coverage,
    Lung,
    LungMeasurement,
    NotAssessable,
    OpacityMeasurement,
    Severity,
    coverage_of,
    lung_from_dict,
)
from chestct.results import ModelIdentity
from chestct.uids import Uid
from chestct.verdict import unassessed
from dicom_out.objects import codes
from rales.state.results import load_objects
from rales.state.store import Job

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
_LUNGS = {
    codes.LEFT: Code(value="44029006", meaning="Left lung", scheme_designator="SCT"),
    codes.RIGHT: Code(value="3341006", meaning="Right lung", scheme_designator="SCT"),
}
"""A FHIR body site has no modifier for the side, as a finding site of the SR has."""
_COVERED = {
    Coverage.BOTH: codes.BOTH,
    Coverage.LEFT: codes.LEFT,
    Coverage.RIGHT: codes.RIGHT,
}
_NAMESPACE = uuid.UUID("6f1d7d0e-2b0e-5b6b-8a55-0c5a9b3c7e42")
_SEVERITIES = {
    Severity.MILD: codes.MILD,
    Severity.MODERATE: codes.MODERATE,
    Severity.SEVERE: codes.SEVERE,
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What ``findings.json`` of a job says, as far as it is told."""

    left: Lung
    right: Lung
    total: LungMeasurement | None
    ground_glass: OpacityMeasurement
    consolidation: OpacityMeasurement
    lesions: int
    presence_score: float
    severity: Severity | None
    quality_flags: tuple[str, ...]
    models: tuple[ModelIdentity, ...]
    software: str

    @property
    def covers(self) -> Coverage:
        """The lungs that are told of."""
        return coverage_of(self.left, self.right)

    @property
    def covered(self) -> LungMeasurement:
        """What was measured of them."""
        lungs = (self.total, self.left, self.right)
        return next(one for one in lungs if isinstance(one, LungMeasurement))


def read_result(job: Job) -> Result:
    """Read what the analysis of ``job`` left.

    Raises:
        NotificationImpossible: The job has no results.
        OSError: They cannot be read.
    """
    objects = load_objects(job)
    if not objects:
        raise NotificationImpossible("the series has no results")
    folder: Path = objects[0].path.parent
    content = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    found = content["findings"]
    return Result(
        left=lung_from_dict(found["left"]),
        right=lung_from_dict(found["right"]),
        total=LungMeasurement(**found["total"]) if found["total"] else None,
        ground_glass=OpacityMeasurement(**found["ground_glass"]),
        consolidation=OpacityMeasurement(**found["consolidation"]),
        lesions=len(found["lesions"]),
        presence_score=found["presence"]["score"],
        severity=Severity(found["severity"]) if found["severity"] else None,
        quality_flags=tuple(found["quality_flags"]),
        models=tuple(ModelIdentity(**one) for one in content["models"]),
        software=content["software"],
    )


def name_for(series_uid: Uid, part: str) -> str:
    """Return the ``urn:uuid`` that always stands for one part of the report on a series."""
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


def _quantity(value: float, unit: Code, digits: int = 2) -> Json:
    return {
        "value": Decimal(str(round(value, digits))),
        "unit": unit.meaning,
        "system": _SYSTEMS["UCUM"],
        "code": unit.value,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The part of an Observation that is its own: ``part`` names it within a series."""

    part: str
    content: Mapping[str, Any]


def observations(result: Result) -> Iterator[Measured]:
    """Return what is told of the lungs, both and each, and of what was found in them.

    The same parts whatever was found, so that a later revision leaves none of an earlier one
    standing. Single lesions are in the SR only. Of a lung that is not assessable, and of both
    with it, each part says why it has no value; the others are of the assessed one.
    """
    missing = unassessed(result.covers)
    yield from _lung("both", codes.BOTH, result.total or missing)
    for part, side, lung in (
        ("left", codes.LEFT, result.left),
        ("right", codes.RIGHT, result.right),
    ):
        whether = f"{missing}: {lung.reason}" if isinstance(lung, NotAssessable) else lung
        yield from _lung(part, side, whether)
    covered = _COVERED[result.covers]
    lungs = _site(covered)
    yield _number("lesions", codes.COUNT, _quantity(result.lesions, codes.LESIONS), lungs)
    score = _quantity(result.presence_score, codes.NO_UNITS, digits=4)
    yield _number("presence-score", codes.PRESENCE_SCORE, score, lungs)
    absent = codes.UNDETERMINED if missing else codes.ABSENT
    present = codes.PRESENT if result.lesions else absent
    yield Measured(
        part="presence",
        content={
            "code": concept(codes.LESION_PRESENCE),
            "valueCodeableConcept": concept(present),
            "bodySite": lungs,
        },
    )
    yield Measured(
        part="severity",
        content={
            "code": concept(codes.SEVERITY, "Severity by percent of lung involved"),
            "bodySite": _site(codes.BOTH),
            **_severity(result.severity, missing),
        },
    )
    total = result.covered
    share = [(codes.HIGH_OPACITY, total.high_opacity_percent, codes.PERCENT)]
    yield _kind(
        "all-lesions",
        codes.LESION,
        lungs,
        OpacityMeasurement(volume_ml=total.lesion_ml, mean_hu=total.lesion_mean_hu),
        share if result.lesions else [],
    )
    for part, code, found in (
        ("ground-glass", codes.GROUND_GLASS, result.ground_glass),
        ("consolidation", codes.CONSOLIDATION, result.consolidation),
    ):
        yield _kind(part, code, lungs, found)


def _site(side: Code) -> Json:
    """Return the lung of that side: by its own code, and by the lung's, which the SR has."""
    if side not in _LUNGS:
        return concept(codes.LUNG, "Both lungs")
    one = concept(_LUNGS[side])
    return one | {"coding": [*one["coding"], *concept(codes.LUNG)["coding"]]}


def _lung(part: str, side: Code, lung: LungMeasurement | str) -> Iterator[Measured]:
    """Return what is measured of a lung or of both, or why nothing is."""
    site = _site(side)
    values = (
        (None,) * 3
        if isinstance(lung, str)
        else (lung.volume_ml, lung.lesion_ml, lung.involved_percent)
    )
    numbers = (
        ("volume", codes.VOLUME, codes.MILLILITRE, "Volume of lung"),
        ("lesion-volume", codes.LESION_VOLUME, codes.MILLILITRE, ""),
        ("involved", codes.INVOLVED, codes.PERCENT, ""),
    )
    for value, (name, code, unit, meaning) in zip(values, numbers, strict=True):
        told = (
            _absent("unknown", str(lung))
            if value is None
            else {"valueQuantity": _quantity(value, unit)}
        )
        content = {"code": concept(code, meaning), **told, "bodySite": site}
        if unit is codes.MILLILITRE:
            content["method"] = concept(codes.VOXEL_SUM)
        yield Measured(part=f"{part}-{name}", content=content)


def _number(part: str, code: Code, quantity: Json, site: Json) -> Measured:
    content = {"code": concept(code), "valueQuantity": quantity, "bodySite": site}
    return Measured(part=part, content=content)


def _severity(severity: Severity | None, missing: str) -> Json:
    if severity is None:
        return _absent("unknown", missing)
    if severity in _SEVERITIES:
        return {"valueCodeableConcept": concept(_SEVERITIES[severity])}
    return _absent("not-applicable", "No lesion found by the algorithm")


def _absent(code: str, why: str) -> Json:
    """Return why there is no value."""
    reason = {
        "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
        "code": code,
    }
    return {"dataAbsentReason": {"coding": [reason], "text": why}}


def _kind(
    part: str,
    kind: Code,
    site: Json,
    opacity: OpacityMeasurement,
    more: Sequence[tuple[Code, float, Code]] = (),
) -> Measured:
    """Return what is measured of one kind of finding, as components under its code."""
    numbers = [(codes.VOLUME, opacity.volume_ml, codes.MILLILITRE), *more]
    components = [
        {"code": concept(code), "valueQuantity": _quantity(value, unit)}
        for code, value, unit in numbers
    ]
    if opacity.mean_hu is not None:
        mean = concept(codes.ATTENUATION, "Mean attenuation")
        quantity = _quantity(opacity.mean_hu, codes.HOUNSFIELD)
        components.append({"code": mean, "valueQuantity": quantity})
    content = {
        "code": concept(kind),
        "bodySite": site,
        "component": components,
    }
    return Measured(part=part, content=content)
