"""Reads a volume with a 2D network: each slice with its neighbours, in batches, cut to a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from chestct.volume import Volume
from inference.networks.manifest import InputContract
from inference.networks.preprocess import STEP, PlaneGrid, to_grid, to_input
from inference.ports import Box

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The network: (n, context, rows, columns) to probabilities (n, classes, rows, columns)."""

_BATCH = 8
_MARGIN = 16
"""Margin around the box in pixels of the input."""


class SliceReader:
    """Reads a volume slice by slice."""

    def __init__(self, volume: Volume, contract: InputContract, run: Run, box: Box | None) -> None:
        """Prepare to read ``volume`` within ``box`` (default: everywhere)."""
        self._volume, self._contract, self._run = volume, contract, run
        self._cut = _cut(volume, contract, box)

    def probabilities(self, slices: Sequence[int]) -> NDArray[np.float32]:
        """Return float32 (len(slices), classes, rows, columns) on the volume's grid."""
        cache: dict[int, NDArray[np.float32]] = {}
        parts = []
        for start in range(0, len(slices), _BATCH):
            part = slices[start : start + _BATCH]
            images = to_input(self._volume, part, self._contract, cache)
            cut = self._run(np.ascontiguousarray(images[..., self._cut[0], self._cut[1]]))
            found = np.zeros((*cut.shape[:2], *images.shape[2:]), dtype=np.float32)
            found[..., self._cut[0], self._cut[1]] = cut
            parts.append(to_grid(found, self._volume.geometry, self._contract))
        return np.concatenate(parts)


def _cut(volume: Volume, contract: InputContract, box: Box | None) -> tuple[slice, slice]:
    """Return the rows and columns of the network's input that contain the box."""
    if box is None:
        return slice(0, contract.rows), slice(0, contract.columns)
    grid = PlaneGrid.of(volume.geometry, contract)
    spans = []
    for axis, own in enumerate(box[1:]):
        scale = grid.scaled[axis] / grid.plane[axis]
        spans.append(
            _span(
                own.start * scale + grid.corner[axis],
                own.stop * scale + grid.corner[axis],
                grid.inputs[axis],
            )
        )
    return spans[0], spans[1]


def _span(first: float, last: float, room: int) -> slice:
    """Return a slice of multiples of STEP around first to last and the margin, within ``room``."""
    low = max(0, int(first - _MARGIN) // STEP * STEP)
    high = min(room, -int(-(last + _MARGIN) // STEP) * STEP)
    return slice(min(low, max(0, room - STEP)), max(high, min(room, low + STEP)))
