"""Perturbations of the grey values of a volume: kernels, noise, calibration, low dose.

Each function returns a new volume on the same grid. Random numbers depend on the seed and on the
index of the slice only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume
from inference.loading.pixels import AIR_HU

Plane = NDArray[np.float32]

_WATER_PER_MM = 0.02
"""Attenuation of water at CT energies."""
_USUAL_MM = 250.0
"""Water path at which a low-dose scan has the noise that was asked for."""
_MOST_MM = 360.0
"""Longer paths get no more noise: scanners raise the tube current there."""
_STREAKS = 0.5
"""Standard deviation of the streaks along rows, as a part of the noise."""


def blurred(volume: Volume, *, sigma: float) -> Volume:
    """Return the volume of a smoother kernel: a Gaussian of ``sigma`` pixels in the plane."""
    return _each_plane(volume, lambda plane, _: _gaussian(plane, sigma))


def sharpened(volume: Volume, *, sigma: float, amount: float) -> Volume:
    """Return the volume of a sharper kernel: an unsharp mask of ``sigma`` pixels."""
    return _each_plane(volume, lambda plane, _: plane + amount * (plane - _gaussian(plane, sigma)))


def noisy(volume: Volume, *, sd: float, seed: int) -> Volume:
    """Return the volume with white noise of standard deviation ``sd`` HU."""
    return _each_plane(
        volume,
        lambda plane, index: (
            plane + np.random.default_rng((seed, index)).normal(0.0, sd, plane.shape)
        ),
    )


def shifted(volume: Volume, *, hu: float) -> Volume:
    """Return the volume of a scanner whose calibration is off by ``hu``."""
    return _each_plane(volume, lambda plane, _: plane + hu)


def low_dose(volume: Volume, *, sd: float, seed: int) -> Volume:
    """Return the volume with the noise of few photons.

    The noise grows with the attenuation of the horizontal and vertical rays through a pixel;
    behind 250 mm of water it is ``sd`` HU. Rays from side to side, which cross most tissue, also
    leave streaks along the rows.
    """

    def change(plane: Plane, index: int) -> NDArray[np.float64]:
        random = np.random.default_rng((seed, index))
        across, down = _ray_noise(plane, volume.geometry.pixel_spacing)
        each_pixel = np.sqrt((across[:, None] ** 2 + down[None, :] ** 2) / 2)
        streaks = _STREAKS * across * random.normal(0.0, 1.0, across.shape)
        return plane + sd * (each_pixel * random.normal(0.0, 1.0, plane.shape) + streaks[:, None])

    return _each_plane(volume, change)


def _ray_noise(
    plane: Plane, spacing: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the noise of the ray along each row and along each column; 1 behind 250 mm of water.

    The noise of a ray is the inverse square root of its photons (Beer and Lambert).
    """
    water = np.clip(plane.astype(np.float64) + 1000.0, 0.0, 2000.0) / 1000.0
    paths = (water.sum(axis=1) * spacing[1], water.sum(axis=0) * spacing[0])
    across, down = (
        np.exp(0.5 * _WATER_PER_MM * (np.minimum(path, _MOST_MM) - _USUAL_MM)) for path in paths
    )
    return across, down


def _gaussian(plane: Plane, sigma: float) -> Plane:
    smooth: Plane = ndimage.gaussian_filter(plane, sigma, mode="nearest")
    return smooth


def _each_plane(volume: Volume, change: Callable[[Plane, int], NDArray[np.floating]]) -> Volume:
    """Return the volume with each slice changed, rounded, and no lower than padding."""
    hu = np.empty_like(volume.hu)
    for index, plane in enumerate(volume.hu):
        hu[index] = np.clip(np.rint(change(plane.astype(np.float32), index)), AIR_HU, 32767)
    return replace(volume, hu=hu)
