"""Findings as plain JSON types, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from chestct.findings import (
    Diameter,
    End,
    Extent,
    Findings,
    Lesion,
    Lung,
    LungMeasurement,
    NotAssessable,
    OpacityMeasurement,
    Side,
    Zone,
    ZoneMeasurement,
)
from chestct.method import Method, Presence

_FORMER_CUT, _FORMER_BOTH = "the lungs reach the ", "first and the last"
"""The quality flag of earlier versions, which names slices instead of ends."""


def findings_to_dict(findings: Findings) -> dict[str, Any]:
    """Return the findings as plain JSON types."""
    plain = asdict(findings)
    plain["outcome"] = str(findings.outcome)
    plain["indeterminate_reasons"] = findings.indeterminate_reasons
    plain["presence"]["positive"] = findings.presence.positive
    plain["covers"] = str(findings.covers)
    plain["left"], plain["right"] = lung_to_dict(findings.left), lung_to_dict(findings.right)
    return plain


def findings_from_dict(plain: Mapping[str, Any]) -> Findings:
    """Return the findings that :func:`findings_to_dict` wrote, in this version or an earlier one.

    Raises:
        TypeError, ValueError, KeyError: The keys or values are not those of findings.
    """
    presence = plain["presence"]
    extent = plain["extent"] if "extent" in plain else plain["severity"]  # the name until 2026
    return Findings(
        left=lung_from_dict(plain["left"]),
        right=lung_from_dict(plain["right"]),
        total=measurement_from_dict(plain["total"]) if plain["total"] else None,
        lesions=tuple(_lesion(lesion) for lesion in plain["lesions"]),
        presence=Presence(score=presence["score"], operating_point=presence["operating_point"]),
        extent=Extent(extent) if extent else None,
        method=Method(**plain["method"]),
        ground_glass=OpacityMeasurement(**plain["ground_glass"]),
        consolidation=OpacityMeasurement(**plain["consolidation"]),
        quality_flags=tuple(plain["quality_flags"]),
        cut=_cut(plain),
        higher_base=Side(plain["higher_base"]) if plain.get("higher_base") else None,
    )


def _cut(plain: Mapping[str, Any]) -> tuple[End, ...]:
    """Return the ends at which the scan cuts the lungs; earlier results have a flag instead."""
    if "cut" in plain:
        return tuple(End(end) for end in plain["cut"])
    flags = [flag for flag in plain["quality_flags"] if flag.startswith(_FORMER_CUT)]
    if not flags:
        return ()
    return (End.HEAD, End.FEET) if _FORMER_BOTH in flags[0] else (End.EITHER,)


def _lesion(plain: Mapping[str, Any]) -> Lesion:
    x, y, z = plain["centroid"]
    (start_row, start_column), (end_row, end_column) = plain["diameter"]["long_axis"]
    long_axis = ((start_row, start_column), (end_row, end_column))
    return Lesion(
        **{
            **plain,
            "side": Side(plain["side"]),
            "centroid": (x, y, z),
            "diameter": Diameter(**{**plain["diameter"], "long_axis": long_axis}),
        }
    )


def lung_to_dict(lung: Lung) -> dict[str, Any]:
    """Return plain JSON types; ``not_assessable`` gives the reason for a lung without numbers."""
    plain = asdict(lung)
    if isinstance(lung, NotAssessable):
        plain["not_assessable"] = lung.reason
    return plain


def lung_from_dict(plain: Mapping[str, Any]) -> Lung:
    """Return the lung that :func:`lung_to_dict` wrote.

    Raises:
        TypeError: The keys are not those of a lung.
    """
    if "not_assessable" in plain:
        return NotAssessable(aerated_ml=plain["aerated_ml"], needed_ml=plain["needed_ml"])
    return measurement_from_dict(plain)


def measurement_from_dict(plain: Mapping[str, Any]) -> LungMeasurement:
    """Return the measurement whose plain JSON types are given.

    Raises:
        TypeError: The keys are not those of a measurement.
    """
    zones = tuple(
        ZoneMeasurement(**{**zone, "zone": Zone(zone["zone"])}) for zone in plain.get("zones", ())
    )
    return LungMeasurement(**{**plain, "zones": zones, **_kinds_from_dict(plain)})


def _kinds_from_dict(plain: Mapping[str, Any]) -> dict[str, OpacityMeasurement]:
    """Return the two kinds of opacity of a lung.

    Earlier results state neither; their volumes follow from the share of consolidation.
    """
    dense_ml = plain["lesion_ml"] * plain["high_opacity_percent"] / 100
    volumes = {"ground_glass": plain["lesion_ml"] - dense_ml, "consolidation": dense_ml}
    return {
        kind: OpacityMeasurement(**plain.get(kind, {"volume_ml": volume_ml, "mean_hu": None}))
        for kind, volume_ml in volumes.items()
    }
