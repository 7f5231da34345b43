"""Turns the lesion network's probabilities into lesions: drops aerated lung and small parts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.geometry import Geometry
from chestct.volume import Label, Volume
from inference.ports import Box

_SMOOTHING_MM = 1.2
"""Standard deviation of the filter: it smooths noise, but neither vessels nor small lesions."""
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def box_of(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest box around a mask (slice, row, column) that is not empty."""
    first, second, third = ndimage.find_objects(mask.view(np.uint8))[0]
    return first, second, third


def without_air(
    hu: NDArray[np.int16], pixel_spacing: tuple[float, float], least_hu: float
) -> NDArray[np.bool_]:
    """Return where a smoothed plane (row, column) has at least ``least_hu``.

    Opacity is lung that has lost air; well-aerated lung lies between -950 and -700 HU
    (Colombi et al., Radiology 2020;296:E86).
    """
    rows, columns = (_SMOOTHING_MM / step for step in pixel_spacing)
    smooth = cv2.GaussianBlur(hu.astype(np.float32), (0, 0), sigmaX=columns, sigmaY=rows)
    mask: NDArray[np.bool_] = np.asarray(smooth) >= least_hu
    return mask


def suppress_aerated(
    probability: NDArray[np.float32], volume: Volume, index: int, least_hu: float | None
) -> NDArray[np.float32]:
    """Return the probabilities (row, column) of slice ``index``, 0 where the lung is aerated.

    The networks see contrast, not Hounsfield units: lung that is slightly denser than its
    surroundings may look like ground-glass to them. None for ``least_hu`` changes nothing.
    """
    if least_hu is None:
        return probability
    return probability * without_air(volume.hu[index], volume.geometry.pixel_spacing, least_hu)


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Label the 26-connected components of a mask (slice, row, column)."""
    labels, count = ndimage.label(mask, structure=_NEIGHBOURS, output=np.int32)
    return labels, int(count)


def lesions_of(
    marked: NDArray[np.bool_], lungs: NDArray[np.uint8], geometry: Geometry, minimum_ml: float
) -> NDArray[np.bool_]:
    """Return the marked voxels that make a lesion of at least ``minimum_ml`` in one lung.

    Args:
        marked: bool (slice, row, column).
        lungs: uint8 labels, likewise: ``Label.LEFT_LUNG``, ``Label.RIGHT_LUNG`` or 0.
        geometry: The grid of both.
        minimum_ml: Smaller components are dropped.
    """
    left, right = (
        drop_small(marked & (lungs == lung), geometry.voxel_ml, minimum_ml)
        for lung in (Label.LEFT_LUNG, Label.RIGHT_LUNG)
    )
    return left | right


def drop_small(mask: NDArray[np.bool_], voxel_ml: float, minimum_ml: float) -> NDArray[np.bool_]:
    """Return ``mask`` without components smaller than ``minimum_ml``."""
    kept = np.zeros_like(mask)
    if not mask.any():
        return kept
    box = box_of(mask)
    labels, count = components(mask[box])
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes * voxel_ml >= minimum_ml
    keep[0] = False
    kept[box] = keep[labels]
    return kept
