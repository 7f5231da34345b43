"""Measures the lesions of a label map one by one, each in one lung."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.findings import Lesion, Side
from chestct.volume import LABELS_OF, LesionMap, Volume, is_consolidation, is_lesion
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
        first = np.argwhere(self.member)[0] + self.corner
        return -int(self.member.sum()), tuple(first.tolist())


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
    """Yield the lesions of the left lung, then those of the right lung."""
    for side, own in LABELS_OF.items():
        parts, _ = components(is_lesion(labels) & np.isin(labels, own))
        for number, place in enumerate(ndimage.find_objects(parts), start=1):
            first, second, third = (
                outer.start + inner.start for outer, inner in zip(box, place, strict=True)
            )
            yield _Piece(side=side, member=parts[place] == number, corner=(first, second, third))


def _measured(number: int, piece: _Piece, volume: Volume, lesion_map: LesionMap) -> Lesion:
    geometry, member = volume.geometry, piece.member
    box = tuple(
        slice(start, start + size) for start, size in zip(piece.corner, member.shape, strict=True)
    )
    hu, dense = volume.hu[box][member], is_consolidation(lesion_map.labels[box][member])
    first, second, third = (np.argwhere(member).mean(axis=0) + piece.corner).tolist()
    return Lesion(
        number=number,
        side=piece.side,
        volume_ml=hu.size * geometry.voxel_ml,
        mean_hu=float(hu.mean()),
        high_opacity_percent=100.0 * float(dense.mean()),
        centroid=geometry.position((first, second, third)),
        diameter=diameter_of(member, piece.corner, geometry.pixel_spacing),
    )
