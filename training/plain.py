"""Plain chests: ellipsoids with hardly any anatomy, as test objects and simple phantoms are.

Their lungs may be perfectly even, or pure noise: no patient has such lungs, but the networks must
call them healthy.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume
from phantom.volume import canonical_volume
from training.data import LEFT, RIGHT, SliceSet
from training.framed import framed, set_of
from training.grey import as_stored
from training.opacities import Spacing, draw_opacities, paint, pleural_depth

PREFIX = "plain-"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainChest:
    """A plain chest, axes (slice, row, column) in canonical orientation.

    Attributes:
        hu: int16.
        sides: uint8: 0, RIGHT or LEFT; opacities belong to the lung.
        lesion: bool, the exact truth.
        spacing: mm along (slice, row, column).
    """

    hu: NDArray[np.int16]
    sides: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    spacing: Spacing

    def volume(self) -> Volume:
        """Return it as the loader would."""
        return canonical_volume(self.hu, self.spacing, (-180.0, -180.0, -150.0))


def make_plain(seed: int, *, lesions: bool) -> PlainChest:
    """Make a plain chest of 48 slices of 256 by 256; the seed decides everything else."""
    random = np.random.default_rng((seed, 300))
    spacing = (random.uniform(4, 8), *(2 * (random.uniform(1.2, 1.8),)))
    shape = (48, 256, 256)
    z, y, x = (
        ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
        for count, step in zip(shape, spacing, strict=True)
    )
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    wide, deep = random.uniform(140, 190), random.uniform(95, 130)
    hu = np.full(shape, -1000, dtype=np.float32)
    body = (x / wide) ** 2 + (y / deep) ** 2 < 1
    hu[np.broadcast_to(body, shape)] = random.uniform(0, 60)
    sides = np.zeros(shape, dtype=np.uint8)
    half = random.uniform(0.28, 0.36) * wide
    for side, sign in ((RIGHT, -1), (LEFT, 1)):
        at = sign * random.uniform(0.48, 0.55) * wide
        lung = (
            ((x - at) / half) ** 2
            + ((y + random.uniform(-8, 8)) / (random.uniform(0.62, 0.8) * deep)) ** 2
            + (z / random.uniform(90, 0.5 * 48 * spacing[0])) ** 2
        ) < 1
        sides[lung] = side
    if random.random() < 0.5:
        heart = (x - 18) ** 2 + (y + 20) ** 2 + (z + 30) ** 2 < random.uniform(35, 55) ** 2
        sides[heart] = 0
    if random.random() < 0.6:
        spine = np.broadcast_to(x**2 + (y - 0.75 * deep) ** 2 < 18**2, shape)
        hu[spine], sides[spine] = random.uniform(150, 500), 0
    lungs = sides > 0
    hu[lungs] = random.uniform(-920, -740)
    if random.random() < 0.4:
        _dot_vessels(hu, lungs, random)
    truth = np.zeros(shape, dtype=bool)
    if lesions:
        depth = pleural_depth(lungs, spacing)
        for opacity in draw_opacities(depth, spacing, random):
            truth |= paint(hu, depth, spacing, opacity, 5.0)
    return PlainChest(hu=_scan(hu, random), sides=sides, lesion=truth, spacing=spacing)


def _dot_vessels(
    hu: NDArray[np.float32], lungs: NDArray[np.bool_], random: np.random.Generator
) -> None:
    """Draw vessels as small bright dots that run through a few slices."""
    for index, row, column in random.permutation(np.argwhere(lungs))[:600]:
        part = slice(index, index + int(random.integers(1, 4)))
        size = int(random.integers(1, 4))
        place = (part, slice(row, row + size), slice(column, column + size))
        hu[place] = np.where(lungs[place], random.uniform(-600, 40), hu[place])


def _scan(hu: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int16]:
    """Blur the borders, or not, and add white or smooth noise, or none."""
    if random.random() < 0.7:
        blur = random.uniform(0.4, 1.0)
        hu = np.stack([cv2.GaussianBlur(plane, (0, 0), blur) for plane in hu])
    noise = random.normal(size=hu.shape).astype(np.float32)
    if random.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, (0, 0.7, 0.7))
    noise *= random.choice([0.0, 3.0, 10.0, 20.0, 35.0]) / float(noise.std())
    return as_stored(hu + noise)


def plain_slices(seeds: range) -> SliceSet:
    """Return the slices of one plain chest per seed; every third chest has no lesion."""
    chests = [make_plain(seed, lesions=seed % 3 != 0) for seed in seeds]
    scans = [framed(chest.volume(), chest.sides, chest.lesion) for chest in chests]
    return set_of(scans, [f"{PREFIX}{seed}" for seed in seeds])
