"""Operations on masks (slab, row, column), slab by slab where a disc is meant."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask: TypeAlias = NDArray[np.bool_]


def smoothed(hu: NDArray[np.int16], sigma: float) -> NDArray[np.float32]:
    """Return the volume blurred by a Gaussian of ``sigma`` pixels within each slab."""
    values = hu.astype(np.float32)
    if sigma <= 0:
        return values
    return np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in values])


def dilated(mask: Mask, pixels: int) -> Mask:
    """Return the mask grown by a disc within each slab."""
    return _each(mask, cv2.MORPH_DILATE, pixels)


def eroded(mask: Mask, pixels: int) -> Mask:
    """Return the mask shrunk by a disc within each slab."""
    return _each(mask, cv2.MORPH_ERODE, pixels)


def opened(mask: Mask, pixels: int) -> Mask:
    """Return the mask without parts thinner than a disc in each slab."""
    return _each(mask, cv2.MORPH_OPEN, pixels)


def closed(mask: Mask, pixels: int, widest_hole: float) -> Mask:
    """Return the mask closed by a disc, and without narrow holes, in each slab."""
    return filled(_each(mask, cv2.MORPH_CLOSE, pixels), widest_hole)


def filled(mask: Mask, widest_hole: float) -> Mask:
    """Return the mask without narrow holes in each slab.

    ``widest_hole`` is the radius, in pixels, of the largest disc in a hole that is filled.
    """
    return np.stack([_filled(plane, widest_hole) for plane in mask])


def _filled(plane: Mask, widest_hole: float) -> Mask:
    holes = ndimage.binary_fill_holes(plane) & ~plane
    if not holes.any():
        return plane
    count, parts = cv2.connectedComponents(holes.astype(np.uint8), connectivity=4)
    radius = cv2.distanceTransform(holes.astype(np.uint8), cv2.DIST_L2, 5)
    narrow = ndimage.maximum(radius, parts, range(count)) <= widest_hole
    narrow[0] = False
    closed_plane: Mask = plane | narrow[parts]
    return closed_plane


def nearest(labels: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Return for each voxel the label that is nearest to it."""
    _, at = ndimage.distance_transform_edt(labels == 0, sampling=spacing, return_indices=True)
    taken: NDArray[np.uint8] = labels[tuple(at)]
    return taken


def _each(mask: Mask, operation: int, pixels: int) -> Mask:
    side = 2 * pixels + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    padded = np.pad(mask.astype(np.uint8), ((0, 0), (pixels, pixels), (pixels, pixels)))
    planes = [cv2.morphologyEx(plane, operation, disc) for plane in padded]
    rows, columns = mask.shape[1:]
    return np.stack(planes)[:, pixels : pixels + rows, pixels : pixels + columns] > 0
