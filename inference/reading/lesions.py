"""Measures the lesions of a label map one by one, each in one lung."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.findings import Lesion, Side
from chestct.volume import LesionMap, Volume, in_lung, is_consolidation, is_lesion
from inference.ports import Box
from inference.reading.diameters import diameter_of
from inference.reading.postprocess import components


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """The voxels of one lesion: bool (slice, row, column), and the index of the first of them."""

    side: Side
    member: NDArray[np.bool_]
    corner: tuple[int, int, int]

    @property
    def rank(self) -> tuple[int, tuple[int, ...]]:
        """The largest lesion first; of equal lesions that with the lowest slice, row, column."""
        first = np.unravel_index(self.member.argmax(), self.member.shape)
        return -int(np.count_nonzero(self.member)), tuple(np.add(first, self.corner).tolist())


def measure_lesions(volume: Volume, lesion_map: LesionMap, box: Box) -> tuple[Lesion, ...]:
    """Measure each connected lesion (26-neighbourhood) of each lung within ``box``, largest first.

    Opacity that crosses from one lung to the other is a lesion in each: the numbers of a lung
    count its own voxels only. Volume and map are in canonical orientation.
    """
    pieces = sorted(_pieces(lesion_map.labels[box], box), key=lambda piece: piece.rank)
    return tuple(
        _measured(number, piece, volume, lesion_map) for number, piece in enumerate(pieces, start=1)
    )


def _pieces(labels: NDArray[np.uint8], box: Box) -> Iterator[_Piece]:
    """Yield the lesions of both lungs."""
    left = in_lung(labels, Side.LEFT)
    parts, _ = components(np.where(left, np.uint8(1), np.uint8(2)) * is_lesion(labels))
    for number, place in enumerate(ndimage.find_objects(parts.view(np.int32)), start=1):
        member = parts[place] == number
        first, second, third = (
            outer.start + inner.start for outer, inner in zip(box, place, strict=True)
        )
        side = Side.LEFT if left[place][member][0] else Side.RIGHT
        yield _Piece(side=side, member=member, corner=(first, second, third))


def _measured(number: int, piece: _Piece, volume: Volume, lesion_map: LesionMap) -> Lesion:
    geometry, member = volume.geometry, piece.member
    box = tuple(
        slice(start, start + size) for start, size in zip(piece.corner, member.shape, strict=True)
    )
    hu, dense = volume.hu[box][member], is_consolidation(lesion_map.labels[box][member])
    first, second, third = np.add(_centroid(member), piece.corner).tolist()
    return Lesion(
        number=number,
        side=piece.side,
        volume_ml=hu.size * geometry.voxel_ml,
        mean_hu=float(hu.mean()),
        high_opacity_percent=100.0 * float(dense.mean()),
        centroid=geometry.position((first, second, third)),
        diameter=diameter_of(member, piece.corner, geometry.pixel_spacing),
    )


def _centroid(member: NDArray[np.bool_]) -> list[float]:
    """Return the mean slice, row and column of a mask that is not empty."""
    planes = [member.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
    return [float(np.average(np.arange(line.size), weights=line)) for line in planes]
