"""A CT volume in Hounsfield units and its label map of lungs and lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from chestct.errors import GeometryError
from chestct.findings import Side
from chestct.geometry import Geometry
from chestct.uids import Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSource:
    """The image or frame that holds one slice of the volume.

    ``frame_number`` counts from 1; ``frame_count`` is the number of frames of the instance. Both
    are None for a single-frame image. ``rescale`` is (slope, intercept) from stored values to HU.
    ``instance_number`` is None where the image has none.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    frame_number: int | None = None
    frame_count: int | None = None
    rescale: tuple[float, float] | None = None
    instance_number: int | None = None


def slice_names(sources: Sequence[SliceSource]) -> tuple[str, ...]:
    """Return the name of each slice by which a person finds it in a viewer.

    This is the Instance Number, and the frame number in a multi-frame image. Slices whose numbers
    are missing or not unique are counted in the order of ``sources``, from the feet.
    """
    names = tuple(map(_name, sources))
    if len({source.sop_instance_uid for source in sources}) == 1 and len(sources) > 1:
        names = tuple(f"frame {source.frame_number}" for source in sources)
    if "" in names or len(set(names)) < len(names):
        return tuple(f"slice {k} of {len(names)} from the feet" for k in range(1, len(names) + 1))
    return names


def _name(source: SliceSource) -> str:
    """Return the name of a slice among several images; empty without an Instance Number."""
    if source.instance_number is None:
        return ""
    frame = "" if source.frame_number is None else f", frame {source.frame_number}"
    return f"image {source.instance_number}{frame}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A chest CT on a regular grid.

    Attributes:
        hu: int16 Hounsfield units, axis order (slice, row, column); made read-only.
        geometry: The grid, LPS mm.
        sources: One per slice, in slice order.
        frame_of_reference_uid: That of the source series.
        thickness_mm: Slice Thickness; None when the images lack it.
        notes: Remarks on the loading of the volume for the reader of the report.

    Raises:
        GeometryError: The array, the grid and the sources differ in size or type.
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
            raise GeometryError(f"the voxels of a volume are {self.hu.dtype}, not int16")
        if self.hu.shape != self.geometry.shape:
            raise GeometryError(
                f"{self.hu.shape} voxels do not fit a grid of {self.geometry.shape}"
            )
        if len(self.sources) != self.geometry.shape[0]:
            slices = self.geometry.shape[0]
            raise GeometryError(f"{len(self.sources)} source images do not match {slices} slices")
        self.hu.setflags(write=False)


class Label(IntEnum):
    """The label of a voxel. Each label names a lung, so that labels never overlap.

    Labels of the left lung are odd, labels of the right lung are even.
    """

    BACKGROUND = 0
    LEFT_LUNG = 1
    RIGHT_LUNG = 2
    LEFT_GROUND_GLASS = 3
    RIGHT_GROUND_GLASS = 4
    LEFT_CONSOLIDATION = 5
    RIGHT_CONSOLIDATION = 6


LEFT_LABELS = (Label.LEFT_LUNG, Label.LEFT_GROUND_GLASS, Label.LEFT_CONSOLIDATION)
RIGHT_LABELS = (Label.RIGHT_LUNG, Label.RIGHT_GROUND_GLASS, Label.RIGHT_CONSOLIDATION)
LABELS_OF = {Side.LEFT: LEFT_LABELS, Side.RIGHT: RIGHT_LABELS}
"""The labels of each lung, its lesions included."""

LESION_LABELS = (
    Label.LEFT_GROUND_GLASS,
    Label.RIGHT_GROUND_GLASS,
    Label.LEFT_CONSOLIDATION,
    Label.RIGHT_CONSOLIDATION,
)


def in_lung(labels: NDArray[np.uint8], side: Side) -> NDArray[np.bool_]:
    """Return where labels are of one lung, its lesions included."""
    odd = (labels & 1).view(np.bool_)
    return odd if side is Side.LEFT else (labels > Label.BACKGROUND) & ~odd


def is_lesion(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where labels are an opacity of either kind."""
    return labels >= Label.LEFT_GROUND_GLASS


def is_consolidation(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where labels are consolidation."""
    return labels >= Label.LEFT_CONSOLIDATION


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionMap:
    """The label map of lungs and lesions on the grid of a volume.

    Attributes:
        labels: uint8 values of :class:`Label`, axis order (slice, row, column), read-only.
        geometry: The grid of the volume that was analysed.

    Raises:
        GeometryError: The array does not fit the grid or holds an unknown label.
    """

    labels: NDArray[np.uint8]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.labels.dtype != np.uint8 or self.labels.shape != self.geometry.shape:
            raise GeometryError(
                f"a label map on this grid is uint8 {self.geometry.shape}, "
                f"not {self.labels.dtype} {self.labels.shape}"
            )
        if self.labels.max() > max(Label):
            raise GeometryError(f"the label map holds the unknown label {self.labels.max()}")
        self.labels.setflags(write=False)

    def left_lung(self) -> NDArray[np.bool_]:
        """Boolean mask of the left lung, its lesions included."""
        return in_lung(self.labels, Side.LEFT)

    def right_lung(self) -> NDArray[np.bool_]:
        """Boolean mask of the right lung, its lesions included."""
        return in_lung(self.labels, Side.RIGHT)

    def lesion(self) -> NDArray[np.bool_]:
        """Boolean mask of all lesions."""
        return is_lesion(self.labels)
