"""Measures where in a lung the lesions are: thirds of its height, and its periphery and centre.

The zones are geometry, not anatomy: on slices of 3 mm and more fissures are not reliably visible,
so a third of the height is not a lobe.

*Peripheral* is the outer third of the way from the costal and diaphragmatic surface of a lung to
its medial surface; *central* are the inner two thirds. This is the "peripheral one-third of the
lung" of Pan et al. (Radiology 2020;295:715, doi:10.1148/radiol.2020200370), measured in three
dimensions. Lung beside the mediastinum is therefore central.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.findings import Side, Zone, ZoneMeasurement
from chestct.geometry import Geometry, Vector
from inference.reading.postprocess import box_of

_GRID_MM = 4.0
"""The distances are computed on voxels of about this size."""
_GAP_MM = 8.0
"""A gap in the lung up to twice as wide (a vessel, an airway) is no part of its surface."""
_OUTWARDS = {Side.LEFT: 1, Side.RIGHT: -1}
_ZONES = (Zone.UPPER, Zone.MIDDLE, Zone.LOWER, Zone.PERIPHERAL, Zone.CENTRAL)


def measure_zones(
    lung: NDArray[np.bool_], lesion: NDArray[np.bool_], geometry: Geometry, side: Side
) -> tuple[ZoneMeasurement, ...]:
    """Measure every zone of the lung of one side; empty without the lung.

    Args:
        lung: The lung with its lesions (slice, row, column), any part of the grid.
        lesion: The lesions of any lung on the same part of the grid.
        geometry: The grid, in canonical orientation.
        side: The side of the lung.
    """
    if not lung.any():
        return ()
    box = box_of(lung)
    # Slices run to the feet, rows to the back, columns from the midline outwards.
    outwards = (slice(None, None, -1), slice(None), slice(None, None, _OUTWARDS[side]))
    lung, lesion = lung[box][outwards], lung[box][outwards] & lesion[box][outwards]
    outer = peripheral(lung, geometry.spacing)
    counts = zip(_counts(lung, outer), _counts(lesion, outer), strict=True)
    return tuple(
        _measured(zone, voxels, inside, geometry.voxel_ml)
        for zone, (voxels, inside) in zip(_ZONES, counts, strict=True)
    )


def _counts(mask: NDArray[np.bool_], outer: NDArray[np.bool_]) -> list[int]:
    """Return the voxels of a mask in each zone."""
    ends = np.linspace(0, len(mask), 4).round().astype(int).tolist()
    thirds = [int(np.count_nonzero(mask[first:last])) for first, last in itertools.pairwise(ends)]
    peripheral = int(np.count_nonzero(mask & outer))
    return [*thirds, peripheral, sum(thirds) - peripheral]


def _measured(zone: Zone, voxels: int, inside: int, voxel_ml: float) -> ZoneMeasurement:
    return ZoneMeasurement(
        zone=zone,
        volume_ml=voxels * voxel_ml,
        lesion_ml=inside * voxel_ml,
        involved_percent=100.0 * inside / voxels if voxels else 0.0,
    )


def peripheral(lung: NDArray[np.bool_], spacing: Vector) -> NDArray[np.bool_]:
    """Return the voxels in the outer third of one lung (slice, row, column).

    The slices run to the feet and the columns laterally. A voxel is peripheral when the way to the
    costal or diaphragmatic surface is less than half the way to the medial surface.
    """
    counts = [
        min(size, max(1, round(size * step / _GRID_MM)))
        for size, step in zip(lung.shape, spacing, strict=True)
    ]
    coarse = lung[np.ix_(*map(_centres, counts, lung.shape))]
    grid = tuple(
        size * step / count for size, step, count in zip(lung.shape, spacing, counts, strict=True)
    )
    pad = [1 + round(_GAP_MM / step) for step in grid]
    outer, medial = _surfaces(np.pad(coarse, [(size, size) for size in pad]), grid)
    inside = tuple(slice(size, -size) for size in pad)
    to_outer = ndimage.distance_transform_edt(~outer, sampling=grid)[inside]
    to_medial = ndimage.distance_transform_edt(~medial, sampling=grid)[inside]
    wide: NDArray[np.bool_] = 2 * to_outer < to_medial
    for axis in (2, 1, 0):
        size, count = lung.shape[axis], counts[axis]
        wide = wide.repeat(np.bincount(np.arange(size) * count // size), axis=axis)
    return wide


def _centres(count: int, size: int) -> NDArray[np.int64]:
    """Return the index of the centre of each of ``count`` equal parts of an axis."""
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)


def _surfaces(
    lung: NDArray[np.bool_], grid: tuple[float, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the voxels just outside a lung: beyond its outer and beyond its medial surface.

    The medial surface faces the midline, in the medial half of the lung: farther out, the base of
    the lung faces the diaphragm.
    """
    filled = _closed(lung, grid)
    rim = ndimage.binary_dilation(filled, ndimage.generate_binary_structure(3, 1)) & ~filled
    before = (np.cumsum(filled, axis=2) == 0) & filled.any(axis=2, keepdims=True)
    columns = np.flatnonzero(filled.any(axis=(0, 1)))
    half = np.arange(filled.shape[2]) <= (columns[0] + columns[-1]) / 2
    return rim & ~before, rim & before & half


def _closed(lung: NDArray[np.bool_], grid: tuple[float, ...]) -> NDArray[np.bool_]:
    """Return a padded lung without the gaps of vessels and airways."""
    near = ndimage.distance_transform_edt(~lung, sampling=grid) <= _GAP_MM
    closed: NDArray[np.bool_] = lung | (
        ndimage.distance_transform_edt(near, sampling=grid) > _GAP_MM
    )
    for plane in closed:
        ndimage.binary_fill_holes(plane, output=plane)
    return closed
