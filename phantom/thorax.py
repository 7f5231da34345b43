"""Assembles the phantom from anatomy, trees, lesions and scanner, with the exact truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume
from phantom import trees
from phantom.anatomy import Anatomy, paint
from phantom.fields import SmoothNoise
from phantom.spec import Kernel, LesionKind, LesionSpec, PhantomSpec
from phantom.volume import canonical_volume

_WALL_HU, _LUMEN_HU, _VESSEL_HU = 30.0, -990.0, 35.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thorax:
    """The phantom on its grid.

    Arrays are (slice, row, column); the slice index grows towards the head, rows towards
    the back, columns towards the patient's left: Image Orientation (1, 0, 0, 0, 1, 0).

    Attributes:
        hu: int16.
        left_lung, right_lung: bool; lesions included, trachea and main bronchi not.
        lesion: uint8; 0, or the number of the lesion in the spec, counted from 1.
        origin: Centre of voxel (0, 0, 0), LPS mm.
        spacing: mm along (slice, row, column).
    """

    spec: PhantomSpec
    hu: NDArray[np.int16]
    left_lung: NDArray[np.bool_]
    right_lung: NDArray[np.bool_]
    lesion: NDArray[np.uint8]
    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]

    def volume(self) -> Volume:
        """Return the phantom as the loader would."""
        return canonical_volume(self.hu, self.spacing, self.origin)

    def volume_ml(self, mask: NDArray[np.bool_]) -> float:
        """Return the exact volume of a mask on this grid."""
        return float(mask.sum()) * float(np.prod(self.spacing)) / 1000


def make_thorax(spec: PhantomSpec) -> Thorax:
    """Make the phantom; the same spec always gives the same voxels."""
    spacing = (spec.slice_spacing_mm, spec.pixel_spacing_mm, spec.pixel_spacing_mm)
    origin = (
        -(spec.shape[2] - 1) / 2 * spacing[2],
        -(spec.shape[1] - 1) / 2 * spacing[1] + 18.0,
        spec.first_slice_mm,
    )
    hu, left, right = _paint_all(spec, origin)
    vessel_least = 0.75 if spec.pixel_spacing_mm < 1 else 1.2
    airway = trees.central_airways()
    central_wall = trees.rasterise(airway.widened(1.8), spec.shape, spacing, origin)
    left &= central_wall < 0.5
    right &= central_wall < 0.5
    lungs = left | right
    _fill_lungs(hu, lungs, spec, origin)
    vessels = trees.rasterise(trees.vessels(spec.seed, vessel_least), spec.shape, spacing, origin)
    _blend(hu, vessels * lungs, _VESSEL_HU)
    bronchi = trees.peripheral_airways(spec.seed)
    walls = trees.rasterise(bronchi.widened(0.8), spec.shape, spacing, origin)
    _blend(hu, walls * lungs * 0.7, _WALL_HU)
    lesion = _add_lesions(hu, left, right, spec)
    _blend(hu, trees.rasterise(bronchi, spec.shape, spacing, origin) * lungs, _LUMEN_HU)
    _blend(hu, central_wall, _WALL_HU)
    _blend(hu, trees.rasterise(airway, spec.shape, spacing, origin), _LUMEN_HU)
    return Thorax(
        spec=spec,
        hu=_scan(hu, spec),
        left_lung=left,
        right_lung=right,
        lesion=lesion,
        origin=origin,
        spacing=spacing,
    )


def _blend(hu: NDArray[np.float32], share: NDArray[np.float32], value: float) -> None:
    hu += share * (value - hu)


def _paint_all(
    spec: PhantomSpec, origin: tuple[float, float, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    anatomy = Anatomy.of(spec.seed)
    step = spec.pixel_spacing_mm
    rows = origin[1] + step * np.arange(spec.shape[1], dtype=np.float32)
    columns = origin[0] + step * np.arange(spec.shape[2], dtype=np.float32)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    hu = np.empty(spec.shape, dtype=np.float32)
    left, right = np.empty(spec.shape, dtype=bool), np.empty(spec.shape, dtype=bool)
    for index in range(spec.shape[0]):
        painted = paint(anatomy, x, y, origin[2] + index * spec.slice_spacing_mm)
        hu[index], left[index], right[index] = painted.hu, painted.left, painted.right
    return hu, left, right


def _fill_lungs(
    hu: NDArray[np.float32],
    lungs: NDArray[np.bool_],
    spec: PhantomSpec,
    origin: tuple[float, float, float],
) -> None:
    """Fill the lungs with parenchyma: denser at the back, uneven, with oblique fissures."""
    random = np.random.default_rng((spec.seed, 4))
    spacing = (spec.slice_spacing_mm, spec.pixel_spacing_mm, spec.pixel_spacing_mm)
    base = Anatomy.of(spec.seed).parenchyma_hu
    patchy = SmoothNoise(random, spec.shape, spacing, 30.0)
    fine = SmoothNoise(random, spec.shape, spacing, 3.0)
    y = (origin[1] + spec.pixel_spacing_mm * np.arange(spec.shape[1], dtype=np.float32))[:, None]
    for index in range(spec.shape[0]):
        z = origin[2] + index * spec.slice_spacing_mm
        content = base + 0.22 * y + 14 * patchy.plane(index) + 16 * fine.plane(index)
        fissure = np.abs(0.62 * z - 0.78 * y + 14 + 3 * patchy.plane(index)) < 0.7
        content = np.where(fissure, content + 160, content)
        hu[index][lungs[index]] = content[lungs[index]]


def _add_lesions(
    hu: NDArray[np.float32],
    left: NDArray[np.bool_],
    right: NDArray[np.bool_],
    spec: PhantomSpec,
) -> NDArray[np.uint8]:
    """Paint the lesions and return their labels."""
    truth = np.zeros(spec.shape, dtype=np.uint8)
    for number, lesion in enumerate(spec.lesions, start=1):
        lung = left if lesion.side == "left" else right
        random = np.random.default_rng((spec.seed, 5, number))
        _add_lesion(hu, truth, lung, lesion, number, spec, random)
    return truth


def _add_lesion(
    hu: NDArray[np.float32],
    truth: NDArray[np.uint8],
    lung: NDArray[np.bool_],
    lesion: LesionSpec,
    number: int,
    spec: PhantomSpec,
    random: np.random.Generator,
) -> None:
    """Paint one lesion: an ellipsoid with an uneven border, clipped to its lung.

    The truth is where more than half of the lesion's density is reached.
    """
    spacing = np.array([spec.slice_spacing_mm, spec.pixel_spacing_mm, spec.pixel_spacing_mm])
    box = ndimage.find_objects(lung.astype(np.uint8))[0]
    away = lesion.center[2] if lesion.side == "left" else 1 - lesion.center[2]
    place = (lesion.center[0], lesion.center[1], away)
    center = [
        part.start + at * (part.stop - 1 - part.start) for part, at in zip(box, place, strict=True)
    ]
    radii = np.array(lesion.radius_mm) / spacing
    low = np.maximum(0, np.floor(center - 1.6 * radii)).astype(int)
    high = np.minimum(spec.shape, np.ceil(center + 1.6 * radii) + 1).astype(int)
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    border = SmoothNoise(random, spec.shape, tuple(spacing), 12.0)
    texture = SmoothNoise(random, spec.shape, tuple(spacing), 4.0)
    grids = np.ogrid[window]
    distance = np.sqrt(
        sum(((g - c) / r) ** 2 for g, c, r in zip(grids, center, radii, strict=True))
    ).astype(np.float32)
    planes = range(low[0], high[0])
    inside = (slice(low[1], high[1]), slice(low[2], high[2]))
    distance += 0.16 * np.stack([border.plane(k)[inside] for k in planes])
    grain = np.stack([texture.plane(k)[inside] for k in planes])
    share = np.clip((1.12 - distance) / 0.24, 0, 1) * lung[window]
    part = hu[window]
    part += share * (_density(part, grain, lesion.kind) - part)
    truth[window][share >= 0.5] = number


def _density(
    hu: NDArray[np.float32], grain: NDArray[np.float32], kind: LesionKind
) -> NDArray[np.float32]:
    """Return the HU of a lesion where the lung had ``hu``."""
    if kind is LesionKind.GROUND_GLASS:
        return np.maximum(hu, -590 + 65 * grain + 0.25 * (hu + 860))
    return np.maximum(hu, 15 + 22 * grain)


def _scan(hu: NDArray[np.float32], spec: PhantomSpec) -> NDArray[np.int16]:
    """Apply the scanner: slice profile, kernel, noise, 12 bits."""
    random = np.random.default_rng((spec.seed, 6))
    hu = ndimage.convolve1d(hu, [0.12, 0.76, 0.12], axis=0, mode="nearest")
    out = np.empty(spec.shape, dtype=np.int16)
    for index, plane in enumerate(hu):
        noise = random.normal(0, 1, plane.shape).astype(np.float32)
        if spec.kernel is Kernel.SHARP:
            smooth = ndimage.gaussian_filter(plane, 0.5)
            smooth = smooth + 0.5 * (smooth - ndimage.gaussian_filter(smooth, 1.2))
            noise -= 0.7 * ndimage.gaussian_filter(noise, 1.0)
        else:
            smooth = ndimage.gaussian_filter(plane, 0.8)
            noise = ndimage.gaussian_filter(noise, 0.8)
        noise *= spec.noise_hu / noise.std()
        out[index] = np.clip(np.round(smooth + noise), -1024, 3071)
    return out
