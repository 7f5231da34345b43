"""Dense lesions at the chest wall: the lung network loses them, the lesion network sees them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.volume import Label, Volume
from inference.reading.postprocess import components

_BONE_HU = 200
_REACH_MM = 30.0
"""How far into what the lung network left out."""


def attach(
    marked: NDArray[np.bool_], lungs: NDArray[np.uint8], volume: Volume
) -> NDArray[np.uint8]:
    """Return the lungs with the lesions that reach out of them.

    Consolidated lung at the chest wall looks like chest wall to a network that looks for
    lungs. What is marked as lesion outside the lungs is lung too where it hangs together with
    a lesion inside and lies within 30 mm of the lungs of its slice, short of bone.

    Args:
        marked: bool (slice, row, column): lesion, in the lungs or not.
        lungs: uint8 labels: ``Label.LEFT_LUNG``, ``Label.RIGHT_LUNG`` or 0.
        volume: The scan.
    """
    outside = marked & (lungs == Label.BACKGROUND) & (volume.hu < _BONE_HU)
    if not outside.any():
        return lungs
    labels, count = components(outside | (marked & (lungs > Label.BACKGROUND)))
    hanging = np.zeros(count + 1, dtype=bool)
    hanging[np.unique(labels[lungs > Label.BACKGROUND])] = True
    hanging[0] = False
    outside &= hanging[labels]
    grown = lungs.copy()
    for index in np.flatnonzero(outside.any(axis=(1, 2))):
        left, right = (
            _away(lungs[index] == label, volume.geometry.pixel_spacing)
            for label in (Label.LEFT_LUNG, Label.RIGHT_LUNG)
        )
        near = outside[index] & (np.minimum(left, right) <= _REACH_MM)
        grown[index][near & (left < right)] = Label.LEFT_LUNG
        grown[index][near & (left >= right)] = Label.RIGHT_LUNG
    return grown


def _away(mask: NDArray[np.bool_], pixel_spacing: tuple[float, float]) -> NDArray[np.float32]:
    """Return the distance of each pixel (row, column) from a mask, mm; infinite without one."""
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    pixels = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    # The larger spacing: what is said to be near is near.
    distance: NDArray[np.float32] = np.asarray(pixels) * np.float32(max(pixel_spacing))
    return distance
