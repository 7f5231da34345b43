"""Measures a label map: volumes, involvement, kinds of opacity, extent."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    LesionMap,
    Volume,
    in_lung,
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
    voxel_ml, box = volume.geometry.voxel_ml, _box_of(lesion_map.labels)
    labels = lesion_map.labels[box]
    lesion = is_lesion(labels)
    opaque = _Opaque(hu=volume.hu[box][lesion], labels=labels[lesion])
    lungs = _lungs(labels, lesion, opaque, volume.geometry, missing)
    voxels = int(np.count_nonzero(labels))
    total = _lung(voxels, opaque, voxel_ml) if missing is None else None
    lesions = measure_lesions(volume, lesion_map, _inner(box, lesion))
    return Findings(
        left=lungs[Side.LEFT],
        right=lungs[Side.RIGHT],
        total=total,
        lesions=tuple(_stored(lesion, view) for lesion in lesions),
        presence=presence,
        extent=None if total is None else extent_of(total.involved_percent, method),
        method=method,
        ground_glass=_opacity(opaque.ground_glass, voxel_ml),
        consolidation=_opacity(opaque.consolidation, voxel_ml),
        quality_flags=quality_flags,
        cut=cut,
        higher_base=higher_base,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opaque:
    """The voxels of lesions, one after the other.

    Attributes:
        hu: int16 (voxel,).
        labels: uint8, likewise.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]

    def of(self, side: Side) -> _Opaque:
        """Return the voxels of one lung."""
        own = in_lung(self.labels, side)
        return _Opaque(hu=self.hu[own], labels=self.labels[own])

    @property
    def ground_glass(self) -> NDArray[np.int16]:
        """The HU of the voxels of ground-glass."""
        return self.hu[~is_consolidation(self.labels)]

    @property
    def consolidation(self) -> NDArray[np.int16]:
        """The HU of the voxels of consolidation."""
        return self.hu[is_consolidation(self.labels)]


def _lungs(
    labels: NDArray[np.uint8],
    lesion: NDArray[np.bool_],
    opaque: _Opaque,
    geometry: Geometry,
    missing: Missing | None,
) -> dict[Side, Lung]:
    """Measure each lung and its zones; the ``missing`` lung is not assessable."""
    lungs: dict[Side, Lung] = {}
    for side in Side:
        mask = in_lung(labels, side)
        measured = _lung(int(np.count_nonzero(mask)), opaque.of(side), geometry.voxel_ml)
        lungs[side] = replace(measured, zones=measure_zones(mask, lesion, geometry, side))
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


def _box_of(labelled: NDArray[np.bool_] | NDArray[np.uint8]) -> Box:
    """Return the box of all marks; a box of one voxel where there is none."""
    return box_of(labelled) if labelled.any() else (slice(0, 1), slice(0, 1), slice(0, 1))


def _inner(box: Box, mask: NDArray[np.bool_]) -> Box:
    """Return the box of a mask that lies within ``box``, on the grid of that box."""
    first, second, third = (
        slice(outer.start + own.start, outer.start + own.stop)
        for outer, own in zip(box, _box_of(mask), strict=True)
    )
    return first, second, third


def _lung(voxels: int, opaque: _Opaque, voxel_ml: float) -> LungMeasurement:
    """Measure a lung of so many voxels, lesions included."""
    lesion = opaque.hu
    return LungMeasurement(
        volume_ml=voxels * voxel_ml,
        lesion_ml=lesion.size * voxel_ml,
        involved_percent=100.0 * lesion.size / voxels if voxels else 0.0,
        high_opacity_percent=_share(is_consolidation(opaque.labels)),
        lesion_mean_hu=float(lesion.mean()) if lesion.size else None,
        ground_glass=_opacity(opaque.ground_glass, voxel_ml),
        consolidation=_opacity(opaque.consolidation, voxel_ml),
    )


def _opacity(hu: NDArray[np.int16], voxel_ml: float) -> OpacityMeasurement:
    return OpacityMeasurement(
        volume_ml=hu.size * voxel_ml, mean_hu=float(hu.mean()) if hu.size else None
    )


def _share(dense: NDArray[np.bool_]) -> float:
    """Return the percent of lesion voxels that are consolidation; 0 without voxels."""
    return 100.0 * float(dense.mean()) if dense.size else 0.0
