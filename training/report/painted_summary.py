"""The figures of the report on painted opacities, computed from their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from training.metrics import HIT_SHARE
from training.readings.reading import Call
from training.report.records import UNTOUCHED, PaintedRecord
from training.report.statistics import Estimate, bootstrap, proportion

VOLUMES_ML = (0.0, 2.0, 5.0, 10.0, 30.0, 100.0, float("inf"))
"""Edges of the bins of painted volume."""
_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Thresholds of the table, over the shipped one."""
_ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeBin:
    """The scans of a kind whose painted volume is in one bin."""

    found: Estimate
    lesion_dice: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSummary:
    """The scans of one kind of opacity, or of all kinds.

    Attributes:
        found: Part of the scans that are found: positive with enough of the opacities marked, or
            with a lung that is not assessable.
        not_assessable, refused: Number of scans.
        bins: By painted volume, see :data:`VOLUMES_ML`.
    """

    kind: str
    scans: int
    found: Estimate
    lesion_dice: Estimate
    not_assessable: int
    refused: int
    bins: tuple[VolumeBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UntouchedSummary:
    """The untouched scans of one chest: each positive one is a false alarm."""

    chest: str
    part: str
    positive: Estimate
    involved_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What another volume of the presence rule would call positive; ``found`` is by kind."""

    volume_ml: float
    false_positive: Estimate
    found: dict[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintedSummary:
    """All painted and untouched scans.

    Attributes:
        kinds: By kind, then all kinds together.
        found_from_5_ml: Of the scans with at least 5 ml painted.
        dice_from_10_ml: Lesion Dice of the scans with at least 10 ml painted.
        rule_ml: Volume of the shipped presence rule.
    """

    kinds: tuple[KindSummary, ...]
    untouched: tuple[UntouchedSummary, ...]
    thresholds: tuple[Threshold, ...]
    found_from_5_ml: Estimate
    dice_from_10_ml: Estimate
    rule_ml: float


def painted_summary(scans: Sequence[PaintedRecord]) -> PaintedSummary:
    """Compute the figures of the painted opacities."""
    painted = [scan for scan in scans if scan.kind != UNTOUCHED]
    rule_ml = scans[0].rule_ml
    return PaintedSummary(
        kinds=(
            *(_kind(kind, own) for kind, own in by_kind(painted).items()),
            _kind(_ALL, painted),
        ),
        untouched=_untouched(scans),
        thresholds=tuple(_threshold(scans, factor * rule_ml) for factor in _FACTORS),
        found_from_5_ml=_found([scan for scan in painted if scan.painted_ml >= 5]),
        dice_from_10_ml=bootstrap([scan.lesion_dice for scan in painted if scan.painted_ml >= 10]),
        rule_ml=rule_ml,
    )


def by_kind(scans: Sequence[PaintedRecord]) -> dict[str, list[PaintedRecord]]:
    """Return the painted scans by kind, in their order."""
    kinds = dict.fromkeys(scan.kind for scan in scans if scan.kind != UNTOUCHED)
    return {kind: [scan for scan in scans if scan.kind == kind] for kind in kinds}


def found_at(scans: Sequence[PaintedRecord], volume_ml: float) -> Estimate:
    """Return the part of scans that a presence rule with this volume would not call negative.

    A lung that is not assessable does not depend on the rule: its scan counts at any volume.
    """
    found = [
        scan.call == Call.NOT_ASSESSABLE or (scan.reason is None and scan.certain_ml >= volume_ml)
        for scan in scans
    ]
    return proportion(sum(found), len(found))


def _kind(kind: str, scans: Sequence[PaintedRecord]) -> KindSummary:
    bins = [
        [scan for scan in scans if low <= scan.painted_ml < high]
        for low, high in pairwise(VOLUMES_ML)
    ]
    return KindSummary(
        kind=kind,
        scans=len(scans),
        found=_found(scans),
        lesion_dice=_dice(scans),
        not_assessable=sum(scan.call == Call.NOT_ASSESSABLE for scan in scans),
        refused=sum(scan.reason is not None for scan in scans),
        bins=tuple(VolumeBin(found=_found(own), lesion_dice=_dice(own)) for own in bins),
    )


def _found(scans: Sequence[PaintedRecord]) -> Estimate:
    return proportion(sum(map(is_found, scans)), len(scans))


def is_found(scan: PaintedRecord) -> bool:
    """Return whether the opacities of a scan are found, see :class:`KindSummary`."""
    if scan.call == Call.NOT_ASSESSABLE:
        return True
    return scan.call == Call.POSITIVE and (scan.marked_share or 0.0) >= HIT_SHARE


def _dice(scans: Sequence[PaintedRecord]) -> Estimate:
    return bootstrap([scan.lesion_dice for scan in scans])


def _untouched(scans: Sequence[PaintedRecord]) -> tuple[UntouchedSummary, ...]:
    untouched = [scan for scan in scans if scan.kind == UNTOUCHED]
    chests = dict.fromkeys((scan.chest, scan.part) for scan in untouched)
    summaries = []
    for chest, part in chests:
        own = [scan for scan in untouched if scan.chest == chest]
        summaries.append(
            UntouchedSummary(
                chest=chest,
                part=part,
                positive=proportion(sum(scan.call == Call.POSITIVE for scan in own), len(own)),
                involved_most=max(scan.involved_percent for scan in own),
            )
        )
    return tuple(summaries)


def _threshold(scans: Sequence[PaintedRecord], volume_ml: float) -> Threshold:
    untouched = [scan for scan in scans if scan.kind == UNTOUCHED]
    return Threshold(
        volume_ml=volume_ml,
        false_positive=found_at(untouched, volume_ml),
        found={kind: found_at(own, volume_ml) for kind, own in by_kind(scans).items()},
    )
