"""Smooth random fields in three dimensions, for textures and uneven borders."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


class SmoothNoise:
    """Noise with a correlation length, zero mean and unit variance, sampled plane by plane."""

    def __init__(
        self,
        random: np.random.Generator,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        length_mm: float,
    ) -> None:
        """Prepare the field for a grid of ``shape`` and ``spacing`` (slice, row, column)."""
        self._planes, self._size = shape[0], (shape[2], shape[1])
        coarse = [
            max(3, int(count * step / length_mm) + 2)
            for count, step in zip(shape, spacing, strict=True)
        ]
        self._knots = random.normal(size=coarse).astype(np.float32)

    def plane(self, index: int) -> NDArray[np.float32]:
        """Return the field in plane ``index``, float32 (row, column)."""
        place = index / max(1, self._planes - 1) * (len(self._knots) - 1)
        low = min(int(place), len(self._knots) - 2)
        part = place - low
        mixed = (1 - part) * self._knots[low] + part * self._knots[low + 1]
        mixed = mixed / np.sqrt((1 - part) ** 2 + part**2)
        scaled: NDArray[np.float32] = cv2.resize(
            mixed.astype(np.float32), self._size, interpolation=cv2.INTER_CUBIC
        )
        return scaled
