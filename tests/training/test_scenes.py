"""The scenes of opacities: what lies where, and how large it is."""

from __future__ import annotations

import numpy as np
import pytest
from labelled_chest import LUNG_HU, SPACING, TISSUE_HU, labelled_chest
from numpy.typing import NDArray

from training.chests import depth_in
from training.data import LEFT, RIGHT
from training.opacities import Opacity, Texture, paint
from training.scenes import SHARES, Scene, draw_scene

_SEEDS = range(8)
_VOXEL_ML = float(np.prod(SPACING)) / 1000
_LUNGS = labelled_chest().lungs
_DEPTH = depth_in(_LUNGS, SPACING)


def _scene(scene: Scene, seed: int) -> list[tuple[Opacity, NDArray[np.float32]]]:
    return draw_scene(_DEPTH, _LUNGS, SPACING, np.random.default_rng(seed), scene)


def _painted(opacity: Opacity, part: NDArray[np.float32]) -> NDArray[np.bool_]:
    hu = np.where(_DEPTH > 0, np.float32(LUNG_HU), np.float32(TISSUE_HU))
    return paint(hu, part, SPACING, opacity, 15.0)


def test_a_quarter_of_the_patients_have_a_consolidated_lobe() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert SHARES[Scene.LOBE] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("seed", _SEEDS)
def test_usual_opacities_are_one_to_nine(seed: int) -> None:
    assert 1 <= len(_scene(Scene.USUAL, seed)) <= 9


@pytest.mark.parametrize("seed", _SEEDS)
def test_pleural_opacities_touch_the_pleura(seed: int) -> None:
    drawn = _scene(Scene.PLEURAL, seed)
    assert 1 <= len(drawn) <= 4
    for opacity, part in drawn:
        assert 0 < _DEPTH[opacity.center] < 5
        truth = _painted(opacity, part)
        assert 0 < _DEPTH[truth].min() <= SPACING[0]
        assert truth.sum() * _VOXEL_ML < 100


def test_a_usual_pleural_opacity_is_small_and_solid() -> None:
    drawn = [item for seed in range(30) for item in _scene(Scene.PLEURAL, seed)]
    volumes = [_painted(*item).sum() * _VOXEL_ML for item in drawn]
    assert 0.5 < np.median(volumes) < 25
    solid = [opacity.texture is Texture.CONSOLIDATION for opacity, _ in drawn]
    assert np.mean(solid) == pytest.approx(0.75, abs=0.15)


@pytest.mark.parametrize("seed", _SEEDS)
def test_nodules_are_many_and_small(seed: int) -> None:
    drawn = _scene(Scene.NODULES, seed)
    assert 6 <= len(drawn) < 20
    radii = [float(np.cbrt(np.prod(opacity.radii_mm))) for opacity, _ in drawn]
    assert 4 < np.median(radii) < 13


@pytest.mark.parametrize("scene", [Scene.LOBE, Scene.LUNG])
@pytest.mark.parametrize("seed", _SEEDS)
def test_consolidation_of_a_lobe_or_a_lung_stays_in_one_lung(scene: Scene, seed: int) -> None:
    ((opacity, part),) = _scene(scene, seed)
    assert opacity.texture is Texture.CONSOLIDATION
    truth = _painted(opacity, part)
    (side,) = np.unique(_LUNGS[truth])
    assert side in (RIGHT, LEFT)
    share = truth.sum() / (side == _LUNGS).sum()
    if scene is Scene.LUNG:
        assert share == 1
    else:
        assert truth.sum() * _VOXEL_ML > 40


def test_both_lungs_are_consolidated_in_turn() -> None:
    sides = {int(_LUNGS[part > 0].max()) for seed in _SEEDS for _, part in _scene(Scene.LUNG, seed)}
    assert sides == {RIGHT, LEFT}


def test_a_solid_opacity_is_small_and_drawn_only_where_it_is_asked_for() -> None:
    assert Scene.SOLID not in SHARES
    drawn = [item for seed in range(30) for item in _scene(Scene.SOLID, seed)]
    assert len(drawn) == 30
    assert {opacity.texture for opacity, _ in drawn} == {Texture.CONSOLIDATION}
    volumes = [_painted(*item).sum() * _VOXEL_ML for item in drawn]
    assert np.mean(np.array(volumes) <= 10) > 0.8


def test_a_seed_without_a_scene_draws_one_of_the_shares() -> None:
    """The seeds of a training draw the same scenes for ever."""
    counts = [
        len(draw_scene(_DEPTH, _LUNGS, SPACING, np.random.default_rng(seed))) for seed in range(12)
    ]
    assert counts == [13, 4, 5, 6, 1, 1, 3, 15, 6, 1, 1, 7]
