"""The presence decision and what is too small to be a lesion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chestct.volume import Label
from inference.ports import PresenceRule
from inference.reading.postprocess import components, lesions_of
from inference.reading.presence import certain, decide
from inference.reading.surroundings import with_air_around
from phantom.volume import canonical_volume

RULE = PresenceRule(certainty=0.9, volume_ml=2.0, stride=2)


def test_only_what_is_surely_marked_in_the_lungs_counts() -> None:
    probability = np.zeros((20, 20), np.float32)
    lungs = np.zeros((20, 20), bool)
    lungs[5:15, 5:15] = True
    probability[5, 5:15] = 0.9
    probability[6, 5:15] = 0.89
    probability[0] = 1.0  # outside
    assert certain(probability, lungs, 0.9).sum() == 10
    assert certain(probability, lungs, 0.9)[5, 5:15].all()
    assert not certain(probability, ~lungs & False, 0.9).any()


def _plane(
    mark_hu: float, around_hu: float, spacing: tuple[float, float] = (1.35, 1.35)
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int16]]:
    """Return a mark at the back of a lung of 80 mm, the lung, and their HU."""
    rows, columns = (round(120 / step) for step in spacing)
    y, x = np.mgrid[:rows, :columns]
    y, x = y * spacing[0] - 60, x * spacing[1] - 60
    lungs = x**2 + y**2 < 40**2
    mark = (x**2 + (y - 34) ** 2 < 8**2) & lungs
    hu = np.where(lungs, around_hu, 40)
    hu = np.where(mark, mark_hu, hu)
    return mark, lungs, hu.astype(np.int16)


@pytest.mark.parametrize(
    ("mark_hu", "around_hu", "outcome"),
    [
        (-450, -850, "counts"),  # ground-glass in aerated lung
        (-450, -560, "dropped"),  # dependent density of a shallow breath
        (30, -560, "counts"),  # consolidation
        (30, 30, "counts"),  # a lobe without air
        (-450, 40, "dropped"),
        (-450, -640, "dropped"),
        (-450, -660, "counts"),
    ],
)
@pytest.mark.parametrize("spacing", [(1.35, 1.35), (0.7, 1.2)])
def test_a_mark_counts_if_it_is_solid_or_has_air_around_it(
    mark_hu: float, around_hu: float, outcome: str, spacing: tuple[float, float]
) -> None:
    mark, lungs, hu = _plane(mark_hu, around_hu, spacing)
    kept = with_air_around(mark, lungs, hu, spacing)
    assert np.array_equal(kept, mark if outcome == "counts" else np.zeros_like(mark))


def test_each_mark_is_judged_by_its_own_surroundings() -> None:
    mark, lungs, hu = _plane(-450, -560)
    front = np.roll(mark, -45, axis=0) & lungs
    hu[:40] = np.where(lungs[:40], -850, hu[:40])
    hu[front] = -450
    kept = with_air_around(mark | front, lungs, hu, (1.35, 1.35))
    assert np.array_equal(kept, front)


def test_a_large_mark_counts_although_disease_spares_no_lung() -> None:
    _, lungs, hu = _plane(-500, -500)
    assert np.array_equal(with_air_around(lungs, lungs, hu, (1.35, 1.35)), lungs)


def test_a_plane_without_marks_keeps_none() -> None:
    none = np.zeros((5, 6), bool)
    assert not with_air_around(none, none, np.zeros((5, 6), np.int16), (1.0, 1.0)).any()


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
    lungs = np.full(mask.shape, Label.LEFT_LUNG, np.uint8)
    grid = canonical_volume(np.zeros(mask.shape, np.int16), (4.0, 2.0, 5.0), (0.0, 0.0, 0.0))
    kept = lesions_of(mask, lungs, grid.geometry, minimum_ml=0.1)
    assert kept.sum() == 3
    assert not kept[0, 8].any()
    assert lesions_of(mask, lungs, grid.geometry, minimum_ml=0).sum() == 5
    assert not lesions_of(np.zeros_like(mask), lungs, grid.geometry, minimum_ml=1.0).any()


def test_marks_of_two_kinds_that_touch_are_two_components() -> None:
    marks = np.array([[[1, 1, 2, 2, 0, 2]]], np.uint8)
    labels, count = components(marks)
    assert count == 3
    assert labels.tolist() == [[[1, 1, 2, 2, 0, 3]]]


def test_the_least_volume_of_a_lesion_is_that_in_one_lung() -> None:
    """Ten voxels over both lungs: seven in the left lung are enough, three in the right are not."""
    marked = np.ones((1, 1, 12), bool)
    lungs = np.zeros(marked.shape, np.uint8)
    lungs[..., :3], lungs[..., 3:10] = Label.RIGHT_LUNG, Label.LEFT_LUNG
    grid = canonical_volume(np.zeros(marked.shape, np.int16), (4.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    kept = lesions_of(marked, lungs, grid.geometry, minimum_ml=0.5)
    assert np.array_equal(kept, lungs == Label.LEFT_LUNG)
