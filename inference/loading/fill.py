"""Turns constant fill outside the field of view into air, whether or not a tag declares it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.loading.pixels import AIR_HU

_AIR_ANYWAY_HU = -900
"""Fill below this value already looks like air to the analysis."""
_LEAST_SHARE = 0.01
"""Part of a plane: noise leaves no larger part of a patient exactly constant."""
_MOST_SHARE = 0.9
"""Part of a plane: fill surrounds an image, so it does not cover everything."""
_LEAST_RIM = 0.02
"""Part of the edge of a plane that fill covers at least."""


def fill_as_air(hu: NDArray[np.int16]) -> None:
    """Turn constant fill of a plane (row, column) into air, in place.

    Fill is a connected region of a single value that touches the edge of the image.
    """
    rim = np.concatenate([hu[0], hu[-1], hu[1:-1, 0], hu[1:-1, -1]])
    values, counts = np.unique(rim[rim > _AIR_ANYWAY_HU], return_counts=True)
    for value in values[counts >= _LEAST_RIM * rim.size]:
        count, parts = cv2.connectedComponents((hu == value).astype(np.uint8), connectivity=4)
        at_edge = np.zeros(count, dtype=bool)
        for line in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
            at_edge[line] = True
        at_edge[0] = False
        fill = at_edge[parts]
        if _LEAST_SHARE * hu.size <= fill.sum() <= _MOST_SHARE * hu.size:
            hu[fill] = AIR_HU
