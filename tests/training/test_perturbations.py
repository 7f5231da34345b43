"""The perturbations: the grid stays right, the noise is as asked, and nothing depends on chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_models import volume_of
from numpy.typing import NDArray

from chestct.volume import Volume
from inference.loading.pixels import AIR_HU
from training.robustness import greys, grids
from training.robustness.perturbations import PERTURBATIONS, Perturbation

Turn = tuple[float, float]


def flat(hu: int, shape: tuple[int, int, int] = (4, 60, 80)) -> Volume:
    return volume_of(np.full(shape, hu, dtype=np.int16))


def numbered(shape: tuple[int, int, int], turn: Turn, slice_spacing: float = 3.0) -> Volume:
    """Return a volume whose every voxel has a value of its own."""
    return volume_of(
        np.arange(np.prod(shape), dtype=np.int16).reshape(shape),
        row_cosines=(turn[0], 0, 0),
        column_cosines=(0, turn[1], 0),
        slice_spacing=slice_spacing,
    )


def places(volume: Volume) -> dict[int, tuple[float, ...]]:
    """Return the LPS position of each value."""
    indices = np.argwhere(np.ones(volume.hu.shape, dtype=bool))
    positions = volume.geometry.to_patient(indices.astype(float)).round(6)
    return dict(zip(volume.hu.ravel().tolist(), map(tuple, positions.tolist()), strict=True))


shapes = st.tuples(st.integers(1, 6), st.integers(2, 9), st.integers(2, 9))
turns = st.sampled_from([(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])


@given(shape=shapes, turn=turns)
def test_stored_in_another_way_each_voxel_keeps_its_place(
    shape: tuple[int, int, int], turn: Turn
) -> None:
    volume = numbered(shape, turn)
    for change in (grids.stored_upside_down, grids.stored_turned):
        stored = change(volume)
        assert places(stored) == places(volume)
        assert not np.array_equal(stored.hu, volume.hu)
        back = change(stored)
        assert np.array_equal(back.hu, volume.hu)
        assert back.sources == volume.sources
        assert back.geometry.origin == pytest.approx(volume.geometry.origin)


@given(shape=shapes, turn=turns, share=st.floats(0.3, 1.0))
def test_a_smaller_field_of_view_is_the_middle_in_its_place(
    shape: tuple[int, int, int], turn: Turn, share: float
) -> None:
    volume = numbered(shape, turn)
    crop = grids.cropped(volume, share=share)
    assert places(crop).items() <= places(volume).items()
    rows, columns = grids.central(shape, share)
    assert np.array_equal(crop.hu, volume.hu[:, rows, columns])
    for size, kept in zip(shape[1:], (rows, columns), strict=True):
        assert kept.stop - kept.start == max(1, round(share * size))
        assert abs(kept.start - (size - kept.stop)) <= 1


@given(shape=shapes, turn=turns, size=st.integers(2, 20))
def test_another_matrix_covers_the_same_field_of_view(
    shape: tuple[int, int, int], turn: Turn, size: int
) -> None:
    volume = numbered(shape, turn)
    changed = grids.of_matrix(volume, size=size)
    if max(shape[1:]) == size:
        assert changed is None
        return
    assert changed is not None
    assert max(changed.hu.shape[1:]) == size
    assert corners(changed) == pytest.approx(corners(volume))


def corners(volume: Volume) -> NDArray[np.float64]:
    """Return the outer corners of the first slice."""
    _, rows, columns = volume.hu.shape
    ends = [[0, -0.5, -0.5], [0, rows - 0.5, columns - 0.5]]
    return volume.geometry.to_patient(np.array(ends))


@pytest.mark.parametrize("size", [24, 96])
def test_another_matrix_shows_the_same_tissue_in_the_same_place(size: int) -> None:
    rows, columns = np.mgrid[:48, :48]
    volume = volume_of((10 * rows + 20 * columns)[None].repeat(2, axis=0).astype(np.int16))
    changed = grids.of_matrix(volume, size=size)
    assert changed is not None
    inner = np.argwhere(np.ones(changed.hu.shape, dtype=bool))
    inner = inner[(inner[:, 1:] > 1).all(axis=1) & (inner[:, 1:] < size - 2).all(axis=1)]
    old = volume.geometry.to_index(changed.geometry.to_patient(inner.astype(float)))
    assert changed.hu[tuple(inner.T)] == pytest.approx(10 * old[:, 1] + 20 * old[:, 2], abs=1)


@given(turn=turns, spacing=st.floats(0.6, 6.0), count=st.integers(2, 12))
def test_other_slices_show_the_same_tissue_in_the_same_place(
    turn: Turn, spacing: float, count: int
) -> None:
    ramp = np.broadcast_to(100 * np.arange(count)[:, None, None], (count, 4, 4))
    volume = volume_of(
        ramp.astype(np.int16),
        row_cosines=(turn[0], 0, 0),
        column_cosines=(0, turn[1], 0),
        slice_spacing=spacing,
    )
    thin, thick = grids.thinner(volume, most_mm=1.25), grids.thicker(volume, mm=5.0)
    assert (thin is None) == (spacing <= 1.25)
    assert (thick is None) == (spacing > 5.0 - 1e-3 or count * spacing < 5.0 - 1e-5)
    if thin is not None:
        assert thin.thickness_mm == thin.geometry.slice_spacing <= 1.25 + 1e-6
        assert thin.hu[:, 0, 0] == pytest.approx(100 * old_slices(volume, thin), abs=0.51)
        assert thin.hu[0, 0, 0] == 0
        assert thin.hu[-1, 0, 0] == 100 * (count - 1)
    if thick is not None:
        assert thick.thickness_mm == thick.geometry.slice_spacing == 5.0
        assert thick.hu[:, 0, 0] == pytest.approx(100 * old_slices(volume, thick), abs=13)
        assert len(thick.hu) * 5.0 <= count * spacing + 1e-3 < (len(thick.hu) + 1) * 5.0


def old_slices(volume: Volume, changed: Volume) -> NDArray[np.float64]:
    """Return the fractional index in ``volume`` of each slice of ``changed``."""
    positions = [changed.geometry.slice_position(index) for index in range(len(changed.hu))]
    indices: NDArray[np.float64] = volume.geometry.to_index(np.array(positions))[:, 0]
    return indices


def test_five_thin_slices_become_their_mean() -> None:
    volume = volume_of(
        np.array([0, 10, 20, 30, 40, 500, 500, 500, 500, 500, 9], dtype=np.int16)[:, None, None]
        * np.ones((1, 2, 2), dtype=np.int16),
        slice_spacing=1.0,
    )
    thick = grids.thicker(volume, mm=5.0)
    assert thick is not None
    assert thick.hu[:, 0, 0].tolist() == [20, 500]
    assert thick.sources == (volume.sources[2], volume.sources[7])


def test_a_mirrored_and_a_prone_patient_have_the_header_that_they_had() -> None:
    volume = numbered((2, 3, 4), (1.0, 1.0))
    assert np.array_equal(grids.mirrored(volume).hu, volume.hu[:, :, ::-1])
    assert np.array_equal(grids.prone(volume).hu, volume.hu[:, ::-1, ::-1])
    for changed in (grids.mirrored(volume), grids.prone(volume)):
        assert changed.geometry == volume.geometry


def test_a_circle_leaves_the_middle_and_pads_the_corners() -> None:
    volume = flat(40)
    hu = grids.encircled(volume).hu
    assert (hu[:, 30, 40] == 40).all()
    assert (hu[:, [0, 0, -1, -1], [0, -1, 0, -1]] == AIR_HU).all()
    # Pixels are 0.8 by 0.9 mm: the circle has the height of 60 rows.
    share = np.pi * (60 * 0.8 / 2) ** 2 / (60 * 0.8 * 80 * 0.9)
    assert (hu == 40).mean() == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize("sd", [20, 40, 80])
def test_noise_has_the_deviation_that_was_asked_for(sd: int) -> None:
    noisy = greys.noisy(flat(40), sd=sd, seed=1)
    assert noisy.hu.std() == pytest.approx(sd, rel=0.02)
    assert noisy.hu.mean() == pytest.approx(40, abs=2)
    assert abs(np.corrcoef(noisy.hu[0].ravel(), noisy.hu[1].ravel())[0, 1]) < 0.05
    assert greys.noisy(flat(-1000), sd=sd, seed=1).hu.min() == AIR_HU


def test_a_seed_gives_the_same_noise_and_another_seed_gives_another() -> None:
    for change in (greys.noisy, greys.low_dose):
        once, again, other = (change(flat(40), sd=30, seed=seed).hu for seed in (1, 1, 2))
        assert np.array_equal(once, again)
        assert not np.array_equal(once, other)


def test_kernels_keep_the_mean_and_change_the_edges() -> None:
    hu = np.full((1, 40, 40), -800, dtype=np.int16)
    hu[:, :, 20:] = 40
    volume = volume_of(hu)
    smooth = greys.blurred(volume, sigma=1.0).hu
    sharp = greys.sharpened(volume, sigma=1.0, amount=1.0).hu
    for changed in (smooth, sharp):
        assert changed[:, :, 5:15] == pytest.approx(-800)
        assert changed.mean() == pytest.approx(hu.mean(), abs=1)
    step = 840
    assert smooth[0, 20, 20] - smooth[0, 20, 19] < 0.5 * step
    assert sharp[0, 20, 20] - sharp[0, 20, 19] > 1.2 * step


def test_a_shift_moves_tissue_and_leaves_padding_the_lowest_value() -> None:
    assert (greys.shifted(flat(40), hu=30).hu == 70).all()
    assert (greys.shifted(flat(-1010), hu=-30).hu == AIR_HU).all()


def test_low_dose_is_noisier_behind_more_tissue_and_streaks_along_the_rows() -> None:
    hu = np.full((6, 80, 500), -1000, dtype=np.int16)
    hu[:, 20:60] = 0  # a slab of water, 450 mm from side to side and 32 mm from front to back
    noise = (greys.low_dose(volume_of(hu), sd=30, seed=3).hu - hu).astype(float)
    inside = noise[:, 25:55, 100:400]
    assert inside.std() > 30
    along_rows, along_columns = inside.mean(axis=2).std(), inside.mean(axis=1).std()
    assert along_rows > 3 * along_columns
    upwards = noise[:, :10] > 0  # air is cut at -1024, so only the upper half is left
    assert noise[:, :10][upwards].std() < 0.2 * inside.std()


def test_low_dose_has_the_noise_that_was_asked_for_behind_250_mm_of_water() -> None:
    hu = np.zeros((8, 312, 278), dtype=np.int16)  # 250 mm each way
    noise = greys.low_dose(volume_of(hu), sd=30, seed=3).hu.astype(float)
    without_streaks = noise - noise.mean(axis=2, keepdims=True)
    assert without_streaks.std() == pytest.approx(30, rel=0.03)
    assert noise.mean(axis=2).std() == pytest.approx(15, rel=0.1)


@pytest.mark.parametrize("perturbed", PERTURBATIONS, ids=lambda each: each.name)
def test_every_perturbation_is_pure_and_shows_what_it_says(perturbed: Perturbation) -> None:
    hu = np.random.default_rng(0).integers(-1000, 400, (12, 32, 40)).astype(np.int16)
    volume, copy = volume_of(hu), hu.copy()
    changed, again = perturbed.change(volume), perturbed.change(volume)
    assert np.array_equal(volume.hu, copy)
    assert changed is not None
    assert again is not None
    assert np.array_equal(changed.hu, again.hu)
    assert changed.hu.dtype == np.int16
    labels = np.ones(hu.shape, dtype=np.uint8)
    visible = perturbed.visible(labels, volume.geometry)
    if perturbed.name.startswith("fov"):
        assert visible.shape == changed.hu.shape
    elif perturbed.name == "circle":
        assert np.array_equal(visible[0] == 0, changed.hu[0] != hu[0])
    else:
        assert visible is labels
