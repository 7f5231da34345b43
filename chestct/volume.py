"""A CT volume in Hounsfield units and the label map that the analysis draws on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from chestct.errors import GeometryError
from chestct.geometry import Geometry
from chestct.uids import Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSource:
    """The image that a slice of the volume was read from.

    ``frame_number`` counts from 1 in a multi-frame instance, which has ``frame_count`` frames;
    both are None otherwise. ``rescale`` are the slope and intercept from stored values to HU.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    frame_number: int | None = None
    frame_count: int | None = None
    rescale: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A chest CT on a regular grid.

    Attributes:
        hu: int16 Hounsfield units, axis order (slice, row, column); made read-only.
        geometry: The grid, LPS mm.
        sources: One per slice, in slice order.
        frame_of_reference_uid: Of the source series.
        thickness_mm: What the images say; None where they do not.
        notes: What a reader should know of how the volume was made.

    Raises:
        GeometryError: Array, grid and sources do not fit together.
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    sources: tuple[SliceSource, ...]
    series_uid: Uid
    frame_of_reference_uid: Uid
    thickness_mm: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.hu.dtype != np.int16:
            raise GeometryError(f"a volume holds int16, not {self.hu.dtype}")
        if self.hu.shape != self.geometry.shape:
            raise GeometryError(f"{self.hu.shape} voxels on a grid of {self.geometry.shape}")
        if len(self.sources) != self.geometry.shape[0]:
            raise GeometryError(f"{len(self.sources)} sources for {self.geometry.shape[0]} slices")
        self.hu.setflags(write=False)


class Label(IntEnum):
    """What a voxel is. Lesion voxels keep the lung they lie in, so that nothing overlaps."""

    BACKGROUND = 0
    LEFT_LUNG = 1
    RIGHT_LUNG = 2
    LEFT_LESION = 3
    RIGHT_LESION = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionMap:
    """The delineation of lungs and lesions on a volume's grid.

    Attributes:
        labels: uint8 values of :class:`Label`, axis order (slice, row, column), read-only.
        geometry: The grid of the volume that was analysed.

    Raises:
        GeometryError: The array is not on the grid or holds an unknown label.
    """

    labels: NDArray[np.uint8]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.labels.dtype != np.uint8 or self.labels.shape != self.geometry.shape:
            raise GeometryError(
                f"a label map is uint8 on {self.geometry.shape}, "
                f"not {self.labels.dtype} on {self.labels.shape}"
            )
        if self.labels.max() > max(Label):
            raise GeometryError("a label map holds an unknown label")
        self.labels.setflags(write=False)

    def left_lung(self) -> NDArray[np.bool_]:
        """Boolean mask of the left lung, its lesions included."""
        return np.isin(self.labels, (Label.LEFT_LUNG, Label.LEFT_LESION))

    def right_lung(self) -> NDArray[np.bool_]:
        """Boolean mask of the right lung, its lesions included."""
        return np.isin(self.labels, (Label.RIGHT_LUNG, Label.RIGHT_LESION))

    def lesion(self) -> NDArray[np.bool_]:
        """Boolean mask of all lesions."""
        return self.labels >= Label.LEFT_LESION
