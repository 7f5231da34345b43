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

    def __init__(
        self,
        volume: Volume,
        contract: InputContract,
        run: Run,
        box: Box | None,
        mirrored: Run | None = None,
    ) -> None:
        """Prepare to read ``volume`` within ``box`` (default: everywhere).

        ``mirrored`` is the second reading, if the network has one: both are averaged.
        """
        self._volume, self._contract = volume, contract
        self._run, self._mirrored = run, mirrored
        self._cut = _cut(volume, contract, box)
        self._planes: dict[int, NDArray[np.float32]] = {}
        self._first: dict[int, NDArray[np.float32]] = {}

    def probabilities(self, slices: Sequence[int], least: float = 0.0) -> NDArray[np.float32]:
        """Return float32 (len(slices), classes, rows, columns) on the volume's grid.

        ``least`` is that of :meth:`inference.ports.Reader.probabilities`.
        """
        parts = []
        for start in range(0, len(slices), _BATCH):
            part = slices[start : start + _BATCH]
            cut = self._once(part) if self._mirrored is None else self._twice(part, least)
            size = (self._contract.rows, self._contract.columns)
            found = np.zeros((*cut.shape[:2], *size), dtype=np.float32)
            found[..., self._cut[0], self._cut[1]] = cut
            parts.append(to_grid(found, self._volume.geometry, self._contract))
        self._planes.clear()
        return np.concatenate(parts)

    def unfinished(self, slices: Sequence[int]) -> list[int]:
        """Return those of the slices that were read, but whose probabilities may be too low."""
        return [index for index in slices if index in self._first]

    def _once(self, slices: Sequence[int]) -> NDArray[np.float32]:
        return self._run(self._images(slices))

    def _twice(self, slices: Sequence[int], least: float) -> NDArray[np.float32]:
        """Return the means of both readings; half of the first where they cannot reach ``least``.

        In that case the first reading is kept, since the outline may need the mean afterwards.
        """
        assert self._mirrored is not None
        if unread := [index for index in slices if index not in self._first]:
            self._first |= zip(unread, self._once(unread), strict=True)
        total = np.stack([self._first[index] for index in slices])
        again = [
            place
            for place, first in enumerate(total)
            if least == 0 or not first.max() < 2 * least - 1  # true also of NaN
        ]
        if again:
            chosen = [slices[place] for place in again]
            total[again] += self._mirrored(self._images(chosen))
            for index in chosen:
                del self._first[index]
        total /= np.float32(2)
        return total

    def _images(self, slices: Sequence[int]) -> NDArray[np.float32]:
        """Return the network's input, cut to the box."""
        images = to_input(self._volume, slices, self._contract, self._planes)
        return np.ascontiguousarray(images[..., self._cut[0], self._cut[1]])


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
