"""Finds the body of the patient: lungs are inside; room air, table and separate arms are not."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume
from inference.loading.pixels import AIR_HU

_GRID_MM = 3.0
"""Pixel size of the computation; finer pixels are averaged."""
_TISSUE_HU = -300.0
_THIN_PIXELS = 2
"""Radius of thin parts that are removed first: covers, gowns and table tops."""
_SHARE_IN_HULL = 0.7
_ROOM_HU = -960.0
"""Air at the edge of the image with a lower median is room air: lung contains vessels."""
_WALL_HU = -500.0
"""In pixels of 3 mm a wall of 4 mm is averaged with the air beside it."""
_THICKEST_THIN_PIXELS = 5
_LUNG_PIXELS = 5
"""A disc of this radius fits into a lung, even a child's, but not between body and table."""


def body_of(volume: Volume) -> NDArray[np.bool_]:
    """Return the patient, lungs included, bool (slice, row, column).

    The body is the largest part of soft tissue, and the air that it encloses in each slice. Air
    that reaches the edge of the image, or of the round field of view, is room air, unless most of
    it lies within the convex hull of the tissue: then the field of view cuts the lung. Walls as
    thin as a table top do not count as that tissue; enclosed air that looks like lung is added
    afterwards.
    """
    steps = [max(1.0, _GRID_MM / step) for step in volume.geometry.pixel_spacing]
    rows, columns = volume.geometry.shape[1:]
    size = (max(1, round(columns / steps[1])), max(1, round(rows / steps[0])))
    small = np.stack([_reduced(plane, size) for plane in volume.hu])
    tissue = _tissue(small)
    inside = np.stack([_with_lungs(part, hu) for part, hu in zip(tissue, small, strict=True)])
    outline: NDArray[np.bool_] = np.any(tissue, axis=0)
    inside = _with_thin_walls(inside, _hull(outline), small)
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
    """Return a plane of the body: its tissue and the air that belongs to it."""
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


def _with_thin_walls(
    body: NDArray[np.bool_], outline: NDArray[np.bool_], small: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return the body with the lungs behind thin walls, and these walls.

    The chest wall of a child or a cachectic patient is thinner than the parts that are removed
    first. Body, table, arms and covers enclose air as well, but that is room air, lies outside
    the ``outline`` of all tissue, or is flat.
    """
    walls = np.pad((small > _WALL_HU).astype(np.uint8), ((0, 0), (2, 2), (2, 2)))
    walls = np.stack([cv2.morphologyEx(plane, cv2.MORPH_CLOSE, _disc(1)) for plane in walls])
    walls = walls[:, 2:-2, 2:-2]
    planes = zip(walls, body, small, strict=True)
    enclosed = np.stack([_enclosed(wall, part, outline, hu) for wall, part, hu in planes])
    parts, count = ndimage.label(enclosed)
    wide = np.zeros(count + 1, dtype=bool)
    for plane, numbers in zip(enclosed, parts, strict=True):
        room = cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 3)
        wide[numbers[room >= _LUNG_PIXELS]] = True
    wide[0] = False
    found = body.copy()
    for index in np.flatnonzero(wide[parts].any(axis=(1, 2))):
        lungs = wide[parts[index]].astype(np.uint8)
        beside = (cv2.dilate(lungs, _disc(_THICKEST_THIN_PIXELS)) > 0) & (walls[index] > 0)
        found[index] |= ndimage.binary_fill_holes((lungs > 0) | beside)
    return found


def _enclosed(
    wall: NDArray[np.uint8],
    body: NDArray[np.bool_],
    outline: NDArray[np.bool_],
    hu: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Return the air in a plane that walls enclose, that looks like lung and is not in the body."""
    count, parts = cv2.connectedComponents((wall == 0).astype(np.uint8), connectivity=4)
    area = np.bincount(parts.ravel(), minlength=count)
    held = np.bincount(parts[outline], minlength=count)
    known = np.bincount(parts[body], minlength=count)
    new = (held >= _SHARE_IN_HULL * area) & (2 * known < area)
    for line in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        new[line] = False
    new[0] = False
    for number in np.flatnonzero(new):
        new[number] = np.median(hu[parts == number]) >= _ROOM_HU
    found: NDArray[np.bool_] = new[parts]
    return found


def _beyond_the_view(hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the padding outside the field of view, which touches the edge."""
    padding = (hu <= AIR_HU).astype(np.uint8)
    count, parts = cv2.connectedComponents(padding, connectivity=4)
    rim = np.zeros(count, dtype=bool)
    for line in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        rim[line] = True
    rim[0] = False
    found: NDArray[np.bool_] = rim[parts]
    return found


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled > 0


def _disc(radius: int) -> NDArray[np.uint8]:
    side = 2 * radius + 1
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(shape, np.uint8)
