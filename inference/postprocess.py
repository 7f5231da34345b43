"""From raw masks to lesions: what is too small to be one is dropped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.ports import Box

_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def box_of(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest box that holds a mask (slice, row, column) which is not empty."""
    first, second, third = ndimage.find_objects(mask.view(np.uint8))[0]
    return first, second, third


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Label the 26-connected components of a mask (slice, row, column)."""
    labels, count = ndimage.label(mask, structure=_NEIGHBOURS, output=np.int32)
    return labels, int(count)


def drop_small(mask: NDArray[np.bool_], voxel_ml: float, minimum_ml: float) -> NDArray[np.bool_]:
    """Return ``mask`` without components smaller than ``minimum_ml``."""
    labels, count = components(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes * voxel_ml >= minimum_ml
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept
