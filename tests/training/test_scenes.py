"""The scenes of opacities: what lies where, and how large it is."""

from __future__ import annotations

import numpy as np
import pytest
from labelled_chest import LUNG_HU, SPACING, TISSUE_HU, labelled_chest
from numpy.typing import NDArray

from training.chests import depth_in
from training.data import LEFT, RIGHT
from training.opacities import _SCENE_SHARES, _SCENES, Opacity, Texture, draw_scene, paint

_SEEDS = range(8)
_VOXEL_ML = float(np.prod(SPACING)) / 1000
_LUNGS = labelled_chest().lungs
_DEPTH = depth_in(_LUNGS, SPACING)


def _scene(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Opacity, NDArray[np.float32]]]:
    shares = [float(scene == name) for scene in _SCENES]
    monkeypatch.setattr("training.opacities._SCENE_SHARES", shares)
    return draw_scene(_DEPTH, _LUNGS, SPACING, np.random.default_rng(seed))


def _painted(opacity: Opacity, part: NDArray[np.float32]) -> NDArray[np.bool_]:
    hu = np.where(_DEPTH > 0, np.float32(LUNG_HU), np.float32(TISSUE_HU))
    return paint(hu, part, SPACING, opacity, 15.0)


def test_half_of_the_patients_have_the_usual_opacities() -> None:
    assert sum(_SCENE_SHARES) == pytest.approx(1)
    assert dict(zip(_SCENES, _SCENE_SHARES, strict=True))["usual"] == 0.5


@pytest.mark.parametrize("seed", _SEEDS)
def test_usual_opacities_are_one_to_nine(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= len(_scene("usual", seed, monkeypatch)) <= 9


@pytest.mark.parametrize("seed", _SEEDS)
def test_pleural_opacities_touch_the_pleura(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = _scene("pleural", seed, monkeypatch)
    assert 1 <= len(scene) <= 4
    for opacity, part in scene:
        assert 0 < _DEPTH[opacity.center] < 5
        truth = _painted(opacity, part)
        assert 0 < _DEPTH[truth].min() <= SPACING[0]
        assert truth.sum() * _VOXEL_ML < 100


def test_a_usual_pleural_opacity_is_small_and_solid(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [item for seed in range(30) for item in _scene("pleural", seed, monkeypatch)]
    volumes = [_painted(*item).sum() * _VOXEL_ML for item in drawn]
    assert 0.5 < np.median(volumes) < 25
    solid = [opacity.texture is Texture.CONSOLIDATION for opacity, _ in drawn]
    assert np.mean(solid) == pytest.approx(0.75, abs=0.15)


@pytest.mark.parametrize("seed", _SEEDS)
def test_nodules_are_many_and_small(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = _scene("nodules", seed, monkeypatch)
    assert 6 <= len(scene) < 20
    radii = [float(np.cbrt(np.prod(opacity.radii_mm))) for opacity, _ in scene]
    assert 4 < np.median(radii) < 13


@pytest.mark.parametrize("name", ["lobe", "lung"])
@pytest.mark.parametrize("seed", _SEEDS)
def test_consolidation_of_a_lobe_or_a_lung_stays_in_one_lung(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((opacity, part),) = _scene(name, seed, monkeypatch)
    assert opacity.texture is Texture.CONSOLIDATION
    truth = _painted(opacity, part)
    (side,) = np.unique(_LUNGS[truth])
    assert side in (RIGHT, LEFT)
    share = truth.sum() / (side == _LUNGS).sum()
    if name == "lung":
        assert share == 1
    else:
        assert truth.sum() * _VOXEL_ML > 40


def test_both_lungs_are_consolidated_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {
        int(_LUNGS[part > 0].max())
        for seed in _SEEDS
        for _, part in _scene("lung", seed, monkeypatch)
    }
    assert sides == {RIGHT, LEFT}
