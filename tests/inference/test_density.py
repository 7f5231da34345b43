"""Ground-glass or consolidation: a decision on pieces that a reader sees, not on single voxels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from chestct.method import Method
from chestct.volume import Volume
from inference.reading.density import consolidated
from phantom.volume import canonical_volume

SPACING = (3.0, 1.35, 1.35)
METHOD = Method()
GLASS, DENSE = -600, -50


def scan(hu: NDArray[np.int16]) -> Volume:
    return canonical_volume(hu, SPACING, (0.0, 0.0, 0.0))


def lesion() -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return ground-glass in aerated lung, and the mask of it: 36 ml."""
    hu = np.full((16, 48, 48), -860, np.int16)
    mask = np.zeros(hu.shape, bool)
    mask[4:12, 10:38, 10:38] = True
    hu[mask] = GLASS
    return hu, mask


def pieces(mask: NDArray[np.bool_]) -> int:
    return int(ndimage.label(mask, np.ones((3, 3, 3)))[1])


def test_noise_scatters_no_consolidation() -> None:
    hu, mask = lesion()
    noise = np.random.default_rng(7).normal(0, 200, hu.shape)
    noisy = (hu + mask * noise).astype(np.int16)
    assert pieces(mask & (noisy >= METHOD.high_opacity_hu)) > 50
    assert not consolidated(mask, scan(noisy), METHOD).any()


def test_a_dense_focus_is_found_in_one_piece_with_its_volume() -> None:
    hu, mask = lesion()
    hu[5:11, 15:30, 15:30] = DENSE
    noise = np.random.default_rng(7).normal(0, 150, hu.shape)
    dense = consolidated(mask, scan((hu + mask * noise).astype(np.int16)), METHOD)
    assert pieces(dense) == pieces(mask & ~dense) == 1
    assert dense.sum() == pytest.approx(6 * 15 * 15, rel=0.1)


def test_air_beside_a_lesion_does_not_thin_it() -> None:
    hu, mask = lesion()
    hu[mask] = DENSE
    assert np.array_equal(consolidated(mask, scan(hu), METHOD), mask)


@pytest.mark.parametrize(("around", "inside"), [(GLASS, DENSE), (DENSE, GLASS)])
@pytest.mark.parametrize(("width", "seen"), [(3, False), (9, True)])
def test_a_piece_takes_the_kind_around_it_unless_a_reader_would_see_it(
    around: int, inside: int, width: int, *, seen: bool
) -> None:
    hu, mask = lesion()
    hu[mask] = around
    hu[6:9, 20 : 20 + width, 20 : 20 + width] = inside
    dense = consolidated(mask, scan(hu), METHOD)
    assert bool(dense[7, 20 + width // 2, 20 + width // 2] == (inside == DENSE)) is seen
    assert bool(dense[4, 10, 10]) is (around == DENSE)


def test_a_small_lesion_of_one_kind_keeps_it() -> None:
    hu, mask = lesion()
    alone = np.zeros_like(mask)
    alone[1, 2:5, 2:5] = True
    hu[alone] = DENSE
    dense = consolidated(mask | alone, scan(hu), METHOD)
    assert np.array_equal(dense, alone)


@pytest.mark.parametrize("flip", [(1, 1, -1), (1, -1, 1), (-1, 1, 1)])
def test_the_order_of_storage_changes_no_voxel(flip: tuple[int, int, int]) -> None:
    hu, mask = lesion()
    noisy = (hu + mask * np.random.default_rng(3).normal(250, 200, hu.shape)).astype(np.int16)
    turn = tuple(slice(None, None, step) for step in flip)
    straight = consolidated(mask, scan(noisy), METHOD)
    turned = consolidated(np.ascontiguousarray(mask[turn]), scan(noisy[turn].copy()), METHOD)
    assert np.array_equal(turned[turn], straight)


def test_nothing_is_nothing() -> None:
    hu, mask = lesion()
    assert not consolidated(np.zeros_like(mask), scan(hu), METHOD).any()
