"""Outlines of masks as SCOORD polylines (PS3.3 C.18.6)."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

_FINER = 3
_TOLERANCE = 0.5 * _FINER
"""How far a simplified outline may lie from the traced outline: half a pixel."""
_MOST_POINTS = 2000
"""The point budget of an outline; the 16-bit length of Graphic Data holds 8191 (PS3.5 7.1.2)."""
_LEAST_CORNERS = 3


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the closed outline of the largest part of a mask (row, column).

    The result is (n, 2) as (column, row) in image coordinates: the corner of the first pixel is
    (0, 0), its centre (0.5, 0.5). The last point repeats the first. The outline is simplified by
    at most half a pixel; further only if it would have more than ``_MOST_POINTS`` points.

    Raises:
        ValueError: The mask is empty.
    """
    return part_outlines(mask)[0]


def part_outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the closed outline of each part of a mask (row, column), the largest part first.

    Each has the form that :func:`outline` returns; holes have no outline.

    Raises:
        ValueError: The mask is empty.
    """
    contours, _ = cv2.findContours(_enlarged(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        raise ValueError("an empty mask has no outline")
    return [_closed(contour) for contour in sorted(contours, key=cv2.contourArea, reverse=True)]


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return every closed outline of a mask (row, column), including the outlines of holes.

    Each has the form that :func:`outline` returns. An empty mask has none.
    """
    contours, _ = cv2.findContours(_enlarged(mask), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [_closed(contour) for contour in contours]


def _enlarged(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a mask with each pixel repeated ``_FINER`` times in both directions."""
    return mask.repeat(_FINER, axis=0).repeat(_FINER, axis=1).astype(np.uint8)


def _closed(contour: MatLike) -> NDArray[np.float64]:
    """Return a contour of an enlarged mask in image coordinates, simplified and closed."""
    tolerance = _TOLERANCE
    line = cv2.approxPolyDP(contour, tolerance, closed=True)
    while len(line) >= _MOST_POINTS:
        tolerance *= 1.2
        line = cv2.approxPolyDP(contour, tolerance, closed=True)
    if len(line) < _LEAST_CORNERS:  # a region as thin as the tolerance keeps its shape
        line = contour
    points = (line.reshape(-1, 2).astype(np.float64) + 0.5) / _FINER
    return np.vstack([points, points[:1]])


def part_at(mask: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
    """Return the connected part (8-neighbourhood) of a mask that contains a pixel."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    part: NDArray[np.bool_] = parts == parts[row, column]
    return part


def beside(mask: NDArray[np.bool_], step: Literal[1, -1]) -> NDArray[np.bool_]:
    """Return a box beside a mask (row, column), as large as the bounding box of the mask.

    ``step`` 1 places it at higher columns, -1 at lower columns. The box is clipped to the image;
    at least the column at the edge remains.

    Raises:
        ValueError: The mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no neighbouring box")
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    width, last = int(columns[-1] - columns[0]), mask.shape[1] - 1
    near = int(columns[-1] + 1) if step > 0 else int(columns[0] - 1)
    first, final = sorted(min(max(at, 0), last) for at in (near, near + step * width))
    region = np.zeros(mask.shape, dtype=bool)
    region[rows[0] : rows[-1] + 1, first : final + 1] = True
    return region
