"""Converts HU to the input of a 2D network, and back, alike in training and on live CT.

Volumes are in canonical orientation (:mod:`chestct.orientation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.geometry import Geometry
from chestct.volume import Volume
from inference.networks.manifest import InputContract

STEP = 32
"""Rows and columns of an input are multiples of this: networks halve their images repeatedly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneGrid:
    """The position of a plane of a volume in the network's input.

    Attributes:
        plane: Rows and columns of the volume.
        scaled: Rows and columns of the plane at the network's pixel size.
        corner: Position of the first pixel; negative where the input cuts the plane.
        inputs: Rows and columns of the network's input.
    """

    plane: tuple[int, int]
    scaled: tuple[int, int]
    corner: tuple[int, int]
    inputs: tuple[int, int]

    @classmethod
    def of(cls, geometry: Geometry, contract: InputContract) -> PlaneGrid:
        """Resize the plane to the input, or centre it there at the contract's pixel size."""
        rows, columns = geometry.shape[1:]
        inputs = (contract.rows, contract.columns)
        if contract.spacing is None:
            return cls(plane=(rows, columns), scaled=inputs, corner=(0, 0), inputs=inputs)
        height, width = (
            max(1, round(count * own / wanted))
            for count, own, wanted in zip(
                (rows, columns), geometry.pixel_spacing, contract.spacing, strict=True
            )
        )
        corner = ((contract.rows - height) // 2, (contract.columns - width) // 2)
        return cls(plane=(rows, columns), scaled=(height, width), corner=corner, inputs=inputs)

    def enter(self, plane: NDArray[np.float32], outside: float) -> NDArray[np.float32]:
        """Return a plane (row, column) on the input's grid, surrounded by ``outside``."""
        size = self.scaled[::-1]
        small = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)
        if self.scaled == self.inputs:
            return small
        canvas = np.full(self.inputs, outside, dtype=np.float32)
        to, of = self._common()
        canvas[to] = small[of]
        return canvas

    def leave(self, canvas: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's output (row, column) on the plane; 0 where the input cut it."""
        small = canvas
        if self.scaled != self.inputs:
            small = np.zeros(self.scaled, dtype=np.float32)
            of, to = self._common()
            small[to] = canvas[of]
        size = self.plane[::-1]
        return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def _common(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the overlap of input and scaled plane, in the coordinates of each."""
        spans = []
        for at, length, room in zip(self.corner, self.scaled, self.inputs, strict=True):
            first, last = max(0, at), min(room, at + length)
            spans.append((slice(first, last), slice(first - at, last - at)))
        (rows, own_rows), (columns, own_columns) = spans
        return (rows, columns), (own_rows, own_columns)


def covering(geometry: Geometry, contract: InputContract) -> InputContract:
    """Return the contract with an input that holds the whole plane at the contract's pixel size.

    The rows and columns of the input are multiples of :data:`STEP`.
    """
    assert contract.spacing is not None, "the manifest requires the pixel size of a cropped input"
    rows, columns = (
        -int(-count * own / wanted // STEP) * STEP
        for count, own, wanted in zip(
            geometry.shape[1:], geometry.pixel_spacing, contract.spacing, strict=True
        )
    )
    return contract.model_copy(update={"rows": rows, "columns": columns})


def windowed(hu: NDArray[Any], contract: InputContract) -> NDArray[np.float32]:
    """Return the window of the contract as 0..255, float32."""
    low, high = contract.window
    scaled = (hu.astype(np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
    clipped: NDArray[np.float32] = np.clip(scaled, 0, 255)
    return clipped


def equalised(grey: NDArray[np.float32], contract: InputContract) -> NDArray[np.uint8]:
    """Round to 8 bits and apply CLAHE, the processing of the training data (docs/model/data.md)."""
    rounded: NDArray[np.uint8] = np.round(grey).astype(np.uint8)
    if contract.clahe_clip == 0:
        return rounded
    tiles = (contract.clahe_tiles, contract.clahe_tiles)
    clahe = cv2.createCLAHE(clipLimit=contract.clahe_clip, tileGridSize=tiles)
    equalised: NDArray[np.uint8] = np.asarray(clahe.apply(rounded), dtype=np.uint8)
    return equalised


def neighbours(geometry: Geometry, index: int, contract: InputContract) -> list[int]:
    """Return the slices that the network sees for slice ``index``, from feet to head.

    Neighbours lie ``context_mm`` apart, to the nearest slice and at least one slice apart;
    beyond the ends the last slice is repeated.
    """
    step = max(1, round(contract.context_mm / geometry.slice_spacing))
    reach = contract.context // 2
    offsets = [step * k for k in range(-reach, reach + 1)]
    last = geometry.shape[0] - 1
    return [min(max(index + offset, 0), last) for offset in offsets]


def to_input(
    volume: Volume,
    slices: Sequence[int],
    contract: InputContract,
    cache: dict[int, NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return float32 (len(slices), context, rows, columns).

    The values are those of the contract: 0..1 unless it says otherwise. ``cache`` keeps the
    planes by slice index, since neighbours share them.
    """
    grid = PlaneGrid.of(volume.geometry, contract)
    wanted = [neighbours(volume.geometry, index, contract) for index in slices]
    for index in {member for group in wanted for member in group} - cache.keys():
        cache[index] = _values(grid.enter(windowed(volume.hu[index], contract), 0), contract)
    return np.stack([np.stack([cache[index] for index in group]) for group in wanted])


def _values(grey: NDArray[np.float32], contract: InputContract) -> NDArray[np.float32]:
    """Return the network's values of a plane 0..255, rounded to 8 bits for CLAHE only."""
    if contract.clahe_clip > 0:
        grey = equalised(grey, contract).astype(np.float32)
    low, high = contract.ends
    share: NDArray[np.float32] = grey / np.float32(255)
    if (low, high) == (0, 1):
        return share
    values: NDArray[np.float32] = np.float32(low) + share * np.float32(high - low)
    return values


def to_grid(
    probabilities: NDArray[np.float32], geometry: Geometry, contract: InputContract
) -> NDArray[np.float32]:
    """Return (n, classes, rows, columns) on the volume's grid.

    Bilinear between pixel centres, the inverse of the resize in :func:`to_input`.
    """
    grid = PlaneGrid.of(geometry, contract)
    count, classes = probabilities.shape[:2]
    planes = np.empty((count, classes, *geometry.shape[1:]), dtype=np.float32)
    for index in np.ndindex(count, classes):
        planes[index] = grid.leave(probabilities[index])
    return planes
