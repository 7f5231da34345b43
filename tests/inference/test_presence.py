"""The presence decision and what is too small to be a lesion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ports import PresenceRule
from inference.reading.postprocess import components, drop_small
from inference.reading.presence import certain_ml, decide

RULE = PresenceRule(certainty=0.9, volume_ml=2.0, stride=2)


def test_only_what_is_surely_marked_in_the_lungs_counts() -> None:
    probability = np.zeros((20, 20), np.float32)
    lungs = np.zeros((20, 20), bool)
    lungs[5:15, 5:15] = True
    probability[5, 5:15] = 0.9
    probability[6, 5:15] = 0.89
    probability[0] = 1.0  # outside
    assert certain_ml(probability, lungs, 0.25, 0.9) == pytest.approx(2.5)
    assert certain_ml(probability, ~lungs & False, 0.25, 0.9) == 0


def test_the_volume_does_not_depend_on_the_pixel_size() -> None:
    coarse, fine = np.zeros((10, 10), np.float32), np.zeros((20, 20), np.float32)
    coarse[2:4, 2:4], fine[4:8, 4:8] = 0.95, 0.95
    everywhere = np.ones((10, 10), bool), np.ones((20, 20), bool)
    assert certain_ml(coarse, everywhere[0], 0.4, 0.9) == pytest.approx(
        certain_ml(fine, everywhere[1], 0.1, 0.9)
    )


def test_a_scan_is_positive_from_the_volume_of_the_rule_on() -> None:
    """Each slice that was looked at stands for two."""
    assert decide([0.5, 0.5], RULE).positive
    assert decide([0.5, 0.5], RULE).score == pytest.approx(0.5)
    assert not decide([0.5, 0.49], RULE).positive


def test_no_slices_no_finding() -> None:
    assert decide([], RULE).score == 0
    assert not decide([], RULE).positive


@given(st.lists(st.floats(0, 1e4), max_size=30), st.floats(0, 1e4))
def test_another_slice_never_lowers_the_score(volumes: list[float], more: float) -> None:
    before, after = decide(volumes, RULE), decide([*volumes, more], RULE)
    assert 0 <= before.score <= after.score + 1e-12 <= 1 + 1e-9


def test_small_components_are_dropped_and_touching_corners_connect() -> None:
    mask = np.zeros((4, 10, 10), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    mask[0, 8, 8] = mask[0, 8, 9] = True
    assert components(mask)[1] == 2
    kept = drop_small(mask, voxel_ml=0.04, minimum_ml=0.1)
    assert kept.sum() == 3
    assert not kept[0, 8].any()
    assert drop_small(mask, voxel_ml=0.04, minimum_ml=0).sum() == 5
    assert not drop_small(np.zeros((2, 3, 4), bool), 1.0, 1.0).any()
