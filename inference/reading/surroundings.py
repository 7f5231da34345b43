"""Drops marks that have no aerated lung around them: dependent density of a shallow breath.

Lung that a patient lies on loses air and looks like ground-glass, without any disease. What lies
around it has lost air as well. Around an opacity there is lung with air, unless it is solid.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_NEAR_MM, _FAR_MM = 2.0, 6.0
"""Distance of the surroundings from a mark."""
_AERATED_HU = -650.0
_SMOOTHING_PIXELS = 1.0
_LEAST_SHARE = 0.25
"""Least part of the surrounding lung that is aerated. On the frames of eight real chests the
largest marks of dependent lung have 0.1 to 0.22, those of pneumonia and tumours 0.28 and more."""
_SOLID_HU = -300.0
"""Mean density from which a mark is consolidation."""
_LARGE_MM2 = 500.0
"""Dependent density is a thin rim; a larger mark is none, and diffuse disease spares no lung."""


def with_air_around(
    marks: NDArray[np.bool_],
    lungs: NDArray[np.bool_],
    hu: NDArray[np.int16],
    pixel_spacing: tuple[float, float],
) -> NDArray[np.bool_]:
    """Return the connected marks of a plane that have aerated lung around them, or need none.

    A mark that is solid or large counts whatever lies around it, and so does a mark around which
    there is no lung.

    Args:
        marks: bool (row, column).
        lungs: bool, likewise.
        hu: int16, likewise.
        pixel_spacing: Distance of rows and of columns, mm.
    """
    kept = np.zeros_like(marks)
    if not marks.any():
        return kept
    smooth = cv2.GaussianBlur(hu.astype(np.float32), (0, 0), _SMOOTHING_PIXELS)
    air = lungs & (np.asarray(smooth) < _AERATED_HU)
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(marks.view(np.uint8), connectivity=8)
    step, largest = max(pixel_spacing), _LARGE_MM2 / (pixel_spacing[0] * pixel_spacing[1])
    reach = 1 + int(_FAR_MM / min(pixel_spacing))
    for number in range(1, count):
        left, top, width, height, area = boxes[number].tolist()
        rows = slice(max(0, top - reach), top + height + reach)
        columns = slice(max(0, left - reach), left + width + reach)
        part = parts[rows, columns] == number
        away = step * np.asarray(cv2.distanceTransform((~part).view(np.uint8), cv2.DIST_L2, 5))
        around = (away > _NEAR_MM) & (away <= _FAR_MM) & lungs[rows, columns]
        needs_air = area < largest and hu[rows, columns][part].mean() < _SOLID_HU
        if needs_air and air[rows, columns][around].sum() < _LEAST_SHARE * around.sum():
            continue
        kept[rows, columns] |= part
    return kept
