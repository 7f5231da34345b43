"""From HU to what a network sees, and back: one implementation for training and live CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.geometry import Geometry
from chestct.volume import Volume
from inference.manifest import InputContract

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How the axes of a volume run against the canonical ones of the networks.

    Canonical: slices run to the head, rows to the back, columns to the patient's left.
    Each field says whether that axis of the volume runs the other way.
    """

    slices: bool
    rows: bool
    columns: bool

    @classmethod
    def of(cls, geometry: Geometry) -> Orientation:
        """Read the orientation of an axial volume from its direction cosines."""
        return cls(
            slices=geometry.slice_cosines[2] < 0,
            rows=geometry.column_cosines[1] < 0,
            columns=geometry.row_cosines[0] < 0,
        )

    def turn(self, planes: NDArray[Scalar]) -> NDArray[Scalar]:
        """Flip the last two axes between the volume's and the canonical way (its own inverse)."""
        if self.rows:
            planes = planes[..., ::-1, :]
        if self.columns:
            planes = planes[..., ::-1]
        return planes


def to_grey(hu: NDArray[np.int16], contract: InputContract) -> NDArray[np.uint8]:
    """Return one canonical plane (row, column) as the network's 8-bit image.

    Window to 0..255, resize with area averaging, then contrast-limited adaptive histogram
    equalisation: the steps through which the training data went (Ma et al. 2020 as
    redistributed: 256 by 256 pixels, CLAHE with clip limit 7 on 8 by 8 tiles).
    """
    low, high = contract.window
    scaled = (hu.astype(np.float32) - low) * (255.0 / (high - low))
    grey = np.clip(scaled, 0, 255)
    small = cv2.resize(grey, (contract.columns, contract.rows), interpolation=cv2.INTER_AREA)
    rounded: NDArray[np.uint8] = np.round(small).astype(np.uint8)
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
    if Orientation.of(geometry).slices:
        offsets.reverse()
    last = geometry.shape[0] - 1
    return [min(max(index + offset, 0), last) for offset in offsets]


def to_input(
    volume: Volume,
    slices: Sequence[int],
    contract: InputContract,
    cache: dict[int, NDArray[np.uint8]],
) -> NDArray[np.float32]:
    """Return float32 (len(slices), context, rows, columns), 0..1, in canonical orientation.

    ``cache`` keeps the 8-bit planes by slice index, since neighbours share them.
    """
    turn = Orientation.of(volume.geometry).turn
    wanted = [neighbours(volume.geometry, index, contract) for index in slices]
    for index in {one for group in wanted for one in group} - cache.keys():
        cache[index] = to_grey(turn(volume.hu[index]), contract)
    stacked = np.stack([np.stack([cache[one] for one in group]) for group in wanted])
    return stacked.astype(np.float32) / np.float32(255)


def to_grid(probabilities: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """Return (n, classes, rows, columns) on the volume's grid and in its orientation.

    Bilinear between pixel centres, the inverse of the resize in :func:`to_grey`.
    """
    rows, columns = geometry.shape[1:]
    count, classes = probabilities.shape[:2]
    planes = np.empty((count, classes, rows, columns), dtype=np.float32)
    for index in np.ndindex(count, classes):
        planes[index] = cv2.resize(
            probabilities[index], (columns, rows), interpolation=cv2.INTER_LINEAR
        )
    return Orientation.of(geometry).turn(planes)
