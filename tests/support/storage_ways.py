"""The eight ways to store the axial slices of one patient, each with headers that say so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.geometry import Geometry, Vector
from chestct.volume import Volume


@dataclass(frozen=True, slots=True)
class Way:
    """How a canonical plane is stored; rows and columns are reversed before the exchange."""

    rows: bool
    columns: bool
    transposed: bool

    def __str__(self) -> str:
        """Return the name of the way for the name of a test."""
        words = {"rows": self.rows, "columns": self.columns, "transposed": self.transposed}
        return "-".join(word for word, chosen in words.items() if chosen) or "canonical"

    @property
    def slices(self) -> bool:
        """Whether slices run to the feet: the axes of a grid are right-handed."""
        return self.rows ^ self.columns ^ self.transposed

    def plane(self, plane: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a canonical plane (row, column) as it is stored."""
        turned = plane[:: -1 if self.rows else 1, :: -1 if self.columns else 1]
        return np.ascontiguousarray(turned.T if self.transposed else turned)

    def axes(self, row: Vector, column: Vector) -> tuple[Vector, Vector]:
        """Return the stored row and column cosines of canonical cosines."""
        along = _signed(row, reverse=self.columns)
        down = _signed(column, reverse=self.rows)
        return (down, along) if self.transposed else (along, down)


WAYS = tuple(Way(*flags) for flags in product((False, True), repeat=3))


def stored(volume: Volume, way: Way) -> Volume:
    """Return the same patient as the loader returns the series that is stored this way."""
    geometry = volume.geometry
    slices, rows, columns = geometry.shape
    planes = volume.hu[::-1] if way.slices else volume.hu
    hu = np.stack([way.plane(plane) for plane in planes])
    along, down = way.axes(geometry.row_cosines, geometry.column_cosines)
    high, wide = geometry.pixel_spacing
    corner = (
        (slices - 1.0) * way.slices,
        (rows - 1.0) * way.rows,
        (columns - 1.0) * way.columns,
    )
    grid = Geometry(
        shape=hu.shape,
        origin=geometry.position(corner),
        row_cosines=along,
        column_cosines=down,
        pixel_spacing=(wide, high) if way.transposed else (high, wide),
        slice_spacing=geometry.slice_spacing,
    )
    sources = volume.sources[::-1] if way.slices else volume.sources
    return replace(volume, hu=hu, geometry=grid, sources=sources)


def store(image: Dataset, way: Way) -> None:
    """Change a CT image with canonical axes to one of the same patient that is stored this way."""
    plane = way.plane(image.pixel_array)
    high, wide = map(float, image.PixelSpacing)
    x, y, z = map(float, image.ImagePositionPatient)
    x += (image.Columns - 1) * wide * way.columns
    y += (image.Rows - 1) * high * way.rows
    along, down = way.axes((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    image.ImagePositionPatient = [f"{value:.10g}" for value in (x, y, z)]
    image.ImageOrientationPatient = [f"{value:g}" for value in (*along, *down)]
    image.PixelSpacing = [wide, high] if way.transposed else [high, wide]
    image.Rows, image.Columns = plane.shape
    image.PixelData = plane.tobytes()
    image["PixelData"].VR = "OW"


def _signed(direction: Vector, *, reverse: bool) -> Vector:
    sign = -1.0 if reverse else 1.0
    return sign * direction[0], sign * direction[1], sign * direction[2]
