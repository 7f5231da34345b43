"""Slices to one regular grid, or a refusal that says what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from chestct.errors import GeometryError, RejectReason, SeriesRejected
from chestct.geometry import (
    AXIAL_DEGREES,
    UNIT_TOLERANCE,
    Geometry,
    Vector,
    cross,
    dot,
    norm,
    resolution,
    usual_step,
)
from inference.loading.blame import about
from inference.loading.headers import SliceHeader

_SAME_DIRECTION = 2e-3
_SAME_SPACING = 1e-3
_UNEVEN = 0.1
"""Part of the usual step by which a step may differ: scanners round positions."""
_OF_ROUNDING = 0.75
"""Of what positions are rounded to: so far may one lie beside the grid (a half, and the fit's)."""
_DRIFT = 0.25
"""Part of the spacing by which a slice may lie beside its place on the even grid."""
_SAME_PLACE_MM = 0.01
_UPRIGHT_DEGREES = 30.0
"""Rows may be turned so far: networks expect the back below, a decubitus image lies on its side."""
_TILT_DEGREES = 0.5
_SHOWN = 8
_CUT = 1e-5
"""Part of their length by which direction cosines are off that were cut to a few decimals."""


def stack(headers: Sequence[SliceHeader], maximum_spacing_mm: float) -> tuple[list[int], Geometry]:
    """Return the order of the slices and the grid that they make.

    Raises:
        SeriesRejected: The slices differ in size or direction, do not lie evenly along
            their normal, or do not make a right-angled grid.
    """
    first = headers[0]
    _require_alike(headers)
    normal = cross(first.row_cosines, first.column_cosines)
    length = norm(normal)
    if length == 0:
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY,
            "the slice directions are degenerate: rows and columns run along"
            f" {_vector(first.row_cosines)} and {_vector(first.column_cosines)}",
        )
    unit = (normal[0] / length, normal[1] / length, normal[2] / length)
    places = [dot(header.position, unit) for header in headers]
    order = sorted(range(len(headers)), key=places.__getitem__)
    _require_right_angles(headers, order, unit)
    written_in = sum(
        abs(part) * resolution([header.position[axis] for header in headers])
        for axis, part in enumerate(unit)
    )
    begin, spacing = _even_grid([places[index] for index in order], written_in)
    if spacing > maximum_spacing_mm + _SAME_PLACE_MM:
        raise SeriesRejected(
            RejectReason.TOO_THICK,
            f"the slices are {spacing:.1f} mm apart, at most {maximum_spacing_mm:g} mm is analysed",
        )
    lowest = headers[order[0]]
    row, column = _right_angled(_unit(lowest.row_cosines), _unit(lowest.column_cosines))
    try:
        geometry = Geometry(
            shape=(len(headers), lowest.rows, lowest.columns),
            origin=_moved(lowest.position, unit, begin - places[order[0]]),
            row_cosines=row,
            column_cosines=column,
            pixel_spacing=lowest.pixel_spacing,
            slice_spacing=spacing,
        )
    except GeometryError as error:
        raise SeriesRejected(RejectReason.BAD_GEOMETRY, str(error)) from error
    if not geometry.is_axial():
        raise SeriesRejected(
            RejectReason.NOT_AXIAL,
            f"the slices are not axial: they lean by {_from_axis(geometry.slice_cosines[2]):.1f}"
            f" degrees, at most {AXIAL_DEGREES:g} are analysed",
        )
    if abs(lowest.row_cosines[0]) < math.cos(math.radians(_UPRIGHT_DEGREES)):
        raise SeriesRejected(
            RejectReason.NOT_AXIAL,
            "the image rows do not run from one side of the patient to the other: they are turned"
            f" by {_from_axis(lowest.row_cosines[0]):.1f} degrees, at most {_UPRIGHT_DEGREES:g}"
            " are analysed",
        )
    return order, geometry


def _vector(cosines: Vector) -> str:
    return "(" + ", ".join(f"{one:g}" for one in cosines) + ")"


def _from_axis(cosine: float) -> float:
    """Return the angle to an axis in degrees, by its cosine."""
    return math.degrees(math.acos(min(1.0, abs(cosine))))


def _require_alike(headers: Sequence[SliceHeader]) -> None:
    """Refuse slices that differ from most of the others, and name the first of them."""
    checks: tuple[Callable[[SliceHeader, SliceHeader], str], ...] = (
        _other_size,
        _other_direction,
        _other_spacing,
    )
    for differs in checks:
        usual = headers[0]
        odd = [one for one in headers if differs(usual, one)]
        if 2 * len(odd) > len(headers):
            usual = odd[0]
            odd = [one for one in headers if differs(usual, one)]
        if odd:
            uid, message = odd[0].source.sop_instance_uid, differs(usual, odd[0])
            raise SeriesRejected(
                RejectReason.MIXED_GEOMETRY, about(len(odd), len(headers), uid, message)
            )


def _other_size(usual: SliceHeader, other: SliceHeader) -> str:
    if (other.rows, other.columns) == (usual.rows, usual.columns):
        return ""
    return (
        f"slices of {usual.rows}x{usual.columns} and {other.rows}x{other.columns} pixels, "
        "this one of the latter"
    )


def _other_direction(usual: SliceHeader, other: SliceHeader) -> str:
    pairs = (
        (usual.row_cosines, other.row_cosines),
        (usual.column_cosines, other.column_cosines),
    )
    turned = max(abs(a - b) for one, two in pairs for a, b in zip(one, two, strict=True))
    if turned <= _SAME_DIRECTION:
        return ""
    degrees = max(_angle(one, two) for one, two in pairs)
    return f"slices in different directions, this one is turned by {degrees:.1f} degrees"


def _angle(one: Vector, two: Vector) -> float:
    length = norm(one) * norm(two)
    cosine = dot(one, two) / length if length else 1.0
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _other_spacing(usual: SliceHeader, other: SliceHeader) -> str:
    pairs = zip(usual.pixel_spacing, other.pixel_spacing, strict=True)
    if max(abs(a - b) for a, b in pairs) <= _SAME_SPACING:
        return ""
    first, second = (
        f"{one.pixel_spacing[0]:g} x {one.pixel_spacing[1]:g} mm" for one in (usual, other)
    )
    return f"slices of different Pixel Spacing, {first} and this one {second}"


def _require_right_angles(
    headers: Sequence[SliceHeader], order: Sequence[int], normal: Vector
) -> None:
    """Refuse slices that are shifted against each other along their own plane.

    A tilted gantry moves the table along the patient's axis while the slices lean; on such
    a sheared grid every overlay of a regular grid would be shifted. The tilt in the header
    decides nothing: many scanners resample a tilted acquisition to a right-angled grid.
    """
    first = headers[order[0]]
    shifts = [_shift(headers[index].position, first.position, normal) for index in order]
    most = max(first.pixel_spacing)
    if max(aside for aside, _ in shifts) <= most:
        return
    aside, along = shifts[-1]
    if aside <= math.tan(math.radians(_TILT_DEGREES)) * max(abs(along), 1.0):
        worst = max(range(len(shifts)), key=lambda place: shifts[place][0])
        shifted = sum(shift > most for shift, _ in shifts)
        uid = headers[order[worst]].source.sop_instance_uid
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY,
            about(
                shifted,
                len(order),
                uid,
                f"slice {worst + 1} of {len(order)} is shifted sideways by"
                f" {shifts[worst][0]:.1f} mm, at most a pixel ({most:g} mm) is analysed",
            ),
        )
    degrees = math.degrees(math.atan2(aside, abs(along)))
    stated = first.gantry_tilt
    said = f"; Gantry/Detector Tilt says {stated:g}" if stated else ""
    raise SeriesRejected(
        RejectReason.GANTRY_TILT,
        f"the {len(order)} slices are sheared by {degrees:.1f} degrees, at most {_TILT_DEGREES:g}"
        f" are analysed{said}",
    )


def _shift(position: Vector, start: Vector, normal: Vector) -> tuple[float, float]:
    """Return how far ``position`` lies aside of and along the normal through ``start``, mm."""
    offset = (position[0] - start[0], position[1] - start[1], position[2] - start[2])
    along = dot(offset, normal)
    return math.sqrt(max(0.0, dot(offset, offset) - along**2)), along


def _moved(position: Vector, unit: Vector, by: float) -> Vector:
    if by == 0:
        return position
    return (position[0] + by * unit[0], position[1] + by * unit[1], position[2] + by * unit[2])


def _unit(direction: Vector) -> Vector:
    """Return direction cosines of the length 1 where they were cut to a few decimals.

    What reads results is stricter than Geometry is. What is exact enough stays as it was written.
    """
    length = norm(direction)
    if not _CUT < abs(length - 1) <= UNIT_TOLERANCE:
        return direction
    return (direction[0] / length, direction[1] / length, direction[2] / length)


def _right_angled(row: Vector, column: Vector) -> tuple[Vector, Vector]:
    """Return the directions at right angles where the decimals that were cut left them askew."""
    askew = dot(row, column)
    if not _CUT < abs(askew) <= UNIT_TOLERANCE:
        return row, column
    return row, _unit(
        (column[0] - askew * row[0], column[1] - askew * row[1], column[2] - askew * row[2])
    )


def _even_grid(places: Sequence[float], written_in: float) -> tuple[float, float]:
    """Return where the slices begin and their distance in mm; ``places`` ascend.

    Args:
        places: Along the normal, mm.
        written_in: What these are multiples of, because they were rounded; 0 where they were not.
    """
    steps = [after - before for before, after in pairwise(places)]
    if not steps:
        raise SeriesRejected(RejectReason.TOO_FEW_SLICES, "a single slice has no spacing")
    usual, allowed = usual_step(steps, written_in)
    same = [place for place, step in zip(places, steps, strict=False) if step < _SAME_PLACE_MM]
    if same:
        raise SeriesRejected(
            RejectReason.DUPLICATE_POSITIONS,
            f"{_count(len(same), 'slice lies', 'slices lie')} where another one does, "
            f"the first at {same[0]:.1f} mm",
        )
    odd = [
        (place, step)
        for place, step in zip(places, steps, strict=False)
        if abs(step - usual) > allowed
    ]
    if odd:
        _refuse_uneven(odd, usual, allowed, len(steps))
    begin, spacing = places[0], (places[-1] - places[0]) / len(steps)
    most = max(_DRIFT * spacing, _SAME_PLACE_MM)
    if max(abs(step - usual) for step in steps) > max(_UNEVEN * usual, _SAME_PLACE_MM):
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


def _fitted(places: Sequence[float]) -> tuple[float, float]:
    """Return the begin and the step of the even grid that lies nearest, by least squares."""
    middle, mean = (len(places) - 1) / 2, sum(places) / len(places)
    covariance = sum((number - middle) * (place - mean) for number, place in enumerate(places))
    step = covariance / sum((number - middle) ** 2 for number in range(len(places)))
    return mean - step * middle, step


def _refuse_uneven(
    odd: Sequence[tuple[float, float]], usual: float, allowed: float, steps: int
) -> None:
    """Name the missing positions where whole slices are missing, else the two distances."""
    multiples = [step / usual for _, step in odd]
    whole = all(
        round(multiple) > 1 and abs(multiple - round(multiple)) <= _UNEVEN * 2
        for multiple in multiples
    )
    if not whole:
        place, step = odd[0]
        raise SeriesRejected(
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
    raise SeriesRejected(
        RejectReason.MISSING_SLICES,
        f"{_count(len(missing), 'slice is', 'slices are')} missing, at {named}{more} mm",
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
