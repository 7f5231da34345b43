"""The canonical orientation of an axial volume, however its images are stored.

In canonical orientation the slice index grows towards the head of the patient, the row index
towards the back, and the column index towards the left (LPS). Image Orientation (Patient) alone
decides: Patient Position (0018,5100) describes the patient on the table and does not change it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from chestct.errors import GeometryError
from chestct.geometry import Geometry, Vector
from chestct.volume import LesionMap, Volume

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalView:
    """Turns the voxels of an axial grid to canonical orientation and back, without resampling.

    Attributes:
        stored: The grid in stored orientation.
        transposed: Whether the stored columns run from front to back, and the rows from side to
            side, as in images of a patient who lay on one side.
        flipped: Whether the slice, row and column index must be reversed, after the exchange of
            rows and columns.
    """

    stored: Geometry
    transposed: bool
    flipped: tuple[bool, bool, bool]

    @classmethod
    def of(cls, geometry: Geometry) -> Self:
        """Return the view whose axes are nearest to the canonical axes."""
        right, down = geometry.row_cosines, geometry.column_cosines
        transposed = abs(right[0]) < abs(right[1])
        columns, rows = (down, right) if transposed else (right, down)
        return cls(
            stored=geometry,
            transposed=transposed,
            flipped=(geometry.slice_cosines[2] < 0, rows[1] < 0, columns[0] < 0),
        )

    @property
    def is_stored(self) -> bool:
        """Whether the grid is stored in canonical orientation."""
        return not self.transposed and not any(self.flipped)

    @property
    def geometry(self) -> Geometry:
        """The grid in canonical orientation."""
        stored = self.stored
        slices, rows, columns = stored.shape
        row_spacing, column_spacing = stored.pixel_spacing
        along_row, along_column = stored.row_cosines, stored.column_cosines
        if self.transposed:
            rows, columns = columns, rows
            row_spacing, column_spacing = column_spacing, row_spacing
            along_row, along_column = along_column, along_row
        _, flip_rows, flip_columns = self.flipped
        return replace(
            stored,
            shape=(slices, rows, columns),
            origin=stored.position(self.stored_index((0.0, 0.0, 0.0))),
            row_cosines=_opposite(along_row) if flip_columns else along_row,
            column_cosines=_opposite(along_column) if flip_rows else along_column,
            pixel_spacing=(row_spacing, column_spacing),
        )

    def turn(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return stored voxels (slice, row, column) in canonical orientation, as a view."""
        exchanged = voxels.swapaxes(1, 2) if self.transposed else voxels
        return exchanged[self._steps]

    def turn_back(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return canonical voxels (slice, row, column) in stored orientation, as a view."""
        flipped = voxels[self._steps]
        return flipped.swapaxes(1, 2) if self.transposed else flipped

    def stored_index(self, index: Vector) -> Vector:
        """Return the stored (slice, row, column) index of a canonical index."""
        slices, rows, columns = self.stored.shape
        shape = (slices, columns, rows) if self.transposed else (slices, rows, columns)
        at, row, column = (
            count - 1 - place if flip else place
            for place, count, flip in zip(index, shape, self.flipped, strict=True)
        )
        return (at, column, row) if self.transposed else (at, row, column)

    def volume(self, volume: Volume) -> Volume:
        """Return a volume on the stored grid in canonical orientation."""
        return replace(
            volume,
            hu=self.turn(volume.hu),
            geometry=self.geometry,
            sources=volume.sources[self._steps[0]],
        )

    def lesion_map(self, lesion_map: LesionMap) -> LesionMap:
        """Return a label map on the stored grid in canonical orientation."""
        return LesionMap(labels=self.turn(lesion_map.labels), geometry=self.geometry)

    @property
    def _steps(self) -> tuple[slice, slice, slice]:
        slices, rows, columns = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return slices, rows, columns


def canonical(volume: Volume) -> Volume:
    """Return an axial volume in canonical orientation; its voxels are a view."""
    return CanonicalView.of(volume.geometry).volume(volume)


def require_canonical(geometry: Geometry) -> None:
    """Check that an axial grid is in canonical orientation.

    Raises:
        GeometryError: It is not.
    """
    if not CanonicalView.of(geometry).is_stored:
        raise GeometryError(
            f"rows run along {geometry.row_cosines} and columns along {geometry.column_cosines}: "
            "turn the volume to canonical orientation first (chestct.orientation.canonical)"
        )


def _opposite(cosines: Vector) -> Vector:
    return -cosines[0], -cosines[1], -cosines[2]
