"""Measures a label map: volumes, involvement, kinds of opacity, extent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chestct.findings import (
    End,
    Extent,
    Findings,
    Lesion,
    Lung,
    LungMeasurement,
    OpacityMeasurement,
    Side,
)
from chestct.geometry import Geometry
from chestct.method import Method, Presence
from chestct.orientation import CanonicalView
from chestct.volume import (
    LABELS_OF,
    Label,
    LesionMap,
    Volume,
    is_consolidation,
    is_lesion,
)
from inference.ports import Box
from inference.reading.lesions import measure_lesions
from inference.reading.postprocess import box_of
from inference.reading.sides import Missing
from inference.reading.zones import measure_zones


def measure(
    volume: Volume,
    lesion_map: LesionMap,
    presence: Presence,
    method: Method,
    quality_flags: tuple[str, ...] = (),
    *,
    missing: Missing | None = None,
    cut: tuple[End, ...] = (),
    higher_base: Side | None = None,
) -> Findings:
    """Measure ``lesion_map`` on ``volume``; both are on the same grid.

    The numbers do not depend on how the images are stored: everything is measured in canonical
    orientation, and only the place of a diameter is given in stored indices.

    If a lung is ``missing``, neither it nor both lungs together are measured. ``cut`` names the
    ends of the scan that the lungs reach, ``higher_base`` the lung whose base may hold no air.
    """
    view = CanonicalView.of(volume.geometry)
    volume, lesion_map = view.volume(volume), view.lesion_map(lesion_map)
    voxel_ml, box = volume.geometry.voxel_ml, _box_of_lungs(lesion_map)
    labels, inside = lesion_map.labels[box], volume.hu[box]
    lungs = _lungs(inside, labels, volume.geometry, missing)
    both = labels > Label.BACKGROUND
    total = _lung(inside, both, labels, voxel_ml) if missing is None else None
    lesion, dense = is_lesion(labels), is_consolidation(labels)
    return Findings(
        left=lungs[Side.LEFT],
        right=lungs[Side.RIGHT],
        total=total,
        lesions=tuple(_stored(lesion, view) for lesion in measure_lesions(volume, lesion_map, box)),
        presence=presence,
        extent=None if total is None else extent_of(total.involved_percent, method),
        method=method,
        ground_glass=_opacity(inside[lesion & ~dense], voxel_ml),
        consolidation=_opacity(inside[dense], voxel_ml),
        quality_flags=quality_flags,
        cut=cut,
        higher_base=higher_base,
    )


def _lungs(
    hu: NDArray[np.int16], labels: NDArray[np.uint8], geometry: Geometry, missing: Missing | None
) -> dict[Side, Lung]:
    """Measure each lung and its zones; the ``missing`` lung is not assessable."""
    lungs: dict[Side, Lung] = {}
    for side, own in LABELS_OF.items():
        mask = np.isin(labels, own)
        zones = measure_zones(mask, is_lesion(labels), geometry, side)
        lungs[side] = replace(_lung(hu, mask, labels, geometry.voxel_ml), zones=zones)
    if missing is not None:
        lungs[missing.side] = missing.lung
    return lungs


def extent_of(involved_percent: float, method: Method) -> Extent:
    """Return the extent category; NONE without any lesion."""
    if involved_percent <= 0:
        return Extent.NONE
    if involved_percent < method.mild_percent:
        return Extent.MILD
    if involved_percent < method.moderate_percent:
        return Extent.MODERATE
    return Extent.SEVERE


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
