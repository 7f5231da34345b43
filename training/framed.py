"""Training slices of volumes with exact truth, as the frame shows them to the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chestct.volume import Volume
from inference.reading.frame import Frame
from training.data import LEFT, RIGHT, SliceSet
from training.grey import on_canvas, to_grey

_CENTRED = np.zeros(2, dtype=np.int64)


class Framed(NamedTuple):
    """The slabs of a volume on the canvas: images and sides uint8, lesions bool."""

    images: NDArray[np.uint8]
    sides: NDArray[np.uint8]
    lesions: NDArray[np.bool_]


def framed(volume: Volume, sides: NDArray[np.uint8], lesions: NDArray[np.bool_]) -> Framed:
    """Return a volume and its truth (slice, row, column) on its frame.

    A pixel has the label of most of its area, in the middle slice of its slab.
    """
    frame = Frame.of(volume)
    own = np.zeros(frame.volume.hu.shape, dtype=np.uint8)
    for side in (RIGHT, LEFT):
        own[frame.enter_mask(sides == side)] = side
    return Framed(
        images=on_canvas(to_grey(frame.volume.hu), _CENTRED),
        sides=on_canvas(own, _CENTRED),
        lesions=on_canvas(frame.enter_mask(lesions), _CENTRED),
    )


def set_of(scans: Sequence[Framed], names: Sequence[str]) -> SliceSet:
    """Return scans as one set of slices."""
    return SliceSet(
        images=np.concatenate([scan.images for scan in scans]),
        lungs=np.concatenate([scan.sides for scan in scans]),
        lesions=np.concatenate([scan.lesions for scan in scans]),
        volumes=np.repeat(np.arange(len(scans)), [len(scan.images) for scan in scans]),
        names=tuple(names),
    )
