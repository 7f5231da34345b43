"""Counts at the destination what was lost, what is half, and what came twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from moody_pacs import Kept

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A series as it was sent.

    ``revised``: its last images came when a result could be there already, so that there may be
    results of a part too, which that of the whole replaces.
    """

    uid: str
    images: frozenset[str]
    revised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How many results are wrong, and of which series."""

    lost: int
    half: int
    double: int
    replaced: int
    series: tuple[str, ...]


def judge(sent: Sequence[Sent], kept: Collection[Kept]) -> Verdict:
    """Compare what was sent with what is at the destination.

    Each series has one SEG and one SR of all its images. Another one of them is a double; one of
    other images is half, unless the series was revised and a whole report replaces it.
    """
    of_series: dict[str, list[Kept]] = {one.uid: [] for one in sent}
    strangers = [one.uid for one in kept if one.series not in of_series]
    for one in kept:
        of_series.get(one.series, []).append(one)
    lost, double, half, replaced = 0, 0, len(strangers), 0
    wrong: list[str] = list(strangers)
    for series in sent:
        found = of_series[series.uid]
        whole = [one for one in found if one.images == series.images]
        parts = [one for one in found if one.images != series.images]
        counts = [sum(one.kind == kind for one in whole) for kind in ("SEG", "SR")]
        lost += sum(count == 0 for count in counts)
        double += sum(max(0, count - 1) for count in counts)
        named = {uid for one in found for uid in one.predecessors}
        astray = [one for one in parts if one.kind == "SR" and one.uid not in named]
        if series.revised and not astray:
            replaced += len(parts)
        else:
            half += len(parts)
        if counts != [1, 1] or (parts and not (series.revised and not astray)):
            wrong.append(series.uid)
    return Verdict(lost=lost, half=half, double=double, replaced=replaced, series=tuple(wrong))


def longest_silence(arrivals: Sequence[datetime], up: Sequence[Span]) -> float:
    """Return for how many seconds at the most a listening node heard nothing between two images.

    A node that was down counts no silence, and begins anew when it is up.
    """
    return max(
        (
            (min(after, end) - max(before, start)).total_seconds()
            for before, after in pairwise(sorted(arrivals))
            for start, end in up
        ),
        default=0.0,
    )
