"""From HU to the network and back: nothing moves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_models import contract, volume_of
from numpy.typing import NDArray

from inference.networks.preprocess import neighbours, to_grid, to_input
from training.grey import to_grey, to_slice


def noise(*shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(3).integers(-1000, 1000, shape).astype(np.int16)


def test_what_it_says_returns_to_the_voxels_it_came_from() -> None:
    volume = volume_of(noise(5, 16, 16))
    seen = to_input(volume, range(5), contract(context=1), {})
    back = to_grid(seen, volume.geometry, contract(context=1))
    assert back.shape == (5, 1, 16, 16)
    np.testing.assert_allclose(back[:, 0] * 2000 - 1000, volume.hu, atol=4.0)


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (400, 640), (20, 24), (97, 211)])
def test_resizing_there_and_back_does_not_shift(rows: int, columns: int) -> None:
    hu = np.full((1, rows, columns), -1000, dtype=np.int16)
    r, c = np.mgrid[:rows, :columns]
    spot = np.hypot((r - 0.3 * rows) / (0.1 * rows), (c - 0.6 * columns) / (0.1 * columns)) < 1
    hu[0, spot] = 1000
    volume = volume_of(hu)
    small = contract(rows=64, columns=64, context=1)
    seen = to_input(volume, [0], small, {})
    back = to_grid(seen, volume.geometry, small)[0, 0]
    found = np.array([(back * r).sum(), (back * c).sum()]) / back.sum()
    np.testing.assert_allclose(found, [r[spot].mean(), c[spot].mean()], atol=0.02 * rows)
    if min(rows, columns) > 64:
        mask = back >= 0.5
        assert 2 * (mask & spot).sum() / (mask.sum() + spot.sum()) > 0.97


def test_the_window_becomes_8_bit() -> None:
    ramp = np.array([[-3000, -1024, -312, 44, 400, 3000]], dtype=np.int16)
    grey = to_grey(ramp)
    assert grey.dtype == np.uint8
    assert grey[0].tolist() == [0, 0, 128, 191, 255, 255]


def test_clahe_is_what_the_training_data_went_through() -> None:
    """Clip limit 7 on 8 by 8 tiles, after the resize: as COVID-19-CT-Seg was redistributed."""
    hu = noise(1, 512, 512)[0]
    grey = to_slice(hu, (-1000.0, 1000.0))
    scaled = (hu.astype(np.float32) + 1000) * (255 / 2000)
    small = cv2.resize(scaled, (256, 256), interpolation=cv2.INTER_AREA).round().astype(np.uint8)
    expected = cv2.createCLAHE(clipLimit=7, tileGridSize=(8, 8)).apply(small)
    np.testing.assert_array_equal(grey, expected)


@pytest.mark.parametrize(
    ("spacing", "index", "expected"),
    [
        (3.0, 4, [3, 4, 5]),
        (1.0, 4, [1, 4, 7]),
        (5.0, 4, [3, 4, 5]),  # at least one slice apart
        (3.0, 0, [0, 0, 1]),  # the first slice stands for what is below it
        (1.0, 8, [5, 8, 8]),
    ],
)
def test_neighbours_lie_millimetres_apart(spacing: float, index: int, expected: list[int]) -> None:
    geometry = volume_of(noise(9, 4, 4), slice_spacing=spacing).geometry
    assert neighbours(geometry, index, contract()) == expected


@given(
    spacing=st.floats(0.3, 10),
    count=st.integers(1, 40),
    index=st.integers(0, 39),
    reach=st.integers(0, 3),
)
def test_neighbours_exist_and_hold_the_slice(
    spacing: float, count: int, index: int, reach: int
) -> None:
    index %= count
    geometry = volume_of(np.zeros((count, 2, 2), np.int16), slice_spacing=spacing).geometry
    found = neighbours(geometry, index, contract(context=2 * reach + 1))
    assert len(found) == 2 * reach + 1
    assert found[reach] == index
    assert found == sorted(found)
    assert 0 <= found[0] <= found[-1] < count


def test_a_plane_is_prepared_once() -> None:
    cache: dict[int, NDArray[np.float32]] = {}
    volume = volume_of(noise(6, 16, 16))
    to_input(volume, [2, 3], contract(), cache)
    assert sorted(cache) == [1, 2, 3, 4]
    cache[3][:] = 0
    assert not to_input(volume, [3], contract(), cache)[0, 1].any()
