"""Finds the even spacing of a stack of slices, or refuses gaps, duplicates and drift."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import usual_step

_UNEVEN = 0.1
"""Part of the usual step by which a step may differ: scanners round positions."""
_OF_ROUNDING = 1.0
"""A slice may lie off the grid by this part of the rounding: a half, and the error of the fit. That
error nears a half where the rounding turns once within the stack."""
_DRIFT = 0.25
"""Part of the spacing by which a slice may lie off its place on the even grid."""
SAME_PLACE_MM = 0.01
"""Slices closer than this lie at the same position."""
_SHOWN = 8
"""Positions of missing slices that a refusal lists."""


def even_grid(places: Sequence[float], written_in: float) -> tuple[float, float]:
    """Return where the slices begin and their spacing in mm; ``places`` ascend.

    Args:
        places: Positions along the normal, mm.
        written_in: The decimal to which the positions were rounded; 0 if they were not.

    Raises:
        SeriesRejected: The slices do not lie evenly.
    """
    steps = [after - before for before, after in pairwise(places)]
    if not steps:
        raise SeriesRejected(
            RejectReason.TOO_FEW_SLICES, "the series has a single slice, so no slice spacing"
        )
    usual, allowed = usual_step(steps, written_in)
    _require_even_steps(places, steps, usual, allowed)
    begin, spacing = places[0], (places[-1] - places[0]) / len(steps)
    most = max(_DRIFT * spacing, SAME_PLACE_MM)
    if max(abs(step - usual) for step in steps) > max(_UNEVEN * usual, SAME_PLACE_MM):
        begin, spacing = _fitted(places)
        most = _OF_ROUNDING * written_in
    drift = max(abs(place - begin - number * spacing) for number, place in enumerate(places))
    if drift > most:
        raise SeriesRejected(
            RejectReason.VARIABLE_SPACING,
            f"the slices are {min(steps):.2f} to {max(steps):.2f} mm apart and drift "
            f"{drift:.1f} mm from an even grid, at most {most:.1f} mm is analysed",
        )
    return begin, spacing


def _require_even_steps(
    places: Sequence[float], steps: Sequence[float], usual: float, allowed: float
) -> None:
    placed = list(zip(places, steps, strict=False))
    same = [place for place, step in placed if step < SAME_PLACE_MM]
    if same:
        raise SeriesRejected(
            RejectReason.DUPLICATE_POSITIONS,
            f"{_count(len(same), 'slice lies', 'slices lie')} at the position of another slice, "
            f"the first at {same[0]:.1f} mm",
        )
    odd = [(place, step) for place, step in placed if abs(step - usual) > allowed]
    if odd:
        raise _uneven(odd, usual, allowed, len(steps))


def _fitted(places: Sequence[float]) -> tuple[float, float]:
    """Return the begin and the step of the nearest even grid, by least squares."""
    middle, mean = (len(places) - 1) / 2, sum(places) / len(places)
    covariance = sum((number - middle) * (place - mean) for number, place in enumerate(places))
    step = covariance / sum((number - middle) ** 2 for number in range(len(places)))
    return mean - step * middle, step


def _uneven(
    odd: Sequence[tuple[float, float]], usual: float, allowed: float, steps: int
) -> SeriesRejected:
    """Name the missing positions where whole slices are missing, else the two distances."""
    multiples = [step / usual for _, step in odd]
    whole = all(
        round(multiple) > 1 and abs(multiple - round(multiple)) <= _UNEVEN * 2
        for multiple in multiples
    )
    if not whole:
        place, step = odd[0]
        return SeriesRejected(
            RejectReason.VARIABLE_SPACING,
            f"the slices are {usual:.2f} mm apart, but {step:.2f} mm after {place:.1f} mm:"
            f" {len(odd)} of {steps} distances differ by more than {allowed:.2f} mm",
        )
    missing = [
        place + usual * number
        for (place, _), multiple in zip(odd, multiples, strict=True)
        for number in range(1, round(multiple))
    ]
    named = ", ".join(f"{place:.1f}" for place in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return SeriesRejected(
        RejectReason.MISSING_SLICES,
        f"{_count(len(missing), 'slice is', 'slices are')} missing, at {named}{more} mm",
    )


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"
