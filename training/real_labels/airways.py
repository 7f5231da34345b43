"""Finds trachea and main bronchi: air in a wall, followed from slab to slab."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.real_labels.planes import Mask, dilated

_LARGEST_MM2 = 1100.0
"""Area of the trachea where it divides, with room for the main bronchi beside it."""
_NEAR_PIXELS = 12
"""Distance of the seed of a recipe from the air of the trachea."""
_WALL_HU = -650.0
_WALL_PIXELS = 3
_SHARE_OF_WALL = 0.75
"""Share of the surroundings of the air that is denser than lung: the mediastinum is, but lung
around a segmental bronchus is not."""


def airways_of(
    hu: NDArray[np.float32], seed: tuple[int, int, int], threshold: float, pixel_mm2: float
) -> Mask:
    """Return the air of the trachea and of the main bronchi, up to the hilum.

    Args:
        hu: HU (slab, row, column), lightly smoothed.
        seed: A voxel (slab, row, column) in or near the trachea.
        threshold: Air of the airways is darker.
        pixel_mm2: Area of a pixel.
    """
    airways = np.zeros(hu.shape, dtype=bool)
    start = seed[0]
    airways[start] = _at(hu[start] < threshold, seed[1:])
    downwards = range(start - 1, -1, -1)
    upwards = range(start + 1, len(hu))
    largest = _LARGEST_MM2 / pixel_mm2
    for order, step in ((downwards, -1), (upwards, 1), (downwards, -1)):
        for index in order:
            before = airways[index - step] | airways[index]
            if not before.any():
                continue
            airways[index] |= _continued(hu[index], before, threshold, largest)
    return airways


def _at(air: Mask, place: tuple[int, int]) -> Mask:
    """Return the part of the air that is nearest to a place.

    Raises:
        ValueError: No air is near.
    """
    rows, columns = np.nonzero(air)
    distance = np.hypot(rows - place[0], columns - place[1])
    if not distance.size or distance.min() > _NEAR_PIXELS:
        raise ValueError(f"no air within {_NEAR_PIXELS} pixels of the trachea's seed {place}")
    nearest = distance.argmin()
    _, parts = cv2.connectedComponents(air.astype(np.uint8), connectivity=4)
    part: Mask = parts == parts[rows[nearest], columns[nearest]]
    return part


def _continued(hu: NDArray[np.float32], before: Mask, threshold: float, largest: float) -> Mask:
    """Return the parts of the air of a slab that continue the airways of its neighbour."""
    _, parts = cv2.connectedComponents((hu < threshold).astype(np.uint8), connectivity=4)
    reached = dilated(before[np.newaxis], 1)[0]
    continued = np.zeros(hu.shape, dtype=bool)
    for number in np.unique(parts[reached & (parts > 0)]):
        part: Mask = parts == number
        if part.sum() <= largest and _walled(part, hu):
            continued |= part
    return continued


def _walled(part: Mask, hu: NDArray[np.float32]) -> bool:
    """Return whether tissue surrounds a part of the air in its slab."""
    inner = dilated(part[np.newaxis], 1)[0]
    outer = dilated(part[np.newaxis], _WALL_PIXELS)[0]
    ring = hu[outer & ~inner]
    return bool(ring.size) and float((ring > _WALL_HU).mean()) >= _SHARE_OF_WALL
