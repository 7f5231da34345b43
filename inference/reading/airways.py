"""Finds trachea and main bronchi, which are not lung, by region growing in air."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume

_THRESHOLDS_HU = (-880.0, -910.0, -935.0, -955.0)
"""From generous to strict: the first threshold that does not leak into the lungs is used."""
_MOST_ML = 110.0
"""Trachea and bronchi hold less; a larger region has leaked through a thin wall."""
_AREA_MM2 = (50.0, 750.0)
_SEED_RUN = 4
_WALL_MM = 1.5


def central_airways(volume: Volume) -> NDArray[np.bool_]:
    """Return trachea and bronchi with their walls, bool (slice, row, column).

    Empty if no trachea is found, or if it cannot be separated from the lungs around it.
    """
    nothing = np.zeros(volume.geometry.shape, dtype=bool)
    smooth = ndimage.uniform_filter(volume.hu.astype(np.float32), size=(1, 3, 3))
    for threshold in _THRESHOLDS_HU:
        air = smooth < threshold
        seed = _seed(air, volume)
        if seed is None:
            continue
        labels, _ = ndimage.label(air)
        grown = labels == labels[seed]
        if grown.sum() * volume.geometry.voxel_ml <= _MOST_ML:
            return _with_wall(grown, volume)
    return nothing


def _with_wall(lumen: NDArray[np.bool_], volume: Volume) -> NDArray[np.bool_]:
    steps = max(1, round(_WALL_MM / min(volume.geometry.pixel_spacing)))
    flat = ndimage.generate_binary_structure(3, 1)
    flat[[0, 2]] = False
    widened: NDArray[np.bool_] = ndimage.binary_dilation(lumen, flat, iterations=steps)
    return widened


def _seed(air: NDArray[np.bool_], volume: Volume) -> tuple[int, int, int] | None:
    """Find the trachea from the head down: round air in the middle of a few slices in a row."""
    head_first = range(air.shape[0] - 1, -1, -1)
    run = 0
    before: tuple[float, float] | None = None
    for index in head_first[: air.shape[0] * 2 // 3]:
        found = _trachea_in(air[index], volume.hu[index], volume)
        if found is None:
            run, before = 0, None
            continue
        near = before is not None and np.hypot(*np.subtract(found, before)) < _reach(volume)
        run = run + 1 if near else 1
        before = found
        if run >= _SEED_RUN:
            return index, round(found[0]), round(found[1])
    return None


def _reach(volume: Volume) -> float:
    """Return how many pixels the trachea may move between slices."""
    return 10.0 / volume.geometry.pixel_spacing[0]


def _trachea_in(
    air: NDArray[np.bool_], hu: NDArray[np.int16], volume: Volume
) -> tuple[float, float] | None:
    """Return the centre (row, column) of air that may be the trachea in a slice."""
    body = np.flatnonzero((hu > -300).any(axis=0))  # noqa: PLR2004 - soft tissue
    if body.size == 0:
        return None
    rows, columns = volume.geometry.pixel_spacing
    middle, width = (body[0] + body[-1]) / 2, body[-1] - body[0]
    labels, count = ndimage.label(air)
    best: tuple[float, tuple[float, float]] | None = None
    for number, box in enumerate(ndimage.find_objects(labels, count), start=1):
        member = labels[box] == number
        area = member.sum() * rows * columns
        if not _AREA_MM2[0] < area < _AREA_MM2[1]:
            continue
        height, breadth = member.shape[0] * rows, member.shape[1] * columns
        offset = (box[0].start, box[1].start)
        solid = member.mean() > 0.55 and 0.4 < height / breadth < 2.5  # noqa: PLR2004 - roundish
        row, column = np.argwhere(member).mean(axis=0) + offset
        off = abs(column - middle) / width
        if solid and off < 0.15 and (best is None or off < best[0]):  # noqa: PLR2004 - central
            inside = round(float(row)), round(float(column))
            if air[inside]:
                best = off, (float(row), float(column))
    return best[1] if best else None
