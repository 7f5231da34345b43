"""Synthetic opacities: exact truth, only inside the lungs, visible, and as drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chestct.volume import Volume
from inference.networks.session import load_models
from phantom import make_thorax
from phantom.spec import small_spec
from training.data import LEFT, RIGHT
from training.opacities import Opacity, Texture, draw_opacities, paint, pleural_depth
from training.plain import make_plain, plain_slices
from training.real import cut, known_series, lesion_free_parts
from training.rescan import rescan
from training.synthetic import real_cases

_SPACING = (5.0, 2.0, 2.0)
_LUNG_HU = -850.0


def _lungs() -> NDArray[np.bool_]:
    lungs = np.zeros((30, 64, 96), dtype=bool)
    lungs[2:28, 8:56, 8:44] = True
    lungs[2:28, 8:56, 52:88] = True
    return lungs


def _opacity(texture: Texture, **changes: object) -> Opacity:
    solid = texture is Texture.CONSOLIDATION
    opacity = Opacity(
        texture=texture,
        center=(15, 32, 24),
        radii_mm=(30.0, 20.0, 20.0),
        crescent_mm=None,
        density_hu=0.0 if solid else 300.0,
        core_hu=0.0,
        edge_mm=2.0,
        roughness=0.0,
        seed=1,
    )
    return replace(opacity, **changes)


def _painted(opacity: Opacity) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    lungs = _lungs()
    hu = np.where(lungs, np.float32(_LUNG_HU), np.float32(40)).astype(np.float32)
    truth = paint(hu, pleural_depth(lungs, _SPACING), _SPACING, opacity, 15.0)
    return hu, truth


def test_a_smooth_opacity_has_the_volume_of_its_ellipsoid() -> None:
    _, truth = _painted(_opacity(Texture.CONSOLIDATION))
    voxel = np.prod(_SPACING)
    assert truth.sum() * voxel == pytest.approx(4 / 3 * np.pi * 30 * 20 * 20, rel=0.03)
    assert np.argwhere(truth).mean(axis=0) == pytest.approx([15, 32, 24], abs=0.01)


@pytest.mark.parametrize("texture", list(Texture))
def test_every_texture_is_denser_than_the_lung_inside_and_leaves_the_rest_alone(
    texture: Texture,
) -> None:
    hu, truth = _painted(_opacity(texture))
    lungs = _lungs()
    far = ~truth & ~np.roll(truth, 3, 2) & ~np.roll(truth, -3, 2)
    far &= ~np.roll(truth, 3, 1) & ~np.roll(truth, -3, 1)
    far &= ~np.roll(truth, 1, 0) & ~np.roll(truth, -1, 0)
    assert (hu[lungs & far] == _LUNG_HU).all()
    assert (hu[~lungs] == 40).all()
    low, high = {
        Texture.GROUND_GLASS: (-650, -450),
        Texture.CRAZY_PAVING: (-640, -400),
        Texture.MIXED: (-600, -150),
        Texture.CONSOLIDATION: (-30, 30),
    }[texture]
    core = truth & np.roll(truth, 4, 2) & np.roll(truth, -4, 2)
    assert low < hu[core].mean() < high


def test_a_crescent_stays_at_the_pleura() -> None:
    opacity = _opacity(Texture.GROUND_GLASS, center=(15, 50, 24), radii_mm=(40.0, 60.0, 60.0))
    _, whole = _painted(opacity)
    _, crescent = _painted(replace(opacity, crescent_mm=8.0))
    depth = pleural_depth(_lungs(), _SPACING)
    assert depth[whole].max() > 20
    assert 0 < depth[crescent].max() <= 12


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_drawn_opacities_stay_in_the_lungs_and_repeat(seed: int) -> None:
    lungs = _lungs()
    depth = pleural_depth(lungs, _SPACING)

    def once() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        hu = np.where(lungs, np.float32(_LUNG_HU), np.float32(40)).astype(np.float32)
        truth = np.zeros(hu.shape, dtype=bool)
        for opacity in draw_opacities(depth, _SPACING, np.random.default_rng(seed)):
            truth |= paint(hu, depth, _SPACING, opacity, 15.0)
        return hu, truth

    hu, truth = once()
    assert not truth[~lungs].any()
    assert (hu[~lungs] == 40).all()
    assert np.isfinite(hu).all()
    again = once()
    assert np.array_equal(hu, again[0])
    assert np.array_equal(truth, again[1])


def test_a_cut_keeps_its_place_in_the_patient() -> None:
    volume = make_thorax(small_spec()).volume()
    part = cut(volume, 10, 25)
    assert part.geometry.shape == (15, 224, 224)
    assert np.array_equal(part.hu, volume.hu[10:25])
    assert part.geometry.slice_position(3) == volume.geometry.slice_position(13)
    assert part.sources == volume.sources[10:25]


def test_another_reconstruction_keeps_the_mean_and_differs() -> None:
    hu = np.random.default_rng(0).normal(-500, 100, (6, 64, 64)).astype(np.float32)
    for seed in range(8):
        again = rescan(hu, np.random.default_rng(seed), (3.0, 0.7, 0.7))
        assert again.shape == hu.shape
        assert again.mean() == pytest.approx(hu.mean(), abs=5)
    assert any(
        not np.allclose(rescan(hu, np.random.default_rng(seed), (3.0, 0.7, 0.7)), hu)
        for seed in range(8)
    )


def test_the_list_keeps_training_and_test_patients_apart() -> None:
    series = known_series().values()
    assert {one.part for one in series} == {"train", "test"}
    assert all(first < last for one in series for first, last in one.parts)


@pytest.fixture(scope="module")
def philips(shared_root: Path) -> Path:
    return shared_root / "data/chest-ct/lungdx-5mm"


@pytest.mark.real
def test_cases_in_a_real_chest(philips: Path) -> None:
    untouched, *cases = real_cases(philips, range(3001, 3006))
    assert untouched.seed % 3 == 0
    assert not untouched.lesion.any()
    assert [case.seed for case in cases] == [3001, 3002, 3004, 3005]
    for case in cases:
        changed = case.volume.hu != untouched.volume.hu
        assert case.kinds
        assert case.lesion.any()
        assert (case.lungs | ~case.lesion).all()
        assert (case.lungs | ~changed).all()
        assert changed[case.lesion].mean() > 0.9


def test_a_series_that_nobody_looked_at_is_refused() -> None:
    volume: Volume = make_thorax(small_spec()).volume()
    with pytest.raises(ValueError, match="not in splits"):
        lesion_free_parts(volume, load_models(providers=("CPU",)).lungs)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_plain_chest_has_two_lungs_and_its_lesions_in_them(seed: int) -> None:
    chest = make_plain(seed, lesions=seed != 3)
    for side in (RIGHT, LEFT):
        assert (chest.sides == side).sum() * np.prod(chest.spacing) > 300_000
    columns = [np.argwhere(chest.sides == side)[:, 2].mean() for side in (RIGHT, LEFT)]
    assert columns[0] < 127 < columns[1]
    assert chest.lesion.any() == (seed != 3)
    assert (chest.sides[chest.lesion] > 0).all()
    healthy = (chest.sides > 0) & ~chest.lesion
    assert -950 < chest.hu[healthy].mean() < -700
    if seed != 3:
        assert chest.hu[chest.lesion].mean() > chest.hu[healthy].mean() + 60


def test_plain_slices_name_their_source() -> None:
    data = plain_slices(range(2, 4))
    assert data.names == ("plain-2", "plain-3")
    assert data.select([0]).lesions.any()
    assert not data.select([1]).lesions.any()
