"""The axes of a lesion by a slow search that shares no code with the product."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

Spacing = tuple[float, float]
Ends = tuple[tuple[int, int], tuple[int, int]]


def slow_longest(part: NDArray[np.bool_], spacing: Spacing) -> tuple[float, Ends]:
    """Compare every pixel with every other; the first of the longest pairs counts."""
    pixels = [(int(row), int(column)) for row, column in np.argwhere(part)]
    longest, ends = -1.0, (pixels[0], pixels[0])
    for index, first in enumerate(pixels):
        for second in pixels[index:]:
            length = float(np.hypot(*np.multiply(np.subtract(second, first), spacing)))
            if length > longest + 1e-6:
                longest, ends = length, (first, second)
    return longest, ends


def slow_chord(part: NDArray[np.bool_], axis: Ends, spacing: Spacing) -> float:
    """Cut each cell between four pixel centres with many lines, and join what touches."""
    along = np.subtract(axis[1], axis[0]) * spacing
    if not along.any():
        return 0.0
    along = along / np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    cells = []
    for row, column in product(*(range(size - 1) for size in part.shape)):
        square = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        corners = np.array([pixel for pixel in square if part[pixel]], dtype=float)
        if len(corners) >= 3:
            cells.append(corners * spacing)
    lines = {float(pixel * spacing @ along) for pixel in np.argwhere(part)}
    return max(
        (_cut(cells, line + aside, along, across) for line in lines for aside in (-1e-7, 1e-7)),
        default=0.0,
    )


def _cut(
    cells: list[NDArray[np.float64]],
    line: float,
    along: NDArray[np.float64],
    across: NDArray[np.float64],
) -> float:
    """Return the longest piece of a line inside the cells."""
    pieces = []
    for corners in cells:
        places = []
        for first, last in pairwise([*corners, corners[0]]):
            low, high = first @ along, last @ along
            if (low > line) != (high > line):
                share = (line - low) / (high - low)
                places.append(float((first + share * (last - first)) @ across))
        if places:
            pieces.append((min(places), max(places)))
    longest, begin, end = 0.0, -np.inf, -np.inf
    for low, high in sorted(pieces):
        begin = begin if low <= end + 1e-6 else low
        end = max(end, high) if low <= end + 1e-6 else high
        longest = max(longest, end - begin)
    return longest
