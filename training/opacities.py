"""Synthetic opacities for lungs in Hounsfield units, with the exact truth.

They look as COVID-19 pneumonia does on CT (Parekh et al. 2020; Pezzano et al. 2021):
ground-glass through which vessels stay visible, consolidation that hides them, crazy paving
(ground-glass under a net of thick septa) and mixtures, mostly peripheral and basal, as round
patches or as crescents along the pleura.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Spacing = tuple[float, float, float]


class Texture(StrEnum):
    """The texture of an opacity."""

    GROUND_GLASS = "ground-glass"
    CRAZY_PAVING = "crazy paving"
    MIXED = "ground-glass with a consolidated core"
    CONSOLIDATION = "consolidation"


_TEXTURES = (Texture.GROUND_GLASS, Texture.CRAZY_PAVING, Texture.MIXED, Texture.CONSOLIDATION)
_TEXTURE_SHARES = (0.45, 0.12, 0.2, 0.23)
_BRONCHUS_HU = -800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opacity:
    """One opacity.

    Attributes:
        center: Voxel (slice, row, column).
        radii_mm: Semi-axes along slice, row and column.
        crescent_mm: It reaches no deeper than this from the pleura; None: a patch.
        density_hu: What ground-glass adds to the lung, or what consolidation is.
        core_hu: The consolidated core of a mixture.
        edge_mm: Over how much it fades out.
        roughness: How uneven its border is; 0 is an ellipsoid.
        seed: Decides border and texture.
        open_bronchi: Bronchi that still hold air run through a consolidation (air bronchogram).
    """

    texture: Texture
    center: tuple[int, int, int]
    radii_mm: tuple[float, float, float]
    crescent_mm: float | None
    density_hu: float
    core_hu: float
    edge_mm: float
    roughness: float
    seed: int
    open_bronchi: bool = False


def pleural_depth(lungs: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float32]:
    """Return the distance of each lung voxel from the surface of the lungs, float32 mm.

    Positive exactly inside the lungs. Measured on every fourth row and column, linear between
    them: the depth only shapes opacities.
    """
    coarse = lungs[:, ::4, ::4]
    distance = ndimage.distance_transform_edt(
        coarse, sampling=(spacing[0], 4 * spacing[1], 4 * spacing[2])
    ).astype(np.float32)
    rows, columns = lungs.shape[1:]
    fine = np.stack([cv2.resize(plane, (columns, rows)) for plane in distance])
    inside: NDArray[np.float32] = np.where(lungs, np.maximum(fine, min(spacing) / 2), 0)
    return inside.astype(np.float32)


def draw_opacities(
    depth: NDArray[np.float32], spacing: Spacing, random: np.random.Generator
) -> tuple[Opacity, ...]:
    """Draw one to nine opacities in lungs of the given pleural depth, float32 mm.

    Sizes run from nodules of 5 mm to spread over most of a lobe; one scan in four is diffuse.
    """
    inside = np.argwhere(depth[:, ::4, ::4] > 0) * (1, 4, 4)
    diffuse = random.random() < 1 / 4
    size = random.uniform(28, 65) if diffuse else random.uniform(7, 32)
    count = int(random.integers(2, 7) if diffuse else random.integers(1, 10))
    return tuple(_draw(depth, inside, spacing, size, random) for _ in range(count))


def _draw(
    depth: NDArray[np.float32],
    inside: NDArray[np.int64],
    spacing: Spacing,
    size: float,
    random: np.random.Generator,
) -> Opacity:
    """Draw an opacity of about ``size`` mm at one of the places ``inside`` the lungs."""
    texture = _TEXTURES[int(random.choice(len(_TEXTURES), p=_TEXTURE_SHARES))]
    candidates = inside[random.integers(0, len(inside), int(random.integers(1, 4)))]
    # The preferred of a few places is mostly peripheral, posterior and basal.
    height, back = candidates[:, 0] * spacing[0], candidates[:, 1] * spacing[1]
    preference = back - 0.4 * height - 3 * depth[tuple(candidates.T)]
    place = candidates[int(np.argmax(preference))]
    solid = texture is Texture.CONSOLIDATION
    return Opacity(
        texture=texture,
        center=(int(place[0]), int(place[1]), int(place[2])),
        radii_mm=(draw_radius(size, random), draw_radius(size, random), draw_radius(size, random)),
        crescent_mm=float(random.uniform(6, 25)) if random.random() < 0.3 else None,
        density_hu=float(random.uniform(-90, 70) if solid else random.uniform(120, 430)),
        core_hu=float(random.uniform(-200, 50)),
        edge_mm=float(random.uniform(0.5, 9)),
        roughness=float(random.uniform(0, 0.45)),
        seed=int(random.integers(2**31)),
    )


def draw_radius(size: float, random: np.random.Generator) -> float:
    """Draw a radius around ``size``."""
    return float(size * np.exp(random.normal(0, 0.35)))


def paint(
    hu: NDArray[np.float32],
    depth: NDArray[np.float32],
    spacing: Spacing,
    opacity: Opacity,
    grain_hu: float,
) -> NDArray[np.bool_]:
    """Paint an opacity into ``hu`` (slice, row, column) and return its truth.

    The truth is the lung where at least half of the opacity's density is reached. Solid parts
    get noise of standard deviation ``grain_hu``: they hide the lung together with its noise.
    """
    truth = np.zeros(hu.shape, dtype=bool)
    window = _window(opacity, spacing, hu.shape)
    part, lung = hu[window], depth[window] > 0
    if not lung.any():
        return truth
    random = np.random.default_rng(opacity.seed)
    distance = _distance(opacity, window, depth[window], spacing, random)
    width = opacity.edge_mm / float(np.mean(opacity.radii_mm))
    share = np.clip(0.5 + (1 - distance) / width, 0, 1) * lung
    part += share * (_density(opacity, part, distance, spacing, grain_hu, random) - part)
    truth[window] = share >= 0.5
    return truth


def _window(
    opacity: Opacity, spacing: Spacing, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """Return the box of the volume that an opacity can reach."""
    reach = 1.5 * np.array(opacity.radii_mm) + opacity.edge_mm
    low = np.maximum(0, np.floor(opacity.center - reach / spacing)).astype(int)
    high = np.minimum(shape, np.ceil(opacity.center + reach / spacing) + 1).astype(int)
    first, second, third = (slice(a, b) for a, b in zip(low, high, strict=True))
    return first, second, third


def _distance(
    opacity: Opacity,
    window: tuple[slice, slice, slice],
    depth: NDArray[np.float32],
    spacing: Spacing,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the distance of each voxel from the centre: 1 on the border of the opacity."""
    squares = [
        ((np.arange(span.start, span.stop, dtype=np.float32) - at) * step / radius) ** 2
        for span, at, step, radius in zip(
            window, opacity.center, spacing, opacity.radii_mm, strict=True
        )
    ]
    distance = np.sqrt(
        squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
    )
    if opacity.crescent_mm is not None:
        distance = np.maximum(distance, depth / np.float32(opacity.crescent_mm))
    if opacity.roughness:
        coarse = _field(random, distance.shape, spacing, 14.0)
        fine = _field(random, distance.shape, spacing, 5.0)
        distance += opacity.roughness * (0.8 * coarse + 0.35 * fine)
    return distance


def _density(
    opacity: Opacity,
    lung: NDArray[np.float32],
    distance: NDArray[np.float32],
    spacing: Spacing,
    grain_hu: float,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the HU of the ``lung`` wherever the opacity fills it whole."""
    grain = _field(random, lung.shape, spacing, 4.0)
    noise = ndimage.gaussian_filter(
        random.normal(size=lung.shape).astype(np.float32), (0, 0.7, 0.7)
    )
    noise *= grain_hu / max(1e-6, float(noise.std()))
    if opacity.texture is Texture.CONSOLIDATION:
        solid = np.maximum(lung, opacity.density_hu + 25 * grain + noise)
        if opacity.open_bronchi:
            # Two smooth fields are both zero along curves.
            first, second = (_field(random, lung.shape, spacing, 18.0) for _ in range(2))
            solid += np.exp(-(first**2 + second**2) / 0.02) * (_BRONCHUS_HU - solid)
        return solid
    # Ground-glass adds less where the lung holds less air: vessels stay visible.
    air = np.clip(-lung / 850, 0.1, 1)
    glass = lung + air * opacity.density_hu * (1 + 0.22 * grain)
    if opacity.texture is Texture.CRAZY_PAVING:
        septa = np.clip(1 - np.abs(_field(random, lung.shape, spacing, 7.0)) / 0.3, 0, 1)
        glass += air * 220 * septa
    if opacity.texture is Texture.MIXED:
        core = np.clip((0.65 - distance) / 0.2 + 0.4 * grain, 0, 1)
        glass += core * (np.maximum(glass, opacity.core_hu + 20 * grain + noise) - glass)
    return glass


def _field(
    random: np.random.Generator, shape: tuple[int, ...], spacing: Spacing, length_mm: float
) -> NDArray[np.float32]:
    """Return smooth noise of unit variance with a correlation length, float32."""
    coarse = [
        max(2, int(count * step / length_mm) + 2)
        for count, step in zip(shape, spacing, strict=True)
    ]
    knots = random.normal(size=coarse).astype(np.float32)
    size = (shape[2], shape[1])
    planes = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC) for plane in knots])
    at = np.linspace(0, len(planes) - 1, shape[0])
    low = np.minimum(at.astype(int), len(planes) - 2)
    rest = (at - low).astype(np.float32)[:, None, None]
    field = (1 - rest) * planes[low] + rest * planes[low + 1]
    deviation = float(field.std())
    scaled: NDArray[np.float32] = (field / deviation if deviation > 0 else field).astype(np.float32)
    return scaled
