"""The Observations of a FHIR report: the measurements of the lungs and of the findings.

The numbers, their rounding and their codes are those of the SR
(:mod:`dicom_out.objects.sr_numbers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.sr.coding import Code

from chestct.findings import (
    Coverage,
    Findings,
    LungMeasurement,
    NotAssessable,
    OpacityMeasurement,
)
from chestct.verdict import unassessed, verdict
from dicom_out.objects import codes
from rales.steps.notify.fhir_types import Json, absent, concept, quantity

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The elements in which one Observation differs; ``part`` names it within a series."""

    part: str
    content: Mapping[str, Any]


def observations(findings: Findings) -> Iterator[Measured]:
    """Return the Observations of the lungs, both and each, and of the findings in them.

    The parts are the same whatever was found, so that a later revision replaces every part of an
    earlier one. Single lesions are in the SR only. Each part of a lung that is not assessable, and
    of both lungs with it, says why it has no value; the others are of the assessed lung. Where
    the result is indeterminate, so does each number of opacity: nobody may read it as zero.
    """
    missing = unassessed(findings.covers)
    doubt = "" if findings.states_opacity else verdict(findings)
    yield from _lung("both", codes.BOTH, findings.total or missing, doubt)
    for part, side, lung in (
        ("left", codes.LEFT, findings.left),
        ("right", codes.RIGHT, findings.right),
    ):
        measured = f"{missing}: {lung.reason}" if isinstance(lung, NotAssessable) else lung
        yield from _lung(part, side, measured, doubt)
    site = _site(_COVERED[findings.covers])
    yield from _summary(findings, site, doubt)
    yield from _opacities(findings, site, doubt)


def _lung(part: str, side: Code, lung: LungMeasurement | str, doubt: str) -> Iterator[Measured]:
    """Return the numbers of a lung or of both, or why there are none.

    ``doubt`` is why the result is indeterminate; empty if it is not.
    """
    values: tuple[float | None, ...] = (None,) * 3
    zones: list[Json] = []
    if not isinstance(lung, str):
        values = (lung.volume_ml, lung.lesion_ml, lung.involved_percent)
        if doubt:
            values = (lung.volume_ml, None, None)
        else:
            zones = _zones(lung)
    why = lung if isinstance(lung, str) else doubt
    numbers = (
        ("volume", codes.VOLUME, codes.MILLILITRE, "Volume of lung"),
        ("lesion-volume", codes.LESION_VOLUME, codes.MILLILITRE, ""),
        ("involved", codes.INVOLVED, codes.PERCENT, ""),
    )
    for value, (name, code, unit, meaning) in zip(values, numbers, strict=True):
        content = {
            "code": concept(code, meaning),
            **(
                absent("unknown", why)
                if value is None
                else {"valueQuantity": quantity(value, unit)}
            ),
            "bodySite": _site(side),
        }
        if unit is codes.MILLILITRE:
            content["method"] = concept(codes.VOXEL_SUM)
        elif zones:
            content["component"] = zones
        yield Measured(part=f"{part}-{name}", content=content)


def _zones(lung: LungMeasurement) -> list[Json]:
    """Return the involvement of each zone of a lung, as components."""
    return [
        {
            "code": concept(codes.INVOLVED_ZONES[zone.zone]),
            "valueQuantity": quantity(zone.involved_percent, codes.PERCENT),
        }
        for zone in lung.zones
    ]


def _summary(findings: Findings, site: Json, doubt: str) -> Iterator[Measured]:
    """Return the number of lesions, the score and the outcome."""
    score = quantity(findings.presence.score, codes.NO_UNITS, digits=4)
    lesions = quantity(len(findings.lesions), codes.LESIONS)
    contents: Mapping[str, Json] = {
        "lesions": {
            "code": concept(codes.COUNT),
            **(absent("unknown", doubt) if doubt else {"valueQuantity": lesions}),
            "bodySite": site,
        },
        "presence-score": {
            "code": concept(codes.PRESENCE_SCORE),
            "valueQuantity": score,
            "bodySite": site,
        },
        "presence": {
            "code": concept(codes.LESION_PRESENCE),
            "valueCodeableConcept": concept(codes.PRESENCES[findings.outcome]),
            "bodySite": site,
        },
    }
    for part, content in contents.items():
        yield Measured(part=part, content=content)


def _opacities(findings: Findings, site: Json, doubt: str) -> Iterator[Measured]:
    """Return the volumes and densities of all lesions, and of each kind of opacity."""
    if doubt:
        for part, kind in (
            ("all-lesions", codes.LESION),
            ("ground-glass", codes.GROUND_GLASS),
            ("consolidation", codes.CONSOLIDATION),
        ):
            why = absent("unknown", doubt)
            yield Measured(part=part, content={"code": concept(kind), "bodySite": site, **why})
        return
    total = findings.covered
    every = OpacityMeasurement(volume_ml=total.lesion_ml, mean_hu=total.lesion_mean_hu)
    dense = (codes.HIGH_OPACITY, total.high_opacity_percent, codes.PERCENT)
    yield _opacity("all-lesions", codes.LESION, site, every, [dense] if findings.lesions else [])
    yield _opacity("ground-glass", codes.GROUND_GLASS, site, findings.ground_glass)
    yield _opacity("consolidation", codes.CONSOLIDATION, site, findings.consolidation)


def _opacity(
    part: str,
    kind: Code,
    site: Json,
    opacity: OpacityMeasurement,
    more: Sequence[tuple[Code, float, Code]] = (),
) -> Measured:
    """Return the numbers of one kind of opacity, as components under its code."""
    numbers = [(codes.VOLUME, opacity.volume_ml, codes.MILLILITRE), *more]
    components = [
        {"code": concept(code), "valueQuantity": quantity(value, unit)}
        for code, value, unit in numbers
    ]
    if opacity.mean_hu is not None:
        mean = concept(codes.ATTENUATION, "Mean attenuation")
        density = quantity(opacity.mean_hu, codes.HOUNSFIELD)
        components.append({"code": mean, "valueQuantity": density})
    content = {"code": concept(kind), "bodySite": site, "component": components}
    return Measured(part=part, content=content)


def _site(side: Code) -> Json:
    """Return the body site: the lung of that side by its own code and by the lung's, as the SR."""
    if side not in _LUNGS:
        return concept(codes.LUNG, "Both lungs")
    lung = concept(_LUNGS[side])
    return lung | {"coding": [*lung["coding"], *concept(codes.LUNG)["coding"]]}
