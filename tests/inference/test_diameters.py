"""The two axes of a lesion: against a slow search, and on shapes whose axes are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from slow_axes import Spacing, slow_chord, slow_longest

from inference.reading.diameters import diameter_of, longest_chord


def axes(plane: NDArray[np.bool_], spacing: Spacing = (1.0, 1.0)) -> tuple[float, float]:
    """Return the long and the short axis of a plane, mm."""
    found = diameter_of(plane[None], (0, 0, 0), spacing)
    return found.long_axis_mm, found.short_axis_mm


SPACINGS = st.sampled_from([(1.0, 1.0), (0.7, 0.7), (1.5, 0.75), (0.6, 0.83)])
PLANES = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.booleans())


@settings(max_examples=150)
@given(plane=PLANES, spacing=SPACINGS)
def test_both_axes_are_those_of_a_slow_search(plane: NDArray[np.bool_], spacing: Spacing) -> None:
    parts, count = ndimage.label(plane, np.ones((3, 3)))
    for number in range(1, count + 1):
        part = parts == number
        found = diameter_of(part[None], (0, 0, 0), spacing)
        longest, ends = slow_longest(part, spacing)
        assert found.long_axis_mm == pytest.approx(max(longest, min(spacing)))
        assert found.long_axis == ends
        chord = slow_chord(part, ends, spacing)
        assert longest_chord(part, ends, spacing) == pytest.approx(chord, abs=1e-4)
        assert found.short_axis_mm <= found.long_axis_mm + 1e-9


def test_a_thin_rectangle_has_the_chord_across_its_diagonal() -> None:
    """The hull's projection on the perpendicular would be nearly twice as long."""
    plane = np.zeros((30, 120), bool)
    plane[5:16, 10:111] = True  # 10 by 100 mm between pixel centres
    diagonal = np.hypot(100, 10)
    assert axes(plane) == pytest.approx((diagonal, 10 * diagonal / 100))


def test_the_chord_stops_at_a_hole_and_at_a_bay() -> None:
    rows, columns = np.mgrid[-50:51, -50:51]
    away = np.hypot(rows, columns)
    ring = (away <= 40) & (away >= 30)
    tangent = 2 * np.sqrt(40**2 - 30**2)
    assert axes(ring) == pytest.approx((80, tangent), abs=2)
    assert axes(ring & (columns >= 0)) == pytest.approx((80, tangent / 2), abs=2)


def test_a_single_pixel_and_a_line_are_a_pixel_wide() -> None:
    pixel = np.ones((1, 1), bool)
    assert axes(pixel, (1.5, 0.75)) == (0.75, 0.75)
    assert axes(np.eye(4, dtype=bool)) == pytest.approx((3 * np.sqrt(2), 1))


def test_of_equal_diameters_the_lowest_slice_and_then_the_first_pixels_count() -> None:
    lesion = np.zeros((3, 5, 9), bool)
    lesion[1:, 1, :4] = lesion[1:, 3, 2:6] = True
    found = diameter_of(lesion, (7, 20, 30), (1.0, 1.0))
    assert found.slice_index == 8
    assert found.long_axis == ((21.0, 30.0), (21.0, 33.0))
