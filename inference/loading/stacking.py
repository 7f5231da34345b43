"""Orders the slices of a series on one regular grid, or rejects them."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
)
from inference.loading.headers import SliceHeader
from inference.loading.rejections import naming_images
from inference.loading.spacing import SAME_PLACE_MM, even_grid
from inference.loading.uniformity import require_uniform

_UPRIGHT_DEGREES = 30.0
"""Largest turn of the image rows from an axis of the patient: the networks read upright images."""
_TILT_DEGREES = 0.5
_SPACING_DECIMALS = 6
"""Decimals of the slice spacing, mm. Positions are decimals that were rounded; without this, the
same slices stored another way would have another spacing, and 2 mm might be just more or less."""
_CUT = 1e-5
"""Relative error of the length of direction cosines that were cut to a few decimals."""


def stack(headers: Sequence[SliceHeader], maximum_spacing_mm: float) -> tuple[list[int], Geometry]:
    """Return the order of the slices and their grid.

    Raises:
        SeriesRejected: The slices differ in size or direction, do not lie evenly along
            their normal, or do not make a right-angled grid.
    """
    require_uniform(headers)
    normal = _normal(headers[0])
    places = [dot(header.position, normal) for header in headers]
    order = sorted(range(len(headers)), key=places.__getitem__)
    _require_right_angles([headers[index] for index in order], normal)
    written_in = sum(
        abs(part) * resolution([header.position[axis] for header in headers])
        for axis, part in enumerate(normal)
    )
    begin, spacing = even_grid([places[index] for index in order], written_in)
    if spacing > maximum_spacing_mm + SAME_PLACE_MM:
        raise SeriesRejected(
            RejectReason.TOO_THICK,
            f"the slices are {spacing:.1f} mm apart, at most {maximum_spacing_mm:g} mm is analysed",
        )
    lowest = headers[order[0]]
    row, column = _right_angled(_unit(lowest.row_cosines), _unit(lowest.column_cosines))
    try:
        geometry = Geometry(
            shape=(len(headers), lowest.rows, lowest.columns),
            origin=_moved(lowest.position, normal, begin - places[order[0]]),
            row_cosines=row,
            column_cosines=column,
            pixel_spacing=lowest.pixel_spacing,
            slice_spacing=round(spacing, _SPACING_DECIMALS),
        )
    except GeometryError as error:
        raise SeriesRejected(RejectReason.BAD_GEOMETRY, str(error)) from error
    _require_axial(geometry)
    return order, geometry


def _normal(header: SliceHeader) -> Vector:
    """Return the unit vector across the slice."""
    normal = cross(header.row_cosines, header.column_cosines)
    length = norm(normal)
    if length == 0:
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY,
            "Image Orientation (Patient) is not a pair of perpendicular unit vectors: rows and "
            f"columns run along {_shown(header.row_cosines)} and {_shown(header.column_cosines)}",
        )
    return normal[0] / length, normal[1] / length, normal[2] / length


def _shown(cosines: Vector) -> str:
    return "(" + ", ".join(f"{cosine:g}" for cosine in cosines) + ")"


def _require_axial(geometry: Geometry) -> None:
    if not geometry.is_axial():
        raise SeriesRejected(
            RejectReason.NOT_AXIAL,
            f"the slices are not axial: they lean by {_from_axis(geometry.slice_cosines[2]):.1f}"
            f" degrees, at most {AXIAL_DEGREES:g} are analysed",
        )
    along = max(map(abs, geometry.row_cosines[:2]))
    if along < math.cos(math.radians(_UPRIGHT_DEGREES)):
        raise SeriesRejected(
            RejectReason.NOT_AXIAL,
            "the image rows run neither from side to side nor from front to back of the patient: "
            f"they are turned by {_from_axis(along):.1f} degrees from both, at most "
            f"{_UPRIGHT_DEGREES:g} are analysed",
        )


def _from_axis(cosine: float) -> float:
    """Return the angle to an axis in degrees, by its cosine."""
    return math.degrees(math.acos(min(1.0, abs(cosine))))


def _require_right_angles(headers: Sequence[SliceHeader], normal: Vector) -> None:
    """Refuse slices that are shifted against each other within their own plane.

    A tilted gantry moves the table along the patient's axis while the slices lean. On such a
    sheared grid every overlay of a regular grid would be shifted. Gantry/Detector Tilt decides
    nothing: many scanners resample a tilted acquisition to a right-angled grid and keep it.
    """
    first = headers[0]
    shifts = [_shift(header.position, first.position, normal) for header in headers]
    if max(aside for aside, _ in shifts) <= max(first.pixel_spacing):
        return
    aside, along = shifts[-1]
    if aside <= math.tan(math.radians(_TILT_DEGREES)) * max(abs(along), 1.0):
        raise _shifted(headers, [aside for aside, _ in shifts])
    degrees = math.degrees(math.atan2(aside, abs(along)))
    tilt = f"; Gantry/Detector Tilt is {first.gantry_tilt:g}" if first.gantry_tilt else ""
    raise SeriesRejected(
        RejectReason.GANTRY_TILT,
        f"the {len(headers)} slices are sheared by {degrees:.1f} degrees, at most "
        f"{_TILT_DEGREES:g} are analysed{tilt}",
    )


def _shifted(headers: Sequence[SliceHeader], aside: Sequence[float]) -> SeriesRejected:
    """Return the refusal of single slices that lie beside the others, mm."""
    most = max(headers[0].pixel_spacing)
    worst = max(range(len(aside)), key=aside.__getitem__)
    message = (
        f"a slice is shifted sideways by {aside[worst]:.1f} mm, "
        f"at most a pixel ({most:g} mm) is analysed"
    )
    uid = headers[worst].source.sop_instance_uid
    count = sum(shift > most for shift in aside)
    return SeriesRejected(
        RejectReason.BAD_GEOMETRY, naming_images(count, len(headers), uid, message)
    )


def _shift(position: Vector, start: Vector, normal: Vector) -> tuple[float, float]:
    """Return how far ``position`` lies beside and along the normal through ``start``, mm."""
    offset = (position[0] - start[0], position[1] - start[1], position[2] - start[2])
    along = dot(offset, normal)
    return math.sqrt(max(0.0, dot(offset, offset) - along**2)), along


def _moved(position: Vector, unit: Vector, by: float) -> Vector:
    if by == 0:
        return position
    return (position[0] + by * unit[0], position[1] + by * unit[1], position[2] + by * unit[2])


def _unit(direction: Vector) -> Vector:
    """Return direction cosines with length 1 where they were cut to a few decimals.

    Readers of the results are stricter than Geometry. Exact cosines stay as they are written.
    """
    length = norm(direction)
    if not _CUT < abs(length - 1) <= UNIT_TOLERANCE:
        return direction
    return (direction[0] / length, direction[1] / length, direction[2] / length)


def _right_angled(row: Vector, column: Vector) -> tuple[Vector, Vector]:
    """Return perpendicular directions where cut decimals left them slightly askew."""
    askew = dot(row, column)
    if not _CUT < abs(askew) <= UNIT_TOLERANCE:
        return row, column
    return row, _unit(
        (column[0] - askew * row[0], column[1] - askew * row[1], column[2] - askew * row[2])
    )
