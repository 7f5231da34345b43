"""A volume with truth enters training on its frame, labels where the image shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from chestct.orientation import canonical
from chestct.volume import Volume
from inference.reading.frame import PIXEL_MM
from phantom.volume import canonical_volume
from training.data import LEFT, RIGHT
from training.framed import framed, set_of
from training.grey import CANVAS

_SIZE = 72


class _Case(NamedTuple):
    volume: Volume
    sides: NDArray[np.uint8]
    lesions: NDArray[np.bool_]


def _case(slices: int = 8, spacing: float = 5.0, pixel: float = 3.0) -> _Case:
    """Return an ellipse of tissue with two lungs and a lesion in the right lung."""
    y, x = (axis - (_SIZE - 1) / 2 for axis in np.ogrid[:_SIZE, :_SIZE])
    plane = np.full((_SIZE, _SIZE), -1000, dtype=np.int16)
    plane[(x / 32) ** 2 + (y / 26) ** 2 < 1] = 40
    sides = np.zeros((_SIZE, _SIZE), dtype=np.uint8)
    for side, at in ((RIGHT, -14), (LEFT, 14)):
        sides[((x - at) / 10) ** 2 + (y / 18) ** 2 < 1] = side
    plane[sides > 0] = -850
    lesion = (sides == RIGHT) & (y > 4)
    plane[lesion] = 0
    origin = (0.0, 0.0, 0.0)
    volume = canonical_volume(np.stack([plane] * slices), (spacing, pixel, pixel), origin)
    return _Case(volume, np.stack([sides] * slices), np.stack([lesion] * slices))


def test_labels_lie_where_the_image_shows_them() -> None:
    shown = framed(*_case())
    assert shown.images.shape == shown.sides.shape == shown.lesions.shape == (8, CANVAS, CANVAS)
    hu = shown.images / 255 * 1424 - 1024
    assert np.median(hu[shown.lesions]) == pytest.approx(0, abs=6)
    assert np.median(hu[(shown.sides > 0) & ~shown.lesions]) == pytest.approx(-850, abs=6)
    # The border is a pixel or two wide.
    assert (hu[shown.lesions] > -425).mean() > 0.97
    assert (shown.sides[shown.lesions] == RIGHT).mean() > 0.97
    columns = [np.argwhere(shown.sides == side)[:, 2].mean() for side in (RIGHT, LEFT)]
    assert columns[0] < CANVAS / 2 < columns[1]


@pytest.mark.parametrize("pixel", [2.0, 3.0])
def test_a_pixel_has_the_size_of_the_frame_in_every_scan(pixel: float) -> None:
    case = _case(pixel=pixel)
    shown = framed(*case)
    for mask, truth in ((shown.sides > 0, case.sides > 0), (shown.lesions, case.lesions)):
        area = mask[4].sum() * PIXEL_MM**2
        assert area == pytest.approx(truth[4].sum() * pixel**2, rel=0.05)


def test_a_slab_has_the_labels_of_its_middle_slice() -> None:
    volume, sides, lesions = _case(slices=9, spacing=1.0)
    only = np.zeros_like(lesions)
    only[4] = lesions[4]
    shown = framed(volume, sides, only)
    assert shown.lesions.any(axis=(1, 2)).tolist() == [False, True, False]
    beside = np.zeros_like(lesions)
    beside[3] = lesions[3]
    assert not framed(volume, sides, beside).lesions.any()


def test_a_patient_stored_from_head_to_feet_gives_the_same_slices() -> None:
    volume, sides, lesions = _case()
    lesions[:5] = False
    usual = framed(volume, sides, lesions)
    # Rows run to the front and slices to the feet: the same patient, turned about the columns.
    geometry = replace(
        volume.geometry,
        origin=(0.0, 3.0 * (_SIZE - 1), 5.0 * 7),
        column_cosines=(0.0, -1.0, 0.0),
    )
    turned = replace(volume, hu=volume.hu[::-1, ::-1], geometry=geometry)
    other = framed(canonical(turned), sides, lesions)
    assert np.array_equal(other.images, usual.images)
    assert np.array_equal(other.sides, usual.sides)
    assert np.array_equal(other.lesions, usual.lesions)


def test_scans_become_one_set() -> None:
    scans = [framed(*_case(slices=count)) for count in (8, 6)]
    data = set_of(scans, ["first", "second"])
    assert data.names == ("first", "second")
    assert data.volumes.tolist() == [0] * 8 + [1] * 6
    assert np.array_equal(data.select([1]).images, scans[1].images)
    assert np.array_equal(data.named(["first"]).lesions, scans[0].lesions)
    assert data.unknown is None
