"""Rounded positions: the grid is still that of the scan, and a gap is still a gap."""

from __future__ import annotations

from functools import partial

import pytest
from ct_series import SeriesMaker
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import resolution
from inference.loading.loader import LoadingPolicy, load
from inference.loading.spacing import even_grid


def places(step: float, decimals: int, count: int = 160) -> list[float]:
    return [round(-231.8 + step * number, decimals) for number in range(count)]


@pytest.mark.parametrize(
    ("step", "decimals"), [(0.625, 1), (1.25, 1), (0.5, 1), (0.75, 1), (2.5, 0), (0.0625, 2)]
)
def test_the_grid_is_that_of_the_scan(step: float, decimals: int) -> None:
    rounded = places(step, decimals)
    begin, spacing = even_grid(rounded, resolution(rounded))
    assert spacing == pytest.approx(step, rel=2e-3)
    assert begin == pytest.approx(-231.8, abs=10.0**-decimals)


@given(
    step=st.floats(0.3, 5.0),
    decimals=st.integers(0, 3),
    begin=st.floats(-500, 500),
    gap=st.integers(1, 38),
)
@example(step=4.978691316272755, decimals=0, begin=54.5001, gap=1)
@example(step=0.7013491786304538, decimals=1, begin=0.0, gap=1)
def test_rounding_makes_no_gap_and_hides_none(
    step: float, decimals: int, begin: float, gap: int
) -> None:
    # At 0.4, and where positions lie half way between two decimals, most steps may be rounded the
    # same way: such a series is refused, which this test is not about.
    assume(10.0**-decimals <= 0.39 * step)
    exact = [begin + step * number for number in range(40)]
    assume(all(abs(place * 10**decimals % 1 - 0.5) > 1e-6 for place in exact))
    rounded = [round(place, decimals) for place in exact]
    even_grid(rounded, resolution(rounded))
    del rounded[gap]
    with pytest.raises(SeriesRejected) as refused:
        even_grid(rounded, resolution(rounded))
    assert refused.value.reason in {RejectReason.MISSING_SLICES, RejectReason.VARIABLE_SPACING}


def test_slices_of_0_625_mm_with_positions_to_a_tenth_are_read(make_ct: SeriesMaker) -> None:
    def rounded(index: int, dataset: Dataset, gap: int = 60) -> None:
        place = round(-203.25 + 0.625 * (index + (index >= gap)), 1)
        dataset.ImagePositionPatient = [-31, 17.5, place]

    volume = load(make_ct(rounded, slices=60), LoadingPolicy())
    assert volume.geometry.slice_spacing == pytest.approx(0.625, rel=2e-3)
    with pytest.raises(SeriesRejected, match="1 slice is missing") as refused:
        load(make_ct(partial(rounded, gap=30), slices=60), LoadingPolicy())
    assert refused.value.reason is RejectReason.MISSING_SLICES
