"""What masks are compared by: known answers, and MONAI's where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.metrics import Mask, count_lesions, distances, false_lesions, overlap, surface_gaps


def square(top: int, left: int, size: int, shape: tuple[int, int] = (40, 40)) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


def test_the_overlap_of_known_masks() -> None:
    found = overlap(square(0, 0, 4), square(0, 2, 4))
    assert (found.dice, found.sensitivity, found.precision) == (0.5, 0.5, 0.5)
    none = np.zeros((4, 4), dtype=bool)
    assert overlap(none, none).dice == 1.0
    assert overlap(none, ~none).precision is None
    assert overlap(~none, none).sensitivity is None


@given(arrays(bool, (6, 5)), arrays(bool, (6, 5)))
def test_dice_is_the_harmonic_mean_of_sensitivity_and_precision(mine: Mask, truth: Mask) -> None:
    found = overlap(mine, truth)
    assert found == overlap(mine[::-1], truth[::-1])
    if found.sensitivity and found.precision:
        harmonic = 2 / (1 / found.sensitivity + 1 / found.precision)
        assert found.dice == pytest.approx(harmonic)


def test_a_shifted_surface_is_as_far_away_as_it_was_shifted() -> None:
    """Two flat plates, two voxels of 3 mm apart along the first axis."""
    mine, truth = np.zeros((9, 6, 6), dtype=bool), np.zeros((9, 6, 6), dtype=bool)
    mine[2], truth[4] = True, True
    gaps = surface_gaps(mine, truth, (3.0, 1.0, 1.0))
    assert gaps is not None
    found = distances([gaps])
    assert found is not None
    assert (found.average, found.most) == (6.0, 6.0)


def test_there_is_no_distance_to_nothing() -> None:
    assert surface_gaps(square(3, 3, 4), square(0, 0, 0), (1.0, 1.0)) is None
    assert distances([]) is None


def test_the_surfaces_of_several_slices_count_together() -> None:
    near = surface_gaps(square(5, 5, 6), square(5, 5, 6), (1.0, 1.0))
    far = surface_gaps(square(5, 5, 1), square(5, 15, 1), (1.0, 1.0))
    assert near is not None
    assert far is not None
    found = distances([near, far])
    assert found is not None
    assert found.average == pytest.approx(2 * 10 / (2 * 20 + 2))


@pytest.mark.train
@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges")  # its own business
@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_monai(seed: int) -> None:
    metrics = pytest.importorskip("monai.metrics", reason="MONAI is not installed")
    torch = pytest.importorskip("torch", reason="the extra rales[train] is not installed")
    random = np.random.default_rng(seed)
    masks = [random.random((7, 12, 11)) > 0.7 for _ in range(2)]
    spacing = (5.0, 0.7, 0.9)
    mine, truth = (torch.from_numpy(one)[None, None].float() for one in masks)
    gaps = surface_gaps(masks[0], masks[1], spacing)
    assert gaps is not None
    found = distances([gaps])
    assert found is not None
    average = metrics.compute_average_surface_distance(
        mine, truth, include_background=True, symmetric=True, spacing=spacing
    )
    most = metrics.compute_hausdorff_distance(
        mine, truth, include_background=True, percentile=95, spacing=spacing
    )
    assert found.average == pytest.approx(float(average), rel=1e-5)
    assert found.most == pytest.approx(float(most), rel=1e-5)


def test_a_lesion_is_hit_from_a_tenth_on() -> None:
    truth = square(0, 0, 10) | square(20, 20, 10)
    tenth, less = square(0, 0, 0), square(0, 0, 0)
    tenth[0, :10], less[20, 20:29] = True, True
    found = count_lesions(tenth | less, truth, smallest=5)
    assert (found.true, found.hit, found.marked, found.false) == (2, 1, 2, 0)


def test_what_lies_beside_every_lesion_is_false_and_specks_do_not_count() -> None:
    truth, beside, speck = square(0, 0, 10), square(20, 20, 6), square(30, 2, 2)
    found = count_lesions(truth | beside | speck, truth | square(38, 38, 1), smallest=20)
    assert (found.true, found.hit, found.marked, found.false) == (1, 1, 2, 1)
    assert np.array_equal(false_lesions(truth | beside | speck, truth, smallest=20), beside)


@given(arrays(bool, (4, 6, 6)), arrays(bool, (4, 6, 6)), st.integers(1, 5))
def test_the_false_lesions_are_as_many_as_counted(mine: Mask, truth: Mask, smallest: int) -> None:
    false = false_lesions(mine, truth, smallest)
    count = count_lesions(mine, truth, smallest)
    assert count_lesions(false, truth, smallest).marked == count.false
    assert not false[~mine].any()
    assert count.hit <= count.true
