"""Reads a volume with a 3D network: a patch slides over it, and overlaps are blended.

As in nnU-Net (Isensee et al. 2021), the volume is resampled to the network's voxel size,
neighbouring patches overlap, and a Gaussian gives the middle of each patch more weight.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.geometry import Geometry
from chestct.volume import Volume
from inference.networks.manifest import PatchContract
from inference.ports import Box

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The network: (1, 1, slices, rows, columns) to probabilities (1, classes, ...)."""

_MARGIN_MM = 15.0
"""Margin around the box, so that its border is not the border of the image."""


class PatchReader:
    """Reads a volume with a 3D network, completely at the first request."""

    def __init__(self, volume: Volume, contract: PatchContract, run: Run, box: Box | None) -> None:
        """Prepare to read ``volume`` within ``box`` (default: everywhere)."""
        self._volume, self._contract, self._run = volume, contract, run
        self._box = _widened(box, volume.geometry)
        self._found: NDArray[np.float32] | None = None

    def probabilities(self, slices: Sequence[int], least: float = 0.0) -> NDArray[np.float32]:
        """Return float32 (len(slices), classes, rows, columns) on the volume's grid.

        All are exact, whatever ``least`` is.
        """
        del least
        if self._found is None:
            self._found = self._read()
        found, box = self._found, self._box
        out = np.zeros((len(slices), found.shape[0], *self._volume.geometry.shape[1:]), np.float32)
        for place, index in enumerate(slices):
            if box[0].start <= index < box[0].stop:
                part = out[place][:, box[1], box[2]]
                part[:] = self._plane(found, index - box[0].start, part.shape[1:])
        return out

    def unfinished(self, slices: Sequence[int]) -> list[int]:
        """Return no slices: the first request reads the volume completely."""
        del slices
        return []

    def _plane(
        self, found: NDArray[np.float32], index: int, size: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Return (classes, rows, columns) of the box in one of its slices."""
        count = self._box[0].stop - self._box[0].start
        at = (index + 0.5) * found.shape[1] / count - 0.5
        low = min(max(math.floor(at), 0), found.shape[1] - 1)
        high = min(low + 1, found.shape[1] - 1)
        rest = np.float32(min(max(at - low, 0.0), 1.0))
        mixed = (1 - rest) * found[:, low] + rest * found[:, high]
        rows, columns = size
        planes = [
            cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_LINEAR) for plane in mixed
        ]
        return np.stack(planes).astype(np.float32)

    def _read(self) -> NDArray[np.float32]:
        """Return (classes, slices, rows, columns) of the box at the network's voxel size."""
        image = self._image()
        patch = self._contract.patch
        outside = self._contract.ends[0]
        padded = np.full(
            [max(have, want) for have, want in zip(image.shape, patch, strict=True)],
            outside,
            dtype=np.float32,
        )
        padded[tuple(slice(0, count) for count in image.shape)] = image
        weight = blending(patch, self._contract.blending)
        total = np.zeros(padded.shape, dtype=np.float32)
        mixed: NDArray[np.float32] | None = None
        for window in windows(padded.shape, patch, self._contract.overlap):
            found = self._run(np.ascontiguousarray(padded[window])[None, None])[0]
            if mixed is None:
                mixed = np.zeros((len(found), *padded.shape), dtype=np.float32)
            mixed[(slice(None), *window)] += found * weight
            total[window] += weight
        assert mixed is not None, "there is at least one window"
        mixed /= total
        return mixed[(slice(None), *(slice(0, count) for count in image.shape))]

    def _image(self) -> NDArray[np.float32]:
        """Return the box, resampled, as the network's values."""
        contract, geometry = self._contract, self._volume.geometry
        hu = self._volume.hu[self._box]
        low, high = contract.window
        first, last = contract.ends
        share = (np.clip(hu.astype(np.float32), low, high) - low) / np.float32(high - low)
        values = np.float32(first) + share * np.float32(last - first)
        if contract.spacing is None:
            return values
        shape = tuple(
            max(1, round(count * own / wanted))
            for count, own, wanted in zip(
                values.shape, geometry.spacing, contract.spacing, strict=True
            )
        )
        return _resampled(values, (shape[0], shape[1], shape[2]))


def _widened(box: Box | None, geometry: Geometry) -> Box:
    """Return the box with a margin, inside the grid."""
    if box is None:
        whole = [slice(0, count) for count in geometry.shape]
        return (whole[0], whole[1], whole[2])
    parts = []
    for part, step, count in zip(box, geometry.spacing, geometry.shape, strict=True):
        margin = math.ceil(_MARGIN_MM / step)
        parts.append(slice(max(0, part.start - margin), min(count, part.stop + margin)))
    return (parts[0], parts[1], parts[2])


def _resampled(values: NDArray[np.float32], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a volume on a grid of ``shape`` over the same space, linear between centres."""
    count, rows, columns = shape
    shrinks = rows * columns < values.shape[1] * values.shape[2]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    planes = np.stack([cv2.resize(plane, (columns, rows), interpolation=how) for plane in values])
    at = np.clip((np.arange(count) + 0.5) * len(planes) / count - 0.5, 0, len(planes) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(planes) - 1)
    rest = (at - low).astype(np.float32)[:, None, None]
    resampled: NDArray[np.float32] = (1 - rest) * planes[low] + rest * planes[high]
    return resampled.astype(np.float32)


def windows(
    shape: Sequence[int], patch: Sequence[int], overlap: float
) -> Iterator[tuple[slice, ...]]:
    """Yield evenly spread positions of the patch that cover ``shape`` with at least ``overlap``.

    No axis of ``shape`` may be shorter than that of ``patch``.
    """
    starts = []
    for length, size in zip(shape, patch, strict=True):
        steps = math.ceil((length - size) / max(1, math.floor(size * (1 - overlap))))
        starts.append([round(k * (length - size) / max(1, steps)) for k in range(steps + 1)])
    for corner in itertools.product(*starts):
        yield tuple(slice(at, at + size) for at, size in zip(corner, patch, strict=True))


def blending(patch: Sequence[int], kind: str) -> NDArray[np.float32]:
    """Return the weight of each voxel of a patch, float32 above 0."""
    if kind == "constant":
        return np.ones(patch, dtype=np.float32)
    sides = []
    for size in patch:
        away = (np.arange(size) - (size - 1) / 2) / (size / 8)
        sides.append(np.maximum(np.exp(-0.5 * away**2), 1e-3))
    weight: NDArray[np.float32] = np.einsum("i,j,k->ijk", *sides).astype(np.float32)
    return weight
