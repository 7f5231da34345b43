"""Chests with thin walls, as of children and cachectic patients."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume
from phantom import Thorax
from phantom.volume import canonical_volume

_GAP_MM = 6.0
_TOP_MM = 4.0


def thin_walled(thorax: Thorax, wall_mm: float, scale: float = 1.0) -> Volume:
    """Return a phantom with nothing outside the lungs' hull but a wall, on a table of two plates.

    ``scale`` multiplies its size, not the wall: 0.45 makes the lungs of an adult those of a child.
    """
    spacing = tuple(scale * step for step in thorax.spacing)
    lungs = thorax.left_lung | thorax.right_lung
    hu = thorax.hu.copy()
    inside = np.zeros(lungs.shape, dtype=bool)
    for index, plane in enumerate(lungs):
        nearest = plane if plane.any() else thorax.hu[index] > -300
        away = ndimage.distance_transform_edt(~_hull(nearest), sampling=spacing[1:])
        inside[index] = away <= wall_mm
    hu[~inside] = -1000
    lowest = int(np.flatnonzero(inside.any(axis=(0, 2)))[-1])
    for begin in (_GAP_MM, 10 * _GAP_MM):
        first = lowest + round(begin / spacing[1])
        hu[:, first : first + max(1, round(_TOP_MM / spacing[1]))] = 100
    return canonical_volume(hu, (spacing[0], spacing[1], spacing[2]), thorax.origin)


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled > 0
