"""Adds dense lesions at the chest wall to the lungs: the lung network misses them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.volume import Label, Volume
from inference.reading.postprocess import components

_BONE_HU = 200
_REACH_MM = 30.0
"""Farthest distance of such a lesion from the lungs of its slice."""


def attach(
    marked: NDArray[np.bool_], lungs: NDArray[np.uint8], volume: Volume
) -> NDArray[np.uint8]:
    """Return the lungs with the lesions that reach out of them.

    Consolidated lung at the chest wall looks like chest wall to the lung network. A lesion
    outside the lungs is lung if it touches a lesion inside, lies within 30 mm of the lungs of its
    slice, between them and the chest wall, and is not bone. Beyond the medial border of a lung
    lie heart and great vessels, which may look like lesions too.

    Args:
        marked: bool (slice, row, column): lesion, inside or outside the lungs.
        lungs: uint8 labels: ``Label.LEFT_LUNG``, ``Label.RIGHT_LUNG`` or 0.
        volume: The scan in canonical orientation: columns run to the patient's left.
    """
    outside = marked & (lungs == Label.BACKGROUND) & (volume.hu < _BONE_HU)
    for index in np.flatnonzero(outside.any(axis=(1, 2))):
        outside[index] &= _lateral(lungs[index])
    if not outside.any():
        return lungs
    labels, count = components(outside | (marked & (lungs > Label.BACKGROUND)))
    touching = np.zeros(count + 1, dtype=bool)
    touching[np.unique(labels[lungs > Label.BACKGROUND])] = True
    touching[0] = False
    outside &= touching[labels]
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


def _lateral(lungs: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return what lies lateral of the medial border of a lung in a plane (row, column).

    A row without lung takes the border of the nearest row: consolidation may fill the back of a
    lung.
    """
    columns = np.arange(lungs.shape[1])
    lateral = np.zeros(lungs.shape, dtype=bool)
    for label in (Label.LEFT_LUNG, Label.RIGHT_LUNG):
        own = lungs == label
        rows = np.flatnonzero(own.any(axis=1))
        if not rows.size:
            continue
        nearest = rows[np.abs(np.arange(len(own))[:, None] - rows).argmin(axis=1)]
        if label is Label.LEFT_LUNG:
            lateral |= columns >= own.argmax(axis=1)[nearest][:, None]
        else:
            lateral |= columns < lungs.shape[1] - own[:, ::-1].argmax(axis=1)[nearest][:, None]
    return lateral


def _away(mask: NDArray[np.bool_], pixel_spacing: tuple[float, float]) -> NDArray[np.float32]:
    """Return the distance of each pixel (row, column) from a mask, mm; infinite if it is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    pixels = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    # The larger spacing, so that no distance is too small.
    distance: NDArray[np.float32] = np.asarray(pixels) * np.float32(max(pixel_spacing))
    return distance
