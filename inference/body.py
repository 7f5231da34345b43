"""Where the patient is: lung lies inside the body, room air, table and separate arms do not."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume
from inference.pixels import AIR_HU

_GRID_MM = 3.0
"""Pixel size at which it is computed; finer pixels are averaged."""
_TISSUE_HU = -300.0
_THIN_PIXELS = 2
"""Radius of what is taken off before the largest part is chosen: covers, gowns and table tops."""
_SHARE_IN_HULL = 0.7
_ROOM_HU = -960.0
"""Air at the edge of the image with a lower median is the room: lung has vessels in it."""


def body_of(volume: Volume) -> NDArray[np.bool_]:
    """Return the patient, lungs included, bool (slice, row, column).

    It is the largest part of soft tissue, and the air that this encloses in each slice. Air that
    reaches the edge of the image, or of the round field of view, is room air, unless most of it
    lies within the convex hull of the tissue: then the field of view cuts the lung.
    """
    steps = [max(1.0, _GRID_MM / one) for one in volume.geometry.pixel_spacing]
    rows, columns = volume.geometry.shape[1:]
    size = (max(1, round(columns / steps[1])), max(1, round(rows / steps[0])))
    small = np.stack([_reduced(plane, size) for plane in volume.hu])
    tissue = _tissue(small)
    inside = [_with_lungs(part, hu) for part, hu in zip(tissue, small, strict=True)]
    return np.stack(
        [
            cv2.resize(plane.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
            for plane in inside
        ]
    )


def _reduced(plane: NDArray[np.int16], size: tuple[int, int]) -> NDArray[np.float32]:
    small = cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _tissue(small: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the soft tissue of the largest part that is not thin."""
    disc = _disc(_THIN_PIXELS)
    wide = _disc(_THIN_PIXELS + 1)
    solid = (small > _TISSUE_HU).astype(np.uint8)
    thick = np.stack([cv2.morphologyEx(plane, cv2.MORPH_OPEN, disc) for plane in solid])
    parts, count = ndimage.label(thick)
    if count == 0:
        return np.zeros(small.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest = (parts == sizes.argmax()).astype(np.uint8)
    near = np.stack([cv2.dilate(plane, wide) for plane in largest])
    found: NDArray[np.bool_] = (near > 0) & (solid > 0)
    return found


def _with_lungs(tissue: NDArray[np.bool_], hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return one plane of the body: its tissue and the air that belongs to it."""
    if not tissue.any():
        return tissue
    closed = cv2.morphologyEx(np.pad(tissue.astype(np.uint8), 2), cv2.MORPH_CLOSE, _disc(1))
    closed = closed[2:-2, 2:-2]
    beyond = _beyond_the_view(hu)
    open_ = ((closed == 0) & ~beyond).astype(np.uint8)
    count, parts = cv2.connectedComponents(open_, connectivity=4)
    edge = np.zeros(parts.shape, dtype=bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    edge |= cv2.dilate(beyond.astype(np.uint8), _disc(1)) > 0
    hull = _hull(tissue)
    area = np.bincount(parts.ravel(), minlength=count)
    held = np.bincount(parts[hull], minlength=count)
    inside = np.ones(count, dtype=bool)
    for number in np.unique(parts[edge & (open_ > 0)]):
        most = held[number] >= _SHARE_IN_HULL * area[number]
        inside[number] = most and np.median(hu[parts == number]) >= _ROOM_HU
    inside[0] = False
    found: NDArray[np.bool_] = (closed > 0) | inside[parts]
    return found & ~beyond


def _beyond_the_view(hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return what lies outside the field of view: padding, which hangs together with the edge."""
    padding = (hu <= AIR_HU).astype(np.uint8)
    count, parts = cv2.connectedComponents(padding, connectivity=4)
    rim = np.zeros(count, dtype=bool)
    for line in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        rim[line] = True
    rim[0] = False
    found: NDArray[np.bool_] = rim[parts]
    return found


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled > 0


def _disc(radius: int) -> NDArray[np.uint8]:
    side = 2 * radius + 1
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(shape, np.uint8)
