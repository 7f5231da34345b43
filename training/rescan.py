"""Varies a scan: another breath, and another reconstruction by another scanner."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.opacities import Spacing


def rebreathe(
    hu: NDArray[np.float32], lungs: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    """Return HU (slice, row, column) of the same lungs with more or less air in them.

    How dense a healthy lung is depends on the depth of the breath, and its back is denser
    than its front in a patient who lies on it (Verschakelen et al., AJR 1993;161:713).
    Vessels, which hold no air, stay as they are. Rows run to the back.
    """
    rows = np.flatnonzero(lungs.any(axis=(0, 2)))
    back = np.clip((np.arange(hu.shape[1]) - rows[0]) / max(1, len(rows) - 1), 0, 1)
    change = random.uniform(-40, 60) + random.uniform(0, 70) * back
    air = np.clip(-hu / 850, 0, 1) * lungs
    return hu + air * change.astype(np.float32)[None, :, None]


def rescan(
    hu: NDArray[np.float32], random: np.random.Generator, spacing: Spacing
) -> NDArray[np.float32]:
    """Return HU (slice, row, column) as a thicker, smoother or sharper, noisier scan gives them.

    Streaks run from side to side, where the shoulders or the spine let few photons through.
    """
    if random.random() < 0.4:
        edge = random.uniform(0.1, 1 / 3)
        hu = ndimage.convolve1d(hu, [edge, 1 - 2 * edge, edge], axis=0, mode="nearest")
    kernel = random.uniform(-1.0, 1.2) if random.random() < 0.6 else 0.0
    noise_hu = random.uniform(0, 60) if random.random() < 0.6 else 0.0
    grain = random.uniform(0.3, 0.9)
    streaks_hu = random.uniform(5, 50) if random.random() < 0.3 else 0.0
    planes = [_filtered(plane, kernel / spacing[1]) for plane in hu]
    planes = [_noisy(plane, noise_hu, (grain, grain), random) for plane in planes]
    return np.stack([_noisy(plane, streaks_hu, (12.0, 0.7), random) for plane in planes])


def _filtered(plane: NDArray[np.float32], kernel: float) -> NDArray[np.float32]:
    """Blur by a standard deviation of ``kernel`` pixels, or sharpen if it is negative."""
    if not kernel:
        return plane
    smooth = np.asarray(cv2.GaussianBlur(plane, (0, 0), abs(kernel)), dtype=np.float32)
    return smooth if kernel > 0 else plane + (plane - smooth)


def _noisy(
    plane: NDArray[np.float32],
    noise_hu: float,
    grain: tuple[float, float],
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Add noise of a standard deviation; ``grain`` in pixels along columns and along rows."""
    if not noise_hu:
        return plane
    noise = cv2.GaussianBlur(
        random.normal(size=plane.shape).astype(np.float32), (0, 0), grain[0], sigmaY=grain[1]
    )
    return plane + noise * np.float32(noise_hu / float(noise.std()))
