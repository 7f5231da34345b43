"""Another breath and another scanner: what changes, and by how much."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_rolls import FixedRolls
from labelled_chest import SPACING, labelled_chest
from numpy.typing import NDArray

from training.rescan import _filtered, _noisy, rebreathe, rescan


@pytest.fixture
def edge() -> NDArray[np.float32]:
    """Return a plane with a step from lung to tissue."""
    plane = np.full((64, 64), -850, dtype=np.float32)
    plane[:, 32:] = 40
    return plane


def _steepest(plane: NDArray[np.float32]) -> float:
    return float(np.abs(np.diff(plane, axis=1)).max())


def test_a_positive_kernel_smooths_and_a_negative_kernel_sharpens(
    edge: NDArray[np.float32],
) -> None:
    assert _steepest(_filtered(edge, 1.0)) < 0.6 * _steepest(edge)
    assert _steepest(_filtered(edge, -1.0)) > 1.3 * _steepest(edge)
    assert _filtered(edge, 0.0) is edge
    for kernel in (1.0, -1.0):
        assert _filtered(edge, kernel).mean() == pytest.approx(edge.mean(), abs=1)


@pytest.mark.parametrize("noise_hu", [5.0, 60.0])
def test_noise_has_the_standard_deviation_that_was_asked_for(noise_hu: float) -> None:
    flat = np.zeros((64, 64), dtype=np.float32)
    noise = _noisy(flat, noise_hu, (0.7, 0.7), np.random.default_rng(0))
    assert noise.std() == pytest.approx(noise_hu, rel=1e-3)
    assert _noisy(flat, 0.0, (0.7, 0.7), np.random.default_rng(0)) is flat


def test_streaks_run_from_side_to_side() -> None:
    streaks = _noisy(np.zeros((64, 64), np.float32), 30.0, (12.0, 0.7), np.random.default_rng(0))
    along, across = (np.abs(np.diff(streaks, axis=axis)).mean() for axis in (1, 0))
    assert along < 0.3 * across


def test_a_scan_may_be_thicker() -> None:
    hu = np.zeros((9, 16, 16), dtype=np.float32)
    hu[4] = 900
    thick = rescan(hu, FixedRolls(0.39), (3.0, 50.0, 50.0))
    middle = thick[:, 4:12, 4:12].mean(axis=(1, 2))
    assert 20 < middle[3] < 320
    assert middle[3] == pytest.approx(middle[5], abs=80)
    assert middle[4] < 750


def test_a_scan_of_the_same_scanner_is_the_same() -> None:
    hu = np.random.default_rng(0).normal(size=(4, 16, 16)).astype(np.float32)
    assert np.array_equal(rescan(hu, FixedRolls(0.9), SPACING), hu)


@pytest.mark.parametrize("seed", range(6))
def test_another_breath_changes_aerated_lung_and_the_back_more(seed: int) -> None:
    chest = labelled_chest()
    hu, lungs = chest.hu.astype(np.float32), chest.lungs > 0
    hu[8, 20, 20] = 30
    breathed = rebreathe(hu, lungs, np.random.default_rng(seed))
    assert np.array_equal(breathed[~lungs], hu[~lungs])
    assert breathed[8, 20, 20] == 30
    change = breathed - hu
    assert change[lungs].min() >= -40
    assert change[lungs].max() <= 130
    rows = np.flatnonzero(lungs.any(axis=(0, 2)))
    front, back = (change[8, row, 60] for row in (rows[0], rows[-1]))
    assert 0 <= back - front <= 70
