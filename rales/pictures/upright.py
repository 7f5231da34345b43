"""The volume as the pictures show it, and the choice of slices for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chestct.findings import Lesion
from chestct.geometry import Geometry
from chestct.orientation import CanonicalView
from chestct.volume import LesionMap, Volume, is_lesion, slice_names

_LEAST_ZOOM_MM, _MOST_ZOOM_MM = 70.0, 200.0
_MARGIN = 1.6
"""A zoomed picture is so many times as wide as the lesion is long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upright:
    """HU and labels; rows run front to back, columns right to left, slices feet to head.

    Attributes:
        stored: The grid of the volume, on which lesions are measured.
        geometry: The grid of ``hu`` and ``labels``.
        names: The name of each slice, for captions.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    stored: Geometry
    geometry: Geometry
    names: tuple[str, ...]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (slice, row, column)."""
        return self.geometry.spacing


@dataclass(frozen=True, slots=True, kw_only=True)
class Zoom:
    """A square part of a slice around a lesion."""

    lesion: Lesion
    index: int
    rows: slice
    columns: slice


def upright(volume: Volume, lesion_map: LesionMap) -> Upright:
    """Return a volume in the orientation of the pictures; its voxels are views."""
    view = CanonicalView.of(volume.geometry)
    turned = view.volume(volume)
    return Upright(
        hu=turned.hu,
        labels=view.turn(lesion_map.labels),
        stored=volume.geometry,
        geometry=turned.geometry,
        names=slice_names(turned.sources),
    )


def choose_slices(labels: NDArray[np.uint8], wanted: int) -> list[int]:
    """Return slices from head to feet: over the lesions if there are any, else over the lungs."""
    inside = np.flatnonzero([is_lesion(plane).any() for plane in labels])
    if inside.size == 0:
        inside = np.flatnonzero([plane.any() for plane in labels])
    if inside.size == 0:
        inside = np.arange(labels.shape[0])
    places = np.linspace(inside.size - 1, 0, wanted + 2)[1:-1]
    return list(dict.fromkeys(int(inside[round(float(place))]) for place in places))


def zoom_on(lesion: Lesion, shown: Upright) -> Zoom:
    """Return the slice of the longest diameter of a lesion, and a square around that diameter."""
    index = lesion.diameter.slice_index
    ends = np.array([(index, *end) for end in lesion.diameter.long_axis], dtype=np.float64)
    places = shown.geometry.to_index(shown.stored.to_patient(ends))
    at, row, column = places.mean(axis=0)
    side = min(max(_MARGIN * lesion.diameter.long_axis_mm, _LEAST_ZOOM_MM), _MOST_ZOOM_MM)
    _, rows, columns = shown.labels.shape
    _, row_mm, column_mm = shown.spacing
    return Zoom(
        lesion=lesion,
        index=round(float(at)),
        rows=_around(float(row), side / row_mm, rows),
        columns=_around(float(column), side / column_mm, columns),
    )


def _around(centre: float, length: float, size: int) -> slice:
    """Return ``length`` pixels around ``centre``, moved and cut to lie on an axis."""
    wanted = min(max(1, round(length)), size)
    start = min(max(0, round(centre - wanted / 2)), size - wanted)
    return slice(start, start + wanted)
