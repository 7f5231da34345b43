"""Measures a label map: volumes, involvement, lesions, diameters, severity."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.findings import (
    Diameter,
    End,
    Findings,
    Lesion,
    Lung,
    LungMeasurement,
    Method,
    OpacityMeasurement,
    Presence,
    Severity,
    Side,
)
from chestct.geometry import Geometry
from chestct.orientation import CanonicalView
from chestct.volume import (
    LEFT_LABELS,
    RIGHT_LABELS,
    Label,
    LesionMap,
    Volume,
    is_consolidation,
    is_lesion,
)
from inference.ports import Box
from inference.reading.postprocess import box_of, components
from inference.reading.sides import Missing
from inference.reading.zones import measure_zones

Points = NDArray[np.float64]
_LABELS = {Side.LEFT: LEFT_LABELS, Side.RIGHT: RIGHT_LABELS}


def measure(
    volume: Volume,
    lesion_map: LesionMap,
    presence: Presence,
    method: Method,
    quality_flags: tuple[str, ...] = (),
    *,
    missing: Missing | None = None,
    cut: tuple[End, ...] = (),
) -> Findings:
    """Measure ``lesion_map`` on ``volume``; both are on the same grid.

    The numbers do not depend on how the images are stored: everything is measured in canonical
    orientation, and only the place of a diameter is given in stored indices.

    If a lung is ``missing``, neither it nor both lungs together are measured. ``cut`` names the
    ends of the scan that the lungs reach.
    """
    view = CanonicalView.of(volume.geometry)
    volume, lesion_map = view.volume(volume), view.lesion_map(lesion_map)
    voxel_ml, box = volume.geometry.voxel_ml, _box_of_lungs(lesion_map)
    labels, inside = lesion_map.labels[box], volume.hu[box]
    lesion = is_lesion(labels)
    lungs: dict[Side, Lung] = {}
    for side, own in _LABELS.items():
        mask = np.isin(labels, own)
        zones = measure_zones(mask, lesion, volume.geometry, side)
        lungs[side] = replace(_lung(inside, mask, labels, voxel_ml), zones=zones)
    if missing is not None:
        lungs[missing.side] = missing.lung
    both = labels > Label.BACKGROUND
    total = _lung(inside, both, labels, voxel_ml) if missing is None else None
    dense = is_consolidation(labels)
    return Findings(
        left=lungs[Side.LEFT],
        right=lungs[Side.RIGHT],
        total=total,
        lesions=tuple(_stored(lesion, view) for lesion in _lesions(volume, lesion_map, box)),
        presence=presence,
        severity=None if total is None else severity_of(total.involved_percent, method),
        method=method,
        ground_glass=_opacity(inside[lesion & ~dense], voxel_ml),
        consolidation=_opacity(inside[dense], voxel_ml),
        quality_flags=quality_flags,
        cut=cut,
    )


def severity_of(involved_percent: float, method: Method) -> Severity:
    """Return the extent category; NONE without any lesion."""
    if involved_percent <= 0:
        return Severity.NONE
    if involved_percent < method.mild_percent:
        return Severity.MILD
    if involved_percent < method.moderate_percent:
        return Severity.MODERATE
    return Severity.SEVERE


def _stored(lesion: Lesion, view: CanonicalView) -> Lesion:
    """Return a lesion whose diameter names stored slices, rows and columns."""
    diameter = lesion.diameter
    (slice_index, *start), (_, *end) = (
        view.stored_index((diameter.slice_index, row, column)) for row, column in diameter.long_axis
    )
    axis = ((start[0], start[1]), (end[0], end[1]))
    own = replace(diameter, slice_index=int(slice_index), long_axis=axis)
    return replace(lesion, diameter=own)


def _box_of_lungs(lesion_map: LesionMap) -> Box:
    """Return the box of all labels; a box of one voxel where there is none."""
    labelled = lesion_map.labels > Label.BACKGROUND
    return box_of(labelled) if labelled.any() else (slice(0, 1), slice(0, 1), slice(0, 1))


def _lung(
    hu: NDArray[np.int16], lung: NDArray[np.bool_], labels: NDArray[np.uint8], voxel_ml: float
) -> LungMeasurement:
    voxels, inside, kinds = int(lung.sum()), lung & is_lesion(labels), is_consolidation(labels)
    lesion = hu[inside]
    return LungMeasurement(
        volume_ml=voxels * voxel_ml,
        lesion_ml=lesion.size * voxel_ml,
        involved_percent=100.0 * lesion.size / voxels if voxels else 0.0,
        high_opacity_percent=_share(kinds[inside]),
        lesion_mean_hu=float(lesion.mean()) if lesion.size else None,
        ground_glass=_opacity(hu[inside & ~kinds], voxel_ml),
        consolidation=_opacity(hu[inside & kinds], voxel_ml),
    )


def _opacity(hu: NDArray[np.int16], voxel_ml: float) -> OpacityMeasurement:
    return OpacityMeasurement(
        volume_ml=hu.size * voxel_ml, mean_hu=float(hu.mean()) if hu.size else None
    )


def _share(dense: NDArray[np.bool_]) -> float:
    """Return the percent of lesion voxels that are consolidation; 0 without voxels."""
    return 100.0 * float(dense.mean()) if dense.size else 0.0


def _lesions(volume: Volume, lesion_map: LesionMap, box: Box) -> tuple[Lesion, ...]:
    """Measure each connected lesion within ``box``, largest first."""
    lesion = is_lesion(lesion_map.labels[box])
    if not lesion.any():
        return ()
    labels, count = components(lesion)
    boxes = ndimage.find_objects(labels)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    found = []
    for number, k in enumerate(order, start=1):
        own = boxes[k]
        where = tuple(
            slice(outer.start + inner.start, outer.start + inner.stop)
            for outer, inner in zip(box, own, strict=True)
        )
        place = (where[0], where[1], where[2])
        found.append(_lesion(number, volume, lesion_map, labels[own] == k + 1, place))
    return tuple(found)


def _lesion(
    number: int,
    volume: Volume,
    lesion_map: LesionMap,
    member: NDArray[np.bool_],
    box: Box,
) -> Lesion:
    geometry = volume.geometry
    start = np.array([part.start for part in box])
    hu, labels = volume.hu[box][member], lesion_map.labels[box][member]
    left = int(np.isin(labels, LEFT_LABELS).sum())
    center = geometry.to_patient((np.argwhere(member).mean(axis=0) + start)[None])[0]
    return Lesion(
        number=number,
        side=Side.LEFT if 2 * left > hu.size else Side.RIGHT,
        volume_ml=hu.size * geometry.voxel_ml,
        mean_hu=float(hu.mean()),
        high_opacity_percent=_share(is_consolidation(labels)),
        centroid=(float(center[0]), float(center[1]), float(center[2])),
        diameter=_diameter(member, start, geometry),
    )


def _diameter(member: NDArray[np.bool_], start: NDArray[np.int64], geometry: Geometry) -> Diameter:
    """Find the longest axial diameter over all slices of a lesion.

    The diameter is that of a connected part of a slice; it never crosses from part to part. It
    runs between pixel centres of the outline; a single pixel measures its own width.
    """
    best: tuple[float, int, Points, Points] | None = None
    for index, plane in enumerate(member):
        for part in _parts(plane):
            hull = _hull(part)
            ends, length = _longest(hull * geometry.pixel_spacing)
            if best is None or length > best[0]:
                best = (length, index, hull, hull[list(ends)])
    assert best is not None, "a lesion has a voxel"
    length, index, hull, axis = best
    offset = start[1:]
    pixel = min(geometry.pixel_spacing)
    across = _across(hull * geometry.pixel_spacing, axis * geometry.pixel_spacing)
    (r0, c0), (r1, c1) = (axis + offset).tolist()
    return Diameter(
        slice_index=int(start[0]) + index,
        long_axis_mm=max(length, pixel),
        short_axis_mm=max(across, pixel),
        long_axis=((float(r0), float(c0)), (float(r1), float(c1))),
    )


def _parts(plane: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the connected parts (8-neighbourhood) of a slice of a lesion."""
    count, parts = cv2.connectedComponents(plane.astype(np.uint8), connectivity=8)
    return [parts == number for number in range(1, count)]


def _hull(plane: NDArray[np.bool_]) -> Points:
    """Return the corners of the convex hull of the pixel centres, (n, 2) as (row, column)."""
    points = np.argwhere(plane).astype(np.int32)
    hull = cv2.convexHull(points).reshape(-1, 2)
    return hull.astype(np.float64)


def _longest(points: Points) -> tuple[tuple[int, int], float]:
    """Return the two points that are farthest apart, and their distance."""
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    first, second = np.unravel_index(int(gaps.argmax()), gaps.shape)
    return (int(first), int(second)), float(gaps.max())


def _across(points: Points, axis: Points) -> float:
    """Return the extent perpendicular to ``axis``, in the units of ``points``."""
    direction = axis[1] - axis[0]
    length = np.linalg.norm(direction)
    if length == 0:
        return 0.0
    normal = np.array([-direction[1], direction[0]]) / length
    along = points @ normal
    return float(along.max() - along.min())
