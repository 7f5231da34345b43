"""The part of the report on painted opacities: an operating curve for each kind of disease."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from training.metrics import HIT_SHARE
from training.report.markup import NOTHING, blocks, interval, number, percent, picture, table
from training.report.painted_summary import (
    VOLUMES_ML,
    KindSummary,
    PaintedSummary,
    Threshold,
    UntouchedSummary,
)
from training.report.statistics import Estimate

_KINDS = {
    "usual": "usual: ground-glass, crazy paving, consolidation; a quarter diffuse",
    "pleural": "pleural: one to four, mostly solid, at pleura or fissure",
    "nodules": "nodules: six to nineteen",
    "lobe": "lobe: consolidated",
    "lung": "lung: consolidated as a whole",
    "solid": "solid: one small consolidation",
}


def painted_section(summary: PaintedSummary | None, figures: Sequence[str]) -> str:
    """Return the section on painted opacities; empty without them."""
    if summary is None:
        return ""
    chests = ", ".join(f"{chest.chest} ({chest.part})" for chest in summary.untouched)
    return blocks(
        "## Kinds of disease: opacities painted into chests without lesions",
        f"Each scan is another breath, reconstruction and field of view of {chests}, which no "
        "network was trained on, with opacities of one kind painted into its lungs. **It can say** "
        "how small an opacity of each kind is found, and how many false alarms that costs. "
        "**It cannot say** how well disease is found: the same generator, with other seeds and in "
        "other chests, painted for the training, so real disease is harder. All scans are of "
        f"{len(summary.untouched)} chests, so the intervals (by scan) are too narrow. A scan is "
        f"found if its call is positive and at least {HIT_SHARE:.0%} of its opacities is marked, "
        "or if the analysis says that a lung is not assessable, as of a lung without air; such a "
        "scan has no Dice.",
        table([*_HEAD, "not assessable", "refused"], map(_found_row, summary.kinds)),
        "Mean lesion Dice by painted volume; a scan called negative has 0:",
        table(_HEAD, map(_dice_row, summary.kinds)),
        "Scans without opacities, of which every positive one is a false alarm, also where the "
        "label of the chest calls some density unknown:",
        table(_UNTOUCHED_HEAD, map(_untouched_row, summary.untouched)),
        "Part of the scans that the presence rule would not call negative with another volume "
        f"(the shipped one is {summary.rule_ml:g} ml), wherever the marked volume lies:",
        _thresholds(summary.thresholds),
        picture("painted-curves", "Operating curve of each kind of opacity", figures),
        picture("painted-missed", "Missed scans with 5 ml or more, the largest first", figures),
        picture("painted-false", "Marked in scans without opacities, most first", figures),
    )


def _bin_name(low: float, high: float) -> str:
    if not low:
        return f"< {high:g} ml"
    return f"≥ {low:g} ml" if high == float("inf") else f"{low:g}–{high:g} ml"  # noqa: RUF001


_HEAD = ("kind", "scans", "all", *(_bin_name(low, high) for low, high in pairwise(VOLUMES_ML)))


def _found_row(kind: KindSummary) -> list[str]:
    return [
        _KINDS.get(kind.kind, kind.kind),
        str(kind.scans),
        percent(kind.found),
        *(_share(part.found) for part in kind.bins),
        str(kind.not_assessable),
        str(kind.refused),
    ]


_UNTOUCHED_HEAD = ("chest", "part", "scans", "called positive", "the highest involvement")


def _untouched_row(chest: UntouchedSummary) -> list[str]:
    return [
        chest.chest,
        chest.part,
        str(chest.positive.count),
        percent(chest.positive),
        f"{chest.involved_most:.2f} %",
    ]


def _share(found: Estimate) -> str:
    """Return "3 of 4" with the interval in percent."""
    if found.mean is None or found.low is None or found.high is None:
        return NOTHING
    hits = round(found.mean * found.count)
    return f"{hits} of {found.count} [{found.low:.0%}, {found.high:.0%}]"


def _dice_row(kind: KindSummary) -> list[str]:
    cells = [kind.lesion_dice, *(part.lesion_dice for part in kind.bins)]
    return [kind.kind, str(kind.lesion_dice.count), *map(interval, cells)]


def _thresholds(thresholds: Sequence[Threshold]) -> str:
    kinds = list(thresholds[0].found)
    return table(
        ["volume ml", "false alarms", *kinds],
        [
            [
                number(threshold.volume_ml),
                percent(threshold.false_positive),
                *(percent(threshold.found[kind]) for kind in kinds),
            ]
            for threshold in thresholds
        ],
    )
