"""The numbers of the report, against known answers."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.report.statistics import (
    agreement,
    auc,
    bootstrap,
    bootstrap_clusters,
    brier,
    proportion,
    reliability,
)

scores = st.floats(0, 1)


@settings(deadline=None, max_examples=40)
@given(st.lists(scores, min_size=2, max_size=12))
def test_the_mean_lies_in_its_interval_and_that_among_the_values(values: list[float]) -> None:
    found = bootstrap([*values, None])
    assert found == bootstrap(values)
    assert found.mean == pytest.approx(float(np.mean(values)))
    assert found.low is not None
    assert found.high is not None
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.count == len(values)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    one = bootstrap([0.5])
    assert (one.mean, one.low, one.high, one.count) == (0.5, None, None, 1)
    assert bootstrap([None]).mean is None
    assert bootstrap_clusters([[], []]).count == 0


def test_an_interval_narrows_with_more_patients_but_not_with_more_slices_of_one() -> None:
    def width(clusters: list[list[float]]) -> float:
        found = bootstrap_clusters(clusters)
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    few = [[0.2], [0.5], [0.6], [0.9]]
    assert width([[value[0]] * 50 for value in few]) == pytest.approx(width(few))
    assert width(few * 9) < 0.5 * width(few)


def test_slices_count_not_patients() -> None:
    assert bootstrap_clusters([[0.0] * 9, [1.0]]).mean == pytest.approx(0.1)


def test_clusters_that_are_empty_are_drawn_without_harm() -> None:
    """A scan without true lesions says nothing of the lesions found."""
    found = bootstrap_clusters([[1.0, 0.0], [], [1.0]])
    assert found.mean == pytest.approx(2 / 3)
    assert found.low is not None
    assert np.isfinite(found.low)


def test_wilsons_interval() -> None:
    """Newcombe 1998, table I: 81 of 263."""
    found = proportion(81, 263)
    assert (found.low, found.high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )
    all_right = proportion(18, 18)
    assert all_right.high == pytest.approx(1.0)
    assert all_right.low == pytest.approx(0.824, abs=1e-3)
    assert proportion(0, 0).mean is None


def test_bland_and_altman() -> None:
    found = agreement([11.0, 21.0, 34.0], [10.0, 20.0, 30.0])
    assert found is not None
    assert found.bias == pytest.approx(2.0)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 3**0.5)
    assert agreement([1.0], [1.0]) is None


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(scores, st.booleans()), min_size=2, max_size=15).filter(
        lambda pairs: len({truth for _, truth in pairs}) == 2
    )
)
def test_the_area_under_the_curve_is_the_chance_that_a_positive_scores_higher(
    pairs: list[tuple[float, bool]],
) -> None:
    values, truth = [value for value, _ in pairs], [is_true for _, is_true in pairs]
    found = auc(values, truth).mean
    assert found is not None
    wins = [
        1.0 if mine > other else 0.5 if mine == other else 0.0
        for mine, mine_is in pairs
        for other, other_is in pairs
        if mine_is and not other_is
    ]
    assert found == pytest.approx(float(np.mean(wins)))
    inverted = auc(values, [not one for one in truth]).mean
    assert inverted == pytest.approx(1 - found)


def test_one_class_has_no_area_under_a_curve() -> None:
    assert auc([0.1, 0.9], [True, True]).mean is None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=30))
def test_every_scan_is_in_one_bin(pairs: list[tuple[float, bool]]) -> None:
    bins = reliability([value for value, _ in pairs], [truth for _, truth in pairs])
    assert sum(one.count for one in bins) == len(pairs)
    assert all(one.low - 1e-9 <= one.predicted <= one.high + 1e-9 for one in bins)
    observed = sum(one.observed * one.count for one in bins)
    assert observed == pytest.approx(sum(truth for _, truth in pairs))
    json.dumps([asdict(one) for one in bins], allow_nan=False)


def test_brier() -> None:
    assert brier([1.0, 0.0, 0.5], [True, False, True]) == pytest.approx(0.25 / 3)
    assert brier([], []) is None
