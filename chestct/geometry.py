"""The voxel grid of a volume in the patient (LPS, millimetres)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chestct.errors import GeometryError

Vector = tuple[float, float, float]

AXIAL_DEGREES = 5.0
"""Largest angle between an axial slice and the transverse plane."""
_DECIMALS = (1.0, 0.1, 0.01, 0.001)
_SAME_DECIMAL = 1e-3
_UNEVEN = 0.1
"""Part of the usual step by which a step may differ, since scanners round positions."""
_UNEVEN_DECIMALS = 1 / _UNEVEN
_MOST_ROUNDING = 0.4
"""Part of the usual step that rounding may explain; a missing slice adds a whole step."""
_SAME_PLACE_MM = 0.01
UNIT_TOLERANCE = 1e-3
"""Tolerance for direction cosines: headers hold few decimals (PS3.5 DS: 16 characters)."""


def dot(a: Vector, b: Vector) -> float:
    """Return the scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """Return the vector product."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def norm(a: Vector) -> float:
    """Return the Euclidean length."""
    return math.sqrt(dot(a, a))


def resolution(values: Sequence[float]) -> float:
    """Return the step to which all ``values`` are rounded, such as 0.1; 0.0 for a finer step.

    Some scanners and archives round positions to tenths of a millimetre.
    """
    return next(
        (step for step in _DECIMALS if all(_is_multiple(value / step) for value in values)),
        0.0,
    )


def _is_multiple(quotient: float) -> bool:
    return math.isfinite(quotient) and abs(quotient - round(quotient)) < _SAME_DECIMAL


def usual_step(steps: Sequence[float], rounding: float) -> tuple[float, float]:
    """Return the usual distance between slices, and the tolerance for a single distance.

    Each distance is the difference of two rounded positions, so that it may deviate by their
    rounding. The tolerance stays small enough to detect a missing slice.

    Args:
        steps: Distances between neighbouring slices in mm; at least one.
        rounding: The :func:`resolution` of the positions in mm.
    """
    median = sorted(steps)[len(steps) // 2]
    allowed = _allowed(median, rounding)
    near = [step for step in steps if abs(step - median) <= allowed]
    usual = sum(near) / len(near) if rounding * _UNEVEN_DECIMALS > median else median
    return usual, _allowed(usual, rounding)


def _allowed(usual: float, rounding: float) -> float:
    explained = min(rounding, _MOST_ROUNDING * usual) * (1 + _SAME_DECIMAL)
    return max(_UNEVEN * usual, explained, _SAME_PLACE_MM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A regular grid of voxels, axis order (slice, row, column).

    Attributes:
        shape: Number of slices, rows and columns.
        origin: Centre of voxel (0, 0, 0): Image Position (Patient) of the first slice, LPS mm.
        row_cosines: Unit vector in which the *column index* grows: the first three values
            of Image Orientation (Patient) (PS3.3 C.7.6.2.1.1).
        column_cosines: Unit vector in which the *row index* grows: the last three values.
        pixel_spacing: Distance between rows, then between columns, in mm (Pixel Spacing).
        slice_spacing: Distance between slice centres in mm. Slices are ordered so that
            the slice index grows along ``cross(row_cosines, column_cosines)``.

    Raises:
        GeometryError: The grid is not right-angled, positive and finite.
    """

    shape: tuple[int, int, int]
    origin: Vector
    row_cosines: Vector
    column_cosines: Vector
    pixel_spacing: tuple[float, float]
    slice_spacing: float

    def __post_init__(self) -> None:
        numbers = (
            *self.origin,
            *self.row_cosines,
            *self.column_cosines,
            *self.pixel_spacing,
            self.slice_spacing,
        )
        if not all(math.isfinite(number) for number in numbers):
            raise GeometryError("a position, direction cosine or spacing is not a finite number")
        if min(self.shape) < 1:
            raise GeometryError(f"the grid of {self.shape} voxels is empty")
        if min(*self.pixel_spacing, self.slice_spacing) <= 0:
            raise GeometryError(f"the voxel spacing {self.spacing} mm is not positive")
        for name, cosines in (("row", self.row_cosines), ("column", self.column_cosines)):
            if abs(norm(cosines) - 1) > UNIT_TOLERANCE:
                raise GeometryError(
                    f"the {name} direction cosines are not a unit vector: their length is "
                    f"{norm(cosines):.4g}, not 1 within {UNIT_TOLERANCE:g}"
                )
        if abs(dot(self.row_cosines, self.column_cosines)) > UNIT_TOLERANCE:
            raise GeometryError("the row and column directions are not perpendicular")

    @property
    def slice_cosines(self) -> Vector:
        """Unit vector in which the slice index grows."""
        normal = cross(self.row_cosines, self.column_cosines)
        length = norm(normal)
        return (normal[0] / length, normal[1] / length, normal[2] / length)

    @property
    def spacing(self) -> Vector:
        """Voxel size in mm along (slice, row, column)."""
        return (self.slice_spacing, *self.pixel_spacing)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return math.prod(self.spacing) / 1000.0

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4 matrix from homogeneous (slice, row, column) indices to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, 0] = np.multiply(self.slice_cosines, self.slice_spacing)
        matrix[:3, 1] = np.multiply(self.column_cosines, self.pixel_spacing[0])
        matrix[:3, 2] = np.multiply(self.row_cosines, self.pixel_spacing[1])
        matrix[:3, 3] = self.origin
        return matrix

    def to_patient(self, indices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, 3) indices in (slice, row, column) order to (n, 3) LPS mm."""
        affine = self.affine
        mapped: NDArray[np.float64] = indices @ affine[:3, :3].T + affine[:3, 3]
        return mapped

    def to_index(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, 3) LPS mm to (n, 3) fractional (slice, row, column) indices."""
        affine = self.affine
        offsets = (points - affine[:3, 3]).T
        return np.linalg.solve(affine[:3, :3], offsets).T.astype(np.float64)

    def position(self, index: Vector) -> Vector:
        """Return the LPS position, mm, of a fractional (slice, row, column) index."""
        x, y, z = self.to_patient(np.array([index]))[0].tolist()
        return x, y, z

    def slice_position(self, index: int) -> Vector:
        """Image Position (Patient) of slice ``index``, LPS mm."""
        step = self.slice_spacing * index
        normal = self.slice_cosines
        return (
            self.origin[0] + step * normal[0],
            self.origin[1] + step * normal[1],
            self.origin[2] + step * normal[2],
        )

    def is_axial(self, tolerance_degrees: float = AXIAL_DEGREES) -> bool:
        """Return whether the slices are perpendicular to the head-foot axis."""
        return abs(self.slice_cosines[2]) >= math.cos(math.radians(tolerance_degrees))
