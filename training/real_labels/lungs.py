"""Outlines the aerated lungs on a frame, the right and the left separately."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.data import LEFT, RIGHT
from training.real_labels.airways import airways_of
from training.real_labels.planes import Mask, closed, dilated, eroded, filled, nearest, smoothed

_RIM_PIXELS = 2
"""Skin, averaged with room air, looks like lung."""
_AIRWAY_WALL_PIXELS = 2
_LUNG_ML = 150.0
"""Smaller pieces of air are bowel, oesophagus, or air around the lungs' fissures."""
_FROM_MIDLINE_MM = 30.0
"""Lung deeper than ``_DEEP_MM`` this far from the trachea's column is on its own side."""
_DEEP_MM = 10.0
_JUNCTION_HU = -700.0
"""The line where both lungs touch is brighter, even averaged with the lung beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LungSettings:
    """How the lungs of a series are outlined.

    Attributes:
        trachea: A voxel (slab, row, column) in the trachea above the carina.
        sigma: Blur within a slab before the threshold, pixels.
        lung_hu: Lung is darker.
        airway_hu: The air of trachea and main bronchi is darker.
        close: Radius of the disc that closes vessels at the hilum, pixels.
        widest_hole: Radius of the widest vessel or nodule in a slab, pixels; the dome of the
            diaphragm is wider.
        lung_ml: Smaller pieces of air are not lung.
    """

    trachea: tuple[int, int, int]
    sigma: float = 0.7
    lung_hu: float = -420.0
    airway_hu: float = -820.0
    close: int = 4
    widest_hole: float = 6.0
    lung_ml: float = _LUNG_ML


def lungs_of(
    hu: NDArray[np.int16],
    body: Mask,
    spacing: tuple[float, float, float],
    settings: LungSettings,
    excluded: Mask | None = None,
) -> NDArray[np.uint8]:
    """Return the label of each voxel: 0, ``RIGHT`` or ``LEFT``.

    Args:
        hu: HU (slab, row, column) of a frame.
        body: The patient, likewise.
        spacing: Distance of slabs, rows and columns in mm.
        settings: Thresholds and the place of the trachea.
        excluded: Air that is no lung: stomach and bowel.
    """
    soft = smoothed(hu, settings.sigma)
    pixel_mm2 = spacing[1] * spacing[2]
    within = np.where(body, smoothed(hu, 0.5), np.float32(0))
    lumen = airways_of(within, settings.trachea, settings.airway_hu, pixel_mm2)
    airways = dilated(lumen, _AIRWAY_WALL_PIXELS)
    air = (soft < settings.lung_hu) & eroded(body, _RIM_PIXELS) & ~airways
    if excluded is not None:
        air &= ~excluded
    air = _pieces(air, settings.lung_ml / (pixel_mm2 * spacing[0] / 1000))
    sides = _sides(air, soft, settings.trachea[2], spacing)
    labels = sides.copy()
    for side in (RIGHT, LEFT):
        lung = closed(sides == side, settings.close, settings.widest_hole) & ~airways
        lung = filled(lung, settings.widest_hole)
        labels[lung & body & (labels == 0)] = side
    return labels


def _pieces(air: Mask, voxels: float) -> Mask:
    """Return the connected pieces of air of at least that many voxels."""
    parts, count = ndimage.label(air)
    large = np.bincount(parts.ravel(), minlength=count + 1) >= voxels
    large[0] = False
    pieces: Mask = large[parts]
    return pieces


def _sides(
    air: Mask, soft: NDArray[np.float32], midline: int, spacing: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Return the side of each voxel of the lungs, flooded from deep within either lung."""
    depth = ndimage.distance_transform_edt(air & (soft < _JUNCTION_HU), sampling=spacing)
    offset = (np.arange(air.shape[2]) - midline) * spacing[2]
    labels = np.zeros(air.shape, dtype=np.uint8)
    labels[(depth >= _DEEP_MM) & (offset <= -_FROM_MIDLINE_MM)] = RIGHT
    labels[(depth >= _DEEP_MM) & (offset >= _FROM_MIDLINE_MM)] = LEFT
    for level in (8.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.4, 0.0):
        region = air & (depth >= level)
        labels = _flooded(labels, region | (labels > 0), spacing)
    return labels


def _flooded(
    labels: NDArray[np.uint8], region: Mask, spacing: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Return the labels grown through a region; the nearer label takes what both reach."""
    parts, count = ndimage.label(region)
    has = np.zeros((3, count + 1), dtype=bool)
    for side in (RIGHT, LEFT):
        has[side][np.unique(parts[labels == side])] = True
    has[:, 0] = False
    grown = labels.copy()
    for side, other in ((RIGHT, LEFT), (LEFT, RIGHT)):
        grown[(has[side] & ~has[other])[parts]] = side
    both = (has[RIGHT] & has[LEFT])[parts] & (grown == 0)
    if both.any():
        grown[both] = nearest(labels, spacing)[both]
    return grown
