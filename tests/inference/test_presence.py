"""The presence decision and what is too small to be a lesion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ports import PresenceRule
from inference.postprocess import components, drop_small
from inference.presence import decide, slice_score

RULE = PresenceRule(top_area_mm2=100, slices=3, stride=2, operating_point=0.5)


def test_a_slice_scores_its_best_area_inside_the_lungs() -> None:
    probability = np.zeros((20, 20), np.float32)
    lungs = np.zeros((20, 20), bool)
    lungs[5:15, 5:15] = True
    probability[5, 5:15] = 0.8  # 10 pixels of 4 mm2 in 25 of them
    probability[0] = 1.0  # outside
    assert slice_score(probability, lungs, 4.0, RULE) == pytest.approx(0.8 * 10 / 25)


def test_a_slice_with_less_lung_than_the_area_scores_nothing() -> None:
    lungs = np.zeros((20, 20), bool)
    lungs[0, :5] = True
    assert slice_score(np.ones((20, 20), np.float32), lungs, 4.0, RULE) == 0


def test_the_score_does_not_depend_on_the_pixel_size() -> None:
    coarse, fine = np.zeros((10, 10), np.float32), np.zeros((20, 20), np.float32)
    coarse[2:4, 2:4], fine[4:8, 4:8] = 0.9, 0.9
    everywhere = np.ones((10, 10), bool), np.ones((20, 20), bool)
    assert slice_score(coarse, everywhere[0], 16.0, RULE) == pytest.approx(
        slice_score(fine, everywhere[1], 4.0, RULE), rel=0.1
    )


def test_one_bright_slice_alone_is_no_finding() -> None:
    artefact = decide({0: 1.0, 2: 0.0, 4: 0.0}, RULE)
    assert artefact.score == pytest.approx(1 / 3)
    assert not artefact.positive
    assert decide({0: 0.6, 2: 0.5, 4: 0.4, 6: 0.0}, RULE).positive


def test_no_slices_no_finding() -> None:
    assert decide({}, RULE).score == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1))
def test_another_slice_never_lowers_a_full_score(scores: list[float], more: float) -> None:
    padded = [*scores, 0.0, 0.0]
    before = decide(dict(enumerate(padded)), RULE)
    after = decide(dict(enumerate([*padded, more])), RULE)
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
