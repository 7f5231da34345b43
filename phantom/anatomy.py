"""The anatomy of the phantom: organs as implicit shapes, painted slice by slice.

Coordinates are millimetres from the middle of the lungs: x to the left, y to the back, z to the
head (LPS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

AIR, FAT, MUSCLE, BLOOD, LIVER, SPLEEN, CARTILAGE = -1000.0, -95.0, 45.0, 45.0, 60.0, 52.0, 110.0
RECESS_MM = -150.0
MARROW, CORTEX, DISC, CANAL = 180.0, 650.0, 85.0, 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """The sizes in which patients differ: factors about 1, else mm and HU."""

    width: float
    depth: float
    fat_mm: float
    heart: float
    dome_right_mm: float
    dome_left_mm: float
    contrast_hu: float
    parenchyma_hu: float

    @classmethod
    def of(cls, seed: int) -> Anatomy:
        """Draw a anatomy."""
        random = np.random.default_rng((seed, 1))
        return cls(
            width=random.uniform(0.9, 1.06),
            depth=random.uniform(0.9, 1.1),
            fat_mm=random.uniform(8, 24),
            heart=random.uniform(0.85, 1.12),
            dome_right_mm=random.uniform(-85, -58),
            dome_left_mm=random.uniform(-95, -72),
            contrast_hu=random.choice([0.0, 0.0, 90.0, 150.0]),
            parenchyma_hu=random.uniform(-885, -835),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A painted plane: HU without the content of the lungs, and the masks of both lungs."""

    hu: Plane
    left: Mask
    right: Mask


def _ellipse(x: Plane, y: Plane, cx: float, cy: float, rx: float, ry: float) -> Plane:
    """Return the squared normalised distance: below 1 inside."""
    distance: Plane = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
    return distance


def _apex(z: float) -> float:
    """Return the width of the chest cavity at height ``z``, as a part of its full width."""
    t = min(max((z - 15) / 112, 0.0), 1.0)
    return float((1 - t**2.4) ** 0.5)


def paint(anatomy: Anatomy, x: Plane, y: Plane, z: float) -> Slice:
    """Paint the plane at height ``z``; ``x`` and ``y`` are (row, column) grids in mm."""
    half_width, half_depth = 128 * anatomy.width, 90 * anatomy.depth
    hu = np.full(x.shape, AIR, dtype=np.float32)
    _table(hu, x, y, half_depth)
    _trunk(hu, anatomy, x, y, z, half_width, half_depth)
    narrow = max(_apex(z), 0.05)
    cavity = _ellipse(x, y, 0, 0, half_width * narrow, half_depth * narrow**0.7) < 1
    if z < 128:
        hu[cavity] = FAT
    _bones(hu, x, y, z, half_width, half_depth)
    heart = _heart(anatomy, x, y, z)
    middle = _mediastinum(x, y, z, half_depth)
    spine = _ellipse(x, y, 0, half_depth * 0.82, 25, 24) < 1
    above = z > _diaphragm(anatomy, x, y)
    vessels = _great_vessels(x, y, z) & cavity & ~spine
    lungs = cavity & above & ~middle & ~heart & ~spine & ~vessels & (z < 126)
    _abdomen(hu, anatomy, x, y, z, cavity & ~above & ~spine)
    hu[cavity & above & middle & ~spine] = -30
    hu[heart & cavity & above] = BLOOD
    hu[vessels] = BLOOD + anatomy.contrast_hu
    return Slice(hu=hu, left=lungs & (x > 0), right=lungs & (x < 0))


def _table(hu: Plane, x: Plane, y: Plane, half_depth: float) -> None:
    below = y - (half_depth + 42 - x**2 / 1100)
    couch = np.abs(x) < 215
    hu[(below > 0) & (below < 22) & couch] = -930
    hu[couch & ((np.abs(below) < 2) | (np.abs(below - 22) < 2))] = -120


def _trunk(
    hu: Plane, anatomy: Anatomy, x: Plane, y: Plane, z: float, width: float, depth: float
) -> None:
    """Paint skin, fat and muscle; shoulders above, neck at the very top."""
    shoulder = 1 / (1 + np.exp(-(z - 95) / 12))
    neck = 1 / (1 + np.exp(-(z - 150) / 6))
    outer_x = (width + 20 + anatomy.fat_mm + 55 * shoulder) * (1 - 0.6 * neck)
    outer_y = (depth + 16 + anatomy.fat_mm - 14 * shoulder) * (1 - 0.25 * neck)
    ratio = (np.abs(x) / outer_x) ** 2.5 + (np.abs(y) / outer_y) ** 2.5
    hu[ratio < 1] = FAT
    hu[
        ((np.abs(x) / (outer_x - 2)) ** 2.5 + (np.abs(y) / (outer_y - 2)) ** 2.5 > 1) & (ratio < 1)
    ] = 20
    inner_x, inner_y = outer_x - anatomy.fat_mm, outer_y - anatomy.fat_mm
    hu[(np.abs(x) / inner_x) ** 2.5 + (np.abs(y) / inner_y) ** 2.5 < 1] = MUSCLE
    if z > 20:
        for side in (-1, 1):
            blade = _ellipse(x, y, side * (width * 0.86), depth * 0.82, 30, 5) < 1
            hu[blade] = 420
            hu[_ellipse(x, y, side * (width + 32), -5, 19, 21) < max(0.0, shoulder - 0.5) * 2] = 380


def _bones(hu: Plane, x: Plane, y: Plane, z: float, width: float, depth: float) -> None:
    narrow = max(_apex(z), 0.2)
    shell_x, shell_y = width * narrow + 9, depth * narrow**0.7 + 8
    radius = np.sqrt(_ellipse(x, y, 0, 0, shell_x, shell_y))
    off = np.abs(radius - 1) * 0.5 * (shell_x + shell_y)
    slope = 52 * (1 - y / shell_y) / 2
    level = np.mod(z + slope + 6, 25) - 12.5
    rib = (off**2 / 4.2**2 + level**2 / 6.2**2) < 1
    front = (y < -0.72 * shell_y) & (np.abs(x) < 55)
    if -125 <= z <= 126:
        hu[rib] = np.where(front, CARTILAGE, CORTEX)[rib]
        marrow = (off**2 / 2.4**2 + level**2 / 4.2**2) < 1
        hu[marrow & ~front] = MARROW
    if -70 < z < 85:
        hu[_ellipse(x, y, 0, -depth - 8, 19, 7) < 1] = CORTEX * 0.6
        hu[_ellipse(x, y, 0, -depth - 8, 16, 4.5) < 1] = MARROW
    center = depth * 0.82
    disc = np.mod(z, 27) < 6
    hu[_ellipse(x, y, 0, center, 20, 17) < 1] = DISC if disc else CORTEX * 0.7
    hu[_ellipse(x, y, 0, center, 17.5, 14.5) < 1] = DISC if disc else MARROW
    hu[_ellipse(x, y, 0, center + 27, 17, 12) < 1] = CORTEX * 0.75
    hu[_ellipse(x, y, 0, center + 26, 9, 8.5) < 1] = CANAL
    if not disc:
        in_muscle = hu == MUSCLE
        hu[in_muscle & (_ellipse(x, y, 0, center + 50, 4, 15) < 1)] = CORTEX * 0.7
        hu[_ellipse(x, y, 0, center + 24, 36, 5) < 1] = CORTEX * 0.6
        hu[_ellipse(x, y, 0, center + 26, 9, 8.5) < 1] = CANAL


def _heart(anatomy: Anatomy, x: Plane, y: Plane, z: float) -> Mask:
    """Return the heart in its pericardium."""
    size = anatomy.heart
    height = (z + 48) / (62 * size)
    if abs(height) >= 1:
        return np.zeros(x.shape, dtype=bool)
    across = float(np.sqrt(1 - height**2))
    tilt = x * 0.9 + (y + 32) * 0.35
    heart: Mask = _ellipse(tilt, y, 20, -34, 60 * size * across, 44 * size * across) < 1
    return heart


def _mediastinum(x: Plane, y: Plane, z: float, depth: float) -> Mask:
    width = 26 + 10 * np.exp(-(((z - 15) / 30) ** 2)) + 14 * max(0.0, (z - 70) / 60)
    waist: Mask = np.abs(x) < width * np.exp(-(((y - 0.1 * depth) / (0.75 * depth)) ** 2)) + 2.5
    return waist


def _diaphragm(anatomy: Anatomy, x: Plane, y: Plane) -> Plane:
    """Return the height of the diaphragm: two domes, deepest in the posterior recess.

    The recess ends above the lowest slice, so the lungs are complete.
    """
    right = (((x + 68) / 70) ** 2 + ((y + 8) / 78) ** 2) * 46
    left = (((x - 72) / 66) ** 2 + ((y + 4) / 78) ** 2) * 42
    dome = np.where(x < 0, anatomy.dome_right_mm, anatomy.dome_left_mm)
    deepest = dome - RECESS_MM
    fall = 1 - np.exp(-np.where(x < 0, right, left) / deepest)
    height: Plane = (dome - deepest * fall).astype(np.float32)
    return height


def _abdomen(hu: Plane, anatomy: Anatomy, x: Plane, y: Plane, z: float, inside: Mask) -> None:
    """Paint the organs below the diaphragm, with gas in stomach and colon."""
    hu[inside] = LIVER
    hu[inside & (x > 5) & (y > 10)] = SPLEEN
    stomach = inside & (_ellipse(x, y, 62, -18, 46, 40) < 1)
    hu[stomach] = 25
    drop = anatomy.dome_left_mm - z
    if drop > 8:
        hu[stomach & (y < -22) & (_ellipse(x, y, 60, -28, 36, 26) < 1)] = -990
    if drop > 22:
        for cx, cy, r in ((95, 18, 17), (20, -62, 15), (-40, -66, 13)):
            bowel = _ellipse(x, y, cx, cy, r + 2.5, (r + 2.5) * 0.8) < 1
            hu[inside & bowel] = 40
            hu[inside & (_ellipse(x, y, cx, cy, r, r * 0.8) < 1)] = -970


def _great_vessels(x: Plane, y: Plane, z: float) -> Mask:
    """Return aorta, superior vena cava, pulmonary trunk, and the arteries of head and arms."""
    circles = []
    if z < 52:
        circles.append((24, 48, 12.5))
    if -25 < z < 50:
        circles += [(-14, -26, 15), (-30, -10, 9)]
    if -12 < z < 22:
        circles.append((14, -22, 14))
    if z > 60:
        circles += [(-22, -8, 5.5), (-12, -24, 5.5), (14, -14, 5.5), (26, -2, 5.5)]
    vessels = np.zeros(x.shape, dtype=bool)
    for cx, cy, radius in circles:
        vessels |= _ellipse(x, y, cx, cy, radius, radius) < 1
    if 42 < z < 62:
        vessels |= _ellipse(x - 0.25 * y, y, 4, 12, 13, 42) < 1
    return vessels
