"""Measures the two axes of a lesion in the axial slice with its longest diameter.

The *long axis* is the longest distance between two pixel centres of one connected part of the
lesion in one slice: the longest diameter of RECIST 1.1 (Eisenhauer et al., Eur J Cancer
2009;45:228-247). Its ends lie in the lesion; in a curved lesion the line between them may leave it.

The *short axis* is the longest chord perpendicular to the long axis in the same part of the same
slice, as the Fleischner Society measures nodules (Bankier et al., Radiology 2017;285:584-600). A
chord lies in the lesion with its whole length: it crosses neither a hole nor a bay.

Both axes run between pixel centres: the outline of a part is the polygon through the centres of its
outermost pixels. An axis is at least a pixel wide.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.findings import Diameter

Points = NDArray[np.float64]
Ends = tuple[tuple[int, int], tuple[int, int]]
"""Two pixels (row, column), the one with the smaller row, then column, first."""

_SAME_MM = 1e-6
"""Diameters that differ by less are equally long."""
_ASIDE_MM = 1e-9
"""Chords are measured this far beside a corner, where no line meets two edges in one point."""


def diameter_of(
    lesion: NDArray[np.bool_], corner: tuple[int, int, int], pixel_spacing: tuple[float, float]
) -> Diameter:
    """Return the axes of a lesion.

    Of equally long diameters the one in the lowest slice counts, and there the one whose first
    end, then second end has the smallest row, then column.

    Args:
        lesion: One lesion, not empty: bool (slice, row, column), canonical orientation.
        corner: Slice, row and column of the first voxel in the volume.
        pixel_spacing: Distance between rows, then between columns, mm.
    """
    candidates = (
        (length, index, ends, part)
        for index, plane in enumerate(lesion)
        for part in _parts(plane)
        for length, ends in [_longest(part, pixel_spacing)]
    )
    length, index, ends, part = min(
        candidates, key=lambda found: (-round(found[0] / _SAME_MM), found[1], found[2])
    )
    width = min(pixel_spacing)
    first, second = ((float(corner[1] + row), float(corner[2] + column)) for row, column in ends)
    return Diameter(
        slice_index=corner[0] + index,
        long_axis_mm=max(length, width),
        short_axis_mm=max(longest_chord(part, ends, pixel_spacing), width),
        long_axis=(first, second),
    )


def longest_chord(part: NDArray[np.bool_], axis: Ends, pixel_spacing: tuple[float, float]) -> float:
    """Return the length of the longest chord of a part perpendicular to an axis, mm.

    The length of a chord changes linearly between the corners of the outline, so that the longest
    chord lies at a corner. Outline and holes are crossed in turn: every other piece of a line
    is inside.

    Args:
        part: One connected part (8-neighbourhood) of a plane, bool (row, column).
        axis: Two pixels; the chord is perpendicular to the line through their centres.
        pixel_spacing: Distance between rows, then between columns, mm.
    """
    along = np.subtract(axis[1], axis[0]) * pixel_spacing
    length = float(np.linalg.norm(along))
    if length == 0:
        return 0.0
    turn = np.array([along, (-along[1], along[0])]).T / length
    starts, ends = (edges * pixel_spacing @ turn for edges in _edges(part))
    longest = 0.0
    for corner in starts[:, 0]:
        for line in (corner - _ASIDE_MM, corner + _ASIDE_MM):
            crossed = (starts[:, 0] > line) != (ends[:, 0] > line)
            first, last = starts[crossed], ends[crossed]
            share = (line - first[:, 0]) / (last[:, 0] - first[:, 0])
            places = np.sort(first[:, 1] + share * (last[:, 1] - first[:, 1]))
            chords = places[1::2] - places[::2]
            longest = max(longest, float(chords.max(initial=0.0)))
    return longest


def _edges(part: NDArray[np.bool_]) -> tuple[Points, Points]:
    """Return the starts and the ends (n, 2) of the edges of outline and holes, (row, column)."""
    contours, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    corners = [contour.reshape(-1, 2)[:, ::-1].astype(np.float64) for contour in contours]
    return np.concatenate(corners), np.concatenate([np.roll(own, -1, axis=0) for own in corners])


def _parts(plane: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield the connected parts (8-neighbourhood) of a plane of a lesion."""
    count, parts = cv2.connectedComponents(plane.astype(np.uint8), connectivity=8)
    for number in range(1, count):
        yield parts == number


def _longest(part: NDArray[np.bool_], pixel_spacing: tuple[float, float]) -> tuple[float, Ends]:
    """Return the longest distance between two pixels of a part, mm, and these pixels."""
    hull = cv2.convexHull(np.argwhere(part).astype(np.int32)).reshape(-1, 2)
    gaps = np.linalg.norm((hull[:, None] - hull[None]) * pixel_spacing, axis=-1)
    pixels = [(int(row), int(column)) for row, column in hull]
    equal = np.argwhere(gaps >= gaps.max() - _SAME_MM)
    first, second = min(sorted((pixels[one], pixels[other])) for one, other in equal)
    return float(gaps.max()), (first, second)
