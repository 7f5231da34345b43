"""Outlines of masks, also of masks that no smooth network draws."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from dicom_out.objects.contours import outline, outlines

_LONGEST = 65534 // 8
"""Pairs of FL in an attribute whose length has 16 bits (PS3.5 section 7.1.2)."""


def test_a_ragged_outline_fits_its_attribute_and_stays_where_it_was() -> None:
    noise = np.random.default_rng(0).random((512, 512)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, 1)
    parts, _ = ndimage.label(smooth > np.median(smooth), np.ones((3, 3)))
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    line = outline(largest)
    assert 1000 < len(line) <= _LONGEST
    assert (line[0] == line[-1]).all()
    away = ndimage.distance_transform_edt(~largest)
    columns, rows = np.floor(line).astype(int).T
    assert away[rows, columns].max() == 0, "every point lies in a pixel of the mask"
    assert max(map(len, outlines(largest))) <= _LONGEST
    drawn = np.zeros(largest.shape, np.uint8)
    cv2.fillPoly(drawn, [np.floor(line).astype(np.int32)], 1)
    filled = ndimage.binary_fill_holes(largest)
    assert (drawn.astype(bool) ^ filled).sum() < 0.1 * filled.sum()
