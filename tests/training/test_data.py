"""Sets of slices: what is unknown stays unknown when sets are joined and parts are selected."""

from __future__ import annotations

import numpy as np
import pytest

from training.data import SliceSet, join


def _set(name: str, *, unknown: bool) -> SliceSet:
    planes = np.zeros((4, 8, 8), dtype=np.uint8)
    mask = np.zeros((4, 8, 8), dtype=bool)
    mask[1, :3], mask[3, 5:] = True, True
    return SliceSet(
        images=planes,
        lungs=planes,
        lesions=np.zeros_like(mask),
        volumes=np.array([0, 0, 1, 1]),
        names=(f"{name} 0", f"{name} 1"),
        unknown=mask if unknown else None,
    )


def test_what_is_unknown_is_selected_with_its_volume() -> None:
    data = _set("a", unknown=True)
    assert data.unknown is not None
    for selected in (data.select([1]), data.named(["a 1"])):
        assert selected.unknown is not None
        assert np.array_equal(selected.unknown, data.unknown[2:])
    assert _set("a", unknown=False).select([0]).unknown is None


@pytest.mark.parametrize("first", [True, False])
def test_a_set_that_knows_everything_joins_one_that_does_not(first: bool) -> None:  # noqa: FBT001
    sets = [_set("a", unknown=first), _set("b", unknown=not first)]
    both = join(sets)
    assert both.unknown is not None
    assert both.unknown.shape == both.lesions.shape
    for at, data in enumerate(sets):
        part = both.unknown[4 * at : 4 * at + 4]
        assert np.array_equal(part, np.zeros_like(part) if data.unknown is None else data.unknown)
    again = both.named([f"{'a' if first else 'b'} 1"])
    assert again.unknown is not None
    assert again.unknown.any(axis=(1, 2)).tolist() == [False, True]


def test_sets_that_know_everything_stay_so() -> None:
    assert join([_set("a", unknown=False), _set("b", unknown=False)]).unknown is None
