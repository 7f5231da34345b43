"""The grid on which a volume is read: the patient alone, in voxels of one size.

Scanners choose the field of view, the matrix and the slice spacing; the networks and the anatomy
checks must not depend on them. So both read the body, cut out of room air and table, in pixels of
1.35 mm and slabs of about 3 mm. Volume and frame are in canonical orientation
(:mod:`chestct.orientation`). The result is restored on the grid of the volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.geometry import Geometry
from chestct.orientation import require_canonical
from chestct.volume import Label, Volume
from inference.loading.pixels import AIR_HU
from inference.networks.preprocess import STEP
from inference.ports import Box
from inference.reading.body import body_of
from inference.reading.postprocess import box_of

PIXEL_MM = 1.35
"""Pixel size of the slices that the networks learned from, about: 256 pixels of 345 mm."""
SLAB_MM = 3.0
"""Thinner slices are averaged to slabs of about this thickness: it lowers their noise."""
_MARGIN = 4
"""Air around the body in pixels."""
_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A volume, cut to the body and resampled.

    Attributes:
        volume: The frame: HU (slab, row, column); ``AIR_HU`` outside the body.
        body: bool, likewise: the patient, lungs included.
        source: The grid of the volume that was cut.
        slab: Number of slices of the source in a slab.
        scaled: Rows and columns of a plane of the source at the frame's pixel size.
        corner: Row and column of the frame's first pixel in the scaled plane.
    """

    volume: Volume
    body: NDArray[np.bool_]
    source: Geometry
    slab: int
    scaled: tuple[int, int]
    corner: tuple[int, int]

    @classmethod
    def of(cls, volume: Volume) -> Self:
        """Cut the body out of a volume; without a body the frame is the whole volume, as air.

        Raises:
            GeometryError: The volume is not in canonical orientation.
        """
        require_canonical(volume.geometry)
        coarse, slab = _resampled(volume)
        body = body_of(coarse)
        rows, columns = (_around(np.any(body, axis=axes)) for axes in ((0, 2), (0, 1)))
        hu = np.where(body[:, rows, columns], coarse.hu[:, rows, columns], np.int16(AIR_HU))
        corner = (rows.start, columns.start)
        origin = coarse.geometry.position((0.0, *corner))
        geometry = replace(coarse.geometry, shape=hu.shape, origin=origin)
        return cls(
            volume=replace(coarse, hu=hu, geometry=geometry),
            body=np.ascontiguousarray(body[:, rows, columns]),
            source=volume.geometry,
            slab=slab,
            scaled=(coarse.geometry.shape[1], coarse.geometry.shape[2]),
            corner=corner,
        )

    @property
    def middle_slices(self) -> list[int]:
        """The slice of the source in the middle of each slab, from the feet to the head."""
        count = self.source.shape[0]
        return [min(index * self.slab + self.slab // 2, count - 1) for index in range(self.count)]

    @property
    def count(self) -> int:
        """Number of slabs."""
        return self.volume.geometry.shape[0]

    def enter(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a plane (row, column) of the source on the frame."""
        scaled = _resized(plane, self.scaled)
        rows, columns = self._window
        return np.ascontiguousarray(scaled[rows, columns])

    def enter_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask (slice, row, column) of the source on the frame.

        A pixel is in the mask if most of its area is, in the middle slice of its slab.
        """
        planes = [self.enter(mask[index].astype(np.float32)) for index in self.middle_slices]
        entered: NDArray[np.bool_] = np.stack(planes) >= _HALF
        return entered

    def leave(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a plane (row, column) of the frame on the rows and columns of the source."""
        canvas = np.zeros(self.scaled, dtype=np.float32)
        rows, columns = self._window
        canvas[rows, columns] = plane
        size = self.source.shape[2], self.source.shape[1]
        return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def slab_of(self, index: int) -> int:
        """Return the slab that holds a slice of the source."""
        return index // self.slab

    def restored_planes(
        self, masks: Sequence[NDArray[np.bool_]], box: Box
    ) -> Iterator[tuple[int, list[NDArray[np.bool_]]]]:
        """Yield the slices of the source that masks reach, and each mask there (row, column).

        The surface of a restored mask lies where linear interpolation between the centres of
        voxels reaches a half.

        Args:
            masks: One to four masks of the frame, bool (slab, row, column).
            box: The slices, rows and columns of the source to restore.
        """
        stacked = np.stack(masks, axis=-1)
        reached = [bool(slab.any()) for slab in stacked]
        canvas = np.zeros((*self.scaled, len(masks)), dtype=np.float32)
        window, size = self._window, (self.source.shape[2], self.source.shape[1])
        for index in range(box[0].start, box[0].stop):
            low, high, share = self._neighbours(index)
            if not (reached[low] or reached[high]):
                continue
            canvas[window] = (1 - share) * stacked[low] + share * stacked[high]
            planes = cv2.resize(canvas, size, interpolation=cv2.INTER_LINEAR)
            inside = planes.reshape(*size[::-1], -1)[box[1], box[2]] >= _HALF
            yield index, [inside[..., place] for place in range(len(masks))]

    def restore(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask of the frame on the grid of the source, bool (slice, row, column)."""
        restored = np.zeros(self.source.shape, dtype=bool)
        if mask.any():
            box = self.box_in_source(box_of(mask))
            for index, (plane,) in self.restored_planes([mask], box):
                restored[index, box[1], box[2]] = plane
        return restored

    def restore_labels(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the labels of both lungs on the grid of the source, uint8, likewise."""
        restored = np.zeros(self.source.shape, dtype=np.uint8)
        if labels.any():
            box = self.box_in_source(box_of(labels))
            lungs = [labels == Label.LEFT_LUNG, labels == Label.RIGHT_LUNG]
            for index, (left, right) in self.restored_planes(lungs, box):
                restored[index, box[1], box[2]] = lung_of(left, right)
        return restored

    def box_in_source(self, box: Box) -> Box:
        """Return the slices, rows and columns of the source that a box of the frame covers."""
        grids = (self.count, *self.scaled)
        spans: list[slice] = []
        for part, shift, grid, count in zip(
            box, (0, *self.corner), grids, self.source.shape, strict=True
        ):
            step = self.slab if not spans else count / grid
            first = max(0, math.floor((part.start + shift) * step))
            last = min(count, math.ceil((part.stop + shift) * step))
            spans.append(slice(first, last))
        return spans[0], spans[1], spans[2]

    @property
    def _window(self) -> tuple[slice, slice]:
        """The frame's rows and columns in the scaled plane."""
        height, width = self.volume.geometry.shape[1:]
        row, column = self.corner
        return slice(row, row + height), slice(column, column + width)

    def _neighbours(self, index: int) -> tuple[int, int, np.float32]:
        """Return the slabs below and above a slice of the source, and the weight of the upper."""
        at = (index - (self.slab - 1) / 2) / self.slab
        low = min(max(int(np.floor(at)), 0), self.count - 1)
        high = min(max(low + 1, 0), self.count - 1)
        return low, high, np.float32(min(max(at - low, 0.0), 1.0))


def lung_of(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the labels of restored lungs; a voxel that both claim belongs to the right lung."""
    return np.where(right, np.uint8(Label.RIGHT_LUNG), left.view(np.uint8))


def _resampled(volume: Volume) -> tuple[Volume, int]:
    """Return the volume in coarse voxels, and the slices in a slab."""
    geometry, hu, sources = volume.geometry, volume.hu, volume.sources
    slab = max(1, int(SLAB_MM / geometry.slice_spacing + 0.5))
    starts = range(0, len(hu), slab)
    rows, columns = (
        max(1, round(count * step / PIXEL_MM))
        for count, step in zip(geometry.shape[1:], geometry.pixel_spacing, strict=True)
    )
    planes = np.empty((len(starts), rows, columns), dtype=np.int16)
    for place, start in enumerate(starts):
        mean = hu[start : start + slab].mean(axis=0, dtype=np.float32)
        planes[place] = np.round(_resized(mean, (rows, columns)))
    coarse = Geometry(
        shape=planes.shape,
        origin=_first_centre(geometry, slab, (rows, columns)),
        row_cosines=geometry.row_cosines,
        column_cosines=geometry.column_cosines,
        pixel_spacing=(
            geometry.shape[1] * geometry.pixel_spacing[0] / rows,
            geometry.shape[2] * geometry.pixel_spacing[1] / columns,
        ),
        slice_spacing=geometry.slice_spacing * slab,
    )
    middles = [sources[min(start + slab // 2, len(hu) - 1)] for start in starts]
    return replace(volume, hu=planes, geometry=coarse, sources=tuple(middles)), slab


def _resized(plane: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a plane (row, column) with other pixels over the same area."""
    shrinks = shape[0] * shape[1] < plane.size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=how), np.float32)


def _first_centre(
    geometry: Geometry, slab: int, scaled: tuple[int, int]
) -> tuple[float, float, float]:
    """Return the centre of the first coarse voxel, LPS mm."""
    steps = (slab, geometry.shape[1] / scaled[0], geometry.shape[2] / scaled[1])
    slab_at, row, column = (step / 2 - 0.5 for step in steps)
    return geometry.position((slab_at, row, column))


def _around(line: NDArray[np.bool_] | np.bool_) -> slice:
    """Return the range of a line with the body and a margin of air; all of it without a body.

    It starts and ends at multiples of :data:`STEP`, unless the line ends before: pixels at the rim
    of the body, such as another table, do not move the grid of the networks.
    """
    marked = np.flatnonzero(line)
    if not marked.size:
        return slice(0, line.size)
    first, last = int(marked[0]) - _MARGIN, int(marked[-1]) + 1 + _MARGIN
    return slice(max(0, first // STEP * STEP), min(line.size, -(-last // STEP) * STEP))
