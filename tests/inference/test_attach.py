"""Lesions that reach out of the delineated lungs: which of them are added to the lungs."""

from __future__ import annotations

import numpy as np
import pytest
from linear_models import volume_of
from numpy.typing import NDArray

from chestct.volume import Label, Volume
from inference.reading.attach import attach

SHAPE = (5, 60, 100)


def chest() -> tuple[NDArray[np.uint8], Volume]:
    """Return two lungs of 20 columns, right and left, in soft tissue; pixels of 0.8 x 0.9 mm."""
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[:, 10:50, 20:40] = Label.RIGHT_LUNG
    lungs[:, 10:50, 60:80] = Label.LEFT_LUNG
    return lungs, volume_of(np.where(lungs > 0, -850, 40).astype(np.int16))


def box(rows: slice, columns: slice) -> NDArray[np.bool_]:
    marked = np.zeros(SHAPE, dtype=bool)
    marked[1:4, rows, columns] = True
    return marked


@pytest.mark.parametrize(
    ("columns", "side"), [(slice(10, 24), Label.RIGHT_LUNG), (slice(76, 90), Label.LEFT_LUNG)]
)
def test_a_lesion_that_touches_a_lesion_in_a_lung_is_that_lung(columns: slice, side: Label) -> None:
    lungs, volume = chest()
    marked = box(slice(30, 45), columns)
    grown = attach(marked, lungs, volume)
    assert (grown[marked] == side).all()
    assert (grown[~marked] == lungs[~marked]).all()


def test_a_separate_lesion_stays_outside() -> None:
    lungs, volume = chest()
    marked = box(slice(30, 45), slice(5, 12)) | box(slice(12, 20), slice(22, 30))
    np.testing.assert_array_equal(attach(marked, lungs, volume), lungs)


def test_bone_is_not_lung_and_stops_the_lesion_behind_it() -> None:
    lungs, volume = chest()
    volume.hu.setflags(write=True)
    volume.hu[:, :, 15:18] = 500
    grown = attach(box(slice(30, 45), slice(5, 24)), lungs, volume)
    assert not grown[:, :, :18].any()
    assert (grown[1:4, 30:45, 18:20] == Label.RIGHT_LUNG).all()


def test_a_lesion_is_added_up_to_thirty_millimetres_away() -> None:
    lungs, volume = chest()
    lungs[:, :, 40:] = Label.BACKGROUND
    lungs[:, 10:50, 40:60] = Label.LEFT_LUNG
    grown = attach(box(slice(30, 45), slice(50, 100)), lungs, volume)
    reached = np.flatnonzero(grown[2, 35])
    assert reached[-1] - 59 == pytest.approx(30 / 0.9, abs=1.5)


@pytest.mark.parametrize("columns", [slice(36, 55), slice(45, 64), slice(36, 64)])
def test_nothing_between_the_lungs_is_added(columns: slice) -> None:
    """The aorta beside the spine and a vein beside the apex are as dense as consolidation."""
    lungs, volume = chest()
    np.testing.assert_array_equal(attach(box(slice(30, 45), columns), lungs, volume), lungs)


def test_a_lesion_that_fills_the_back_of_a_lung_is_added() -> None:
    lungs, volume = chest()
    marked = box(slice(45, 58), slice(22, 38))
    grown = attach(marked, lungs, volume)
    assert (grown[marked] == Label.RIGHT_LUNG).all()


def test_a_slice_without_lung_stays_without_lung() -> None:
    lungs, volume = chest()
    lungs[3] = Label.BACKGROUND
    grown = attach(box(slice(30, 45), slice(10, 24)), lungs, volume)
    assert not grown[3].any()
    assert (grown[2, 30:45, 10:24] == Label.RIGHT_LUNG).all()


def test_lungs_are_not_copied_without_a_lesion_outside() -> None:
    lungs, volume = chest()
    assert attach(box(slice(12, 20), slice(22, 30)), lungs, volume) is lungs
