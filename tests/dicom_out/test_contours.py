"""Outlines of masks, also of masks that no smooth network draws."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from dicom_out.objects.contours import outline, outlines

_BUDGET = 2000
"""The most points of an outline."""


def test_a_ragged_outline_fits_its_attribute_and_stays_where_it_was() -> None:
    noise = np.random.default_rng(0).random((512, 512)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, 1)
    parts, _ = ndimage.label(smooth > np.median(smooth), np.ones((3, 3)))
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    line = outline(largest)
    assert _BUDGET / 2 < len(line) <= _BUDGET
    assert (line[0] == line[-1]).all()
    away = ndimage.distance_transform_edt(~largest)
    columns, rows = np.floor(line).astype(int).T
    assert away[rows, columns].max() == 0, "every point lies in a pixel of the mask"
    assert max(map(len, outlines(largest))) <= _BUDGET
    drawn = np.zeros(largest.shape, np.uint8)
    cv2.fillPoly(drawn, [np.floor(line).astype(np.int32)], 1)
    filled = ndimage.binary_fill_holes(largest)
    assert (drawn.astype(bool) ^ filled).sum() < 0.16 * filled.sum()


def ellipse(rows: float, columns: float) -> NDArray[np.bool_]:
    """Return a filled ellipse with these half axes, in pixels."""
    row, column = np.mgrid[:300, :220]
    mask: NDArray[np.bool_] = ((row - 150) / rows) ** 2 + ((column - 110) / columns) ** 2 < 1
    return mask


def ragged(seed: int) -> NDArray[np.bool_]:
    """Return an ellipse with a torn edge and holes."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((300, 220)), 3)
    mask: NDArray[np.bool_] = (noise > np.median(noise)) & ellipse(120, 80)
    return mask


def traced(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the points of the outlines before they are simplified."""
    enlarged = mask.repeat(3, axis=0).repeat(3, axis=1).astype(np.uint8)
    contours, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [(contour.reshape(-1, 2) + 0.5) / 3 for contour in contours]


@pytest.mark.parametrize(
    "mask", [ellipse(140, 90), ellipse(9, 70), *map(ragged, range(5))], ids=lambda _: ""
)
def test_a_simplified_outline_stays_within_half_a_pixel(mask: NDArray[np.bool_]) -> None:
    before, after = traced(mask), outlines(mask)
    assert len(before) == len(after)
    for points, line in zip(before, after, strict=True):
        ring = line.astype(np.float32)
        away = [abs(cv2.pointPolygonTest(ring, (x, y), measureDist=True)) for x, y in points]
        assert max(away) <= 0.5 + 1e-4
    assert sum(map(len, after)) < 0.5 * sum(map(len, before))


def test_an_outline_never_degenerates_to_a_line() -> None:
    for shape in ((1, 1), (1, 30), (30, 1), (2, 2)):
        mask = np.zeros((40, 40), dtype=bool)
        mask[3 : 3 + shape[0], 5 : 5 + shape[1]] = True
        assert np.ptp(outline(mask), axis=0).min() > 0.5
