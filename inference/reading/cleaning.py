"""Cleans the lung network's labels with Hounsfield units."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.geometry import Geometry
from chestct.volume import Label
from inference.reading.postprocess import box_of_plane, components
from inference.reading.sides import AERATED_HU

_DENSE_REACH_MM = 25.0
_SOLID_HU = -30.0
"""Consolidation is above, fat below: fat around the kidneys looks like it to the network."""
_SURE_RADIUS_MM = 3.0
"""A disc of this radius fits into consolidation: rims of heart and liver are thinner."""
_LEAST_CORE_ML = 100.0
_LEAST_SHARE = 0.08
"""A component smaller than this part of the largest component is not lung."""
_GAS_HU = -920.0
_LEAST_GAS_ML = 3.0
_VESSEL_MM2 = 400.0
"""A smaller hole is a vessel or a nodule, whatever it touches."""
_SIDES = (Label.LEFT_LUNG, Label.RIGHT_LUNG)


def clean_labels(
    sides: NDArray[np.uint8],
    sure: NDArray[np.bool_],
    hu: NDArray[np.int16],
    airways: NDArray[np.bool_],
    geometry: Geometry,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return clean labels of both lungs, and labels of solid, airless parts.

    Aerated parts of the network's mask that make large components are lung. Dense parts are lung
    only inside the hull of the aerated lung of that slice and close to it.

    Args:
        sides: uint8 (slice, row, column), the network's labels.
        sure: bool, likewise: where the network is sure that a voxel is lung.
        hu: int16, likewise.
        airways: bool, likewise: trachea and main bronchi.
        geometry: The grid of the volume; the arrays may be a box of it.
    """
    if sides.size == 0:
        return sides, sides
    smooth = ndimage.uniform_filter(hu.astype(np.float32), size=(1, 3, 3))
    aerated = (sides > 0) & (smooth < AERATED_HU) & ~airways
    core = _lung_components(aerated, geometry.voxel_ml)
    gas = _gas(aerated & ~core, hu, geometry.voxel_ml)
    kept = np.where(airways | gas, np.uint8(Label.BACKGROUND), sides)
    kept = _without_islands(kept, core)
    planes = zip(kept, core, strict=True)
    lungs = np.stack([_slice_of_lung(plane, air, geometry.pixel_spacing) for plane, air in planes])
    lungs = _filled(lungs, geometry)
    solid = np.where(sure & (smooth >= _SOLID_HU) & (lungs == Label.BACKGROUND), kept, 0)
    return lungs, _airless(lungs, solid, geometry)


def _lung_components(mask: NDArray[np.bool_], voxel_ml: float) -> NDArray[np.bool_]:
    """Keep the largest component, and other large components beside it, not below it."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    keep = np.zeros(count + 1, dtype=bool)
    if sizes[largest] * voxel_ml < _LEAST_CORE_ML:
        return np.zeros_like(mask)
    boxes = ndimage.find_objects(labels)
    top = boxes[largest - 1][0]
    for number in np.flatnonzero(sizes >= _LEAST_SHARE * sizes[largest]):
        own = boxes[number - 1][0]
        overlap = min(own.stop, top.stop) - max(own.start, top.start)
        keep[number] = overlap >= 0.5 * (own.stop - own.start)
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def _gas(dropped: NDArray[np.bool_], hu: NDArray[np.int16], voxel_ml: float) -> NDArray[np.bool_]:
    """Return pure gas outside the core: stomach and bowel, not lung cut off by disease."""
    labels, count = ndimage.label(dropped)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    dark = np.bincount(labels[hu < _GAS_HU], minlength=count + 1)
    is_gas = (sizes * voxel_ml >= _LEAST_GAS_ML) & (2 * dark > sizes)
    is_gas[0] = False
    gas: NDArray[np.bool_] = is_gas[labels]
    return gas


def _without_islands(sides: NDArray[np.uint8], core: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Relabel islands of one side that lie inside the other lung."""
    out = sides.copy()
    for label, other in (_SIDES, _SIDES[::-1]):
        parts, count = ndimage.label((sides == label) & core)
        if count < 2:  # noqa: PLR2004 - a single part has no islands
            continue
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        stray = (parts > 0) & (sizes < _LEAST_SHARE * sizes.max())[parts]
        labels, found = ndimage.label(stray)
        around = ndimage.binary_dilation(stray) & (sides == other)
        grown = ndimage.grey_dilation(labels, size=(3, 3, 3))
        touching = np.zeros(found + 1, dtype=bool)
        touching[np.unique(grown[around])] = True
        touching[0] = False
        out[touching[labels]] = other
    return out


def _slice_of_lung(
    sides: NDArray[np.uint8], core: NDArray[np.bool_], pixel_spacing: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return the labels of a plane: aerated lung and the dense parts that belong to it."""
    out = np.zeros_like(sides)
    for label in _SIDES:
        own = sides == label
        if not (own & core).any():
            continue
        box = box_of_plane(own)
        own, free = own[box], out[box] == Label.BACKGROUND
        aerated = core[box] & own
        away = ndimage.distance_transform_edt(~aerated, sampling=pixel_spacing)
        dense = own & _hull(aerated) & (away <= _DENSE_REACH_MM)
        out[box][(ndimage.binary_opening(dense) | aerated) & free] = label
    return out


def _airless(
    lungs: NDArray[np.uint8], solid: NDArray[np.uint8], geometry: Geometry
) -> NDArray[np.uint8]:
    """Return the thick ``solid`` parts of each side that touch that lung."""
    rows, columns = (2 * round(_SURE_RADIUS_MM / step) + 1 for step in geometry.pixel_spacing)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (columns, rows))
    found = np.zeros_like(lungs)
    for label in _SIDES:
        own = (solid == label).view(np.uint8)
        thick = np.stack([cv2.morphologyEx(plane, cv2.MORPH_OPEN, disc) for plane in own]) > 0
        if not thick.any():
            continue
        lung = lungs == label
        parts, count = components(thick | lung)
        hanging = np.zeros(count + 1, dtype=bool)
        hanging[parts[lung]] = True
        found[thick & hanging[parts]] = label
    return found


def _filled(sides: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Fill the holes of each plane, but not the domes of the diaphragm.

    A slice near the top of a dome shows it as a hole in the lung. In neighbouring slices a dome
    continues outside of the lungs, while a vessel is small and a nodule ends. A mass that touches
    the chest wall in another slice continues outside as well: of it only the parts that the
    network marks are lung.
    """
    rows, columns = geometry.pixel_spacing
    holes = np.zeros_like(sides)
    large = np.zeros(sides.shape, dtype=bool)
    for index, plane in enumerate(sides):
        for label in _SIDES:
            own = plane == label
            if not own.any():
                continue
            box = box_of_plane(own)
            inside = ndimage.binary_fill_holes(own[box]) & (plane[box] == Label.BACKGROUND)
            parts, _ = ndimage.label(inside)
            area = np.bincount(parts.ravel()) * rows * columns
            area[0] = 0.0
            large[index][box] |= (area > _VESSEL_MM2)[parts]
            holes[index][box][inside] = label
    if not large.any():
        return np.maximum(sides, holes)
    parts, count = ndimage.label(large)
    outside = (sides == Label.BACKGROUND) & (holes == Label.BACKGROUND)
    ends = np.ones_like(outside[:1])  # a hole at the end of the volume may continue beyond it
    beside = np.concatenate([outside[1:], ends]) | np.concatenate([ends, outside[:-1]])
    continues = np.zeros(count + 1, dtype=bool)
    continues[parts[large & beside]] = True
    continues[0] = False
    return np.where(continues[parts], sides, np.maximum(sides, holes))


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the convex hull of a mask (row, column)."""
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled.astype(bool)
