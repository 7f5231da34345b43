from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from inference.reading.frame import Frame
from phantom import PhantomSpec, make_thorax
from training.data import IGNORE, LEFT, RIGHT
from training.real import known_series, read_volume
from training.real_labels.build import RealLabels, labels_of
from training.real_labels.command import label_chest
from training.real_labels.lungs import LungSettings, lungs_of
from training.real_labels.recipe import Edit, Region, known_recipes
from training.real_labels.split import known_parts

SPEC = PhantomSpec(
    shape=(70, 256, 256),
    slice_spacing_mm=5.0,
    pixel_spacing_mm=1.35,
    first_slice_mm=-180.0,
    noise_hu=15.0,
)
TRACHEA = (54, 121, 128)
STOMACH = {"box": [[0, 17], [50, 95], [130, 200]]}


class Chest:
    """A phantom on its frame, with its exact masks and its labels."""

    def __init__(self) -> None:
        thorax = make_thorax(SPEC)
        self.frame = Frame.of(thorax.volume())
        top, left = self.frame.corner
        rows, columns = self.frame.volume.hu.shape[1:]
        window = (slice(None), slice(top, top + rows), slice(left, left + columns))
        self.truth = {RIGHT: thorax.right_lung[window], LEFT: thorax.left_lung[window]}
        slab, row, column = TRACHEA
        self.trachea = (slab, row - top, column - left)
        gas = np.zeros(thorax.hu.shape, dtype=bool)
        gas |= Region.of(STOMACH).mask(gas.shape)
        self.labels = lungs_of(
            self.frame.volume.hu,
            self.frame.body,
            self.frame.volume.geometry.spacing,
            LungSettings(trachea=self.trachea),
            gas[window],
        )


@pytest.fixture(scope="module")
def chest() -> Chest:
    return Chest()


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_the_lungs_of_a_phantom(chest: Chest, side: int) -> None:
    assert dice(chest.labels == side, chest.truth[side]) >= 0.97


def test_each_lung_is_on_its_own_side(chest: Chest) -> None:
    assert not (chest.truth[RIGHT] & (chest.labels == LEFT)).any()
    assert not (chest.truth[LEFT] & (chest.labels == RIGHT)).any()


def test_the_trachea_is_no_lung(chest: Chest) -> None:
    slab, row, column = chest.trachea
    assert chest.frame.volume.hu[slab, row, column] < -900
    assert not chest.labels[slab - 10 : slab, row - 4 : row + 5, column - 4 : column + 5].any()


def test_no_lung_outside_the_body(chest: Chest) -> None:
    assert not chest.labels[~chest.frame.body].any()


def test_the_dome_of_the_diaphragm_is_no_lung(chest: Chest) -> None:
    soft = chest.frame.volume.hu > -100
    marked = soft & (chest.labels > 0)
    assert marked.sum() < 0.02 * (chest.labels > 0).sum()


def test_a_seed_far_from_the_trachea_is_refused(chest: Chest) -> None:
    with pytest.raises(ValueError, match="no air within 12 pixels"):
        lungs_of(
            chest.frame.volume.hu,
            chest.frame.body,
            chest.frame.volume.geometry.spacing,
            LungSettings(trachea=(54, 10, 10)),
        )


def test_a_region_is_interpolated_between_its_slabs() -> None:
    square = [[2, 2], [2, 5], [5, 5], [5, 2]]
    region = Region.of({"outlines": {"1": square, "3": [[r + 4, c] for r, c in square]}})
    mask = region.mask((6, 20, 20))
    assert [int(plane.sum()) for plane in mask] == [0, 16, 16, 16, 0, 0]
    assert mask[2, 4:8, 2:6].all()


def test_a_box_excludes_its_end() -> None:
    mask = Region.of({"box": [[1, 3], [4, 6], [7, 10]]}).mask((5, 20, 20))
    assert mask[1:3, 4:6, 7:10].all()
    assert mask.sum() == 12


def test_an_edit_changes_only_what_it_names() -> None:
    hu = np.full((2, 20, 20), -850, dtype=np.int16)
    hu[:, :, 10:] = 40
    labels = np.zeros((2, 20, 20), dtype=np.uint8)
    labels[1] = RIGHT
    everywhere = np.ones(labels.shape, dtype=bool)
    entry = {"why": "dense", "label": "unknown", "hu": [-100, 100], "only": ["none"]}
    edit = Edit.of({**entry, "box": [[0, 2], [0, 20], [0, 20]]})
    edit.apply(labels, hu, everywhere)
    assert (labels[1] == RIGHT).all()
    assert (labels[0, :, 11:] == IGNORE).all()
    assert not labels[0, :, :9].any()


def test_an_edit_closes_a_label() -> None:
    labels = np.full((1, 40, 40), LEFT, dtype=np.uint8)
    labels[0, 18:22, 18:40] = 0
    entry = {"why": "a lesion", "label": "left", "close": 4, "box": [[0, 1], [0, 40], [0, 34]]}
    Edit.of(entry).apply(labels, np.zeros(labels.shape, np.int16), np.ones(labels.shape, bool))
    assert (labels[0, :, :34] == LEFT).all()
    assert not labels[0, 19:21, 36:].any()


def test_an_edit_leaves_thin_vessels() -> None:
    hu = np.full((1, 40, 40), -850, dtype=np.int16)
    hu[0, 10:22, 10:22] = -400
    hu[0, 30, :] = 40
    labels = np.zeros(hu.shape, dtype=np.uint8)
    entry = {"why": "a lesion", "label": "lesion", "hu": [-720, 250], "blur": 1.0, "open": 2}
    edit = Edit.of({**entry, "box": [[0, 1], [0, 40], [0, 40]]})
    edit.apply(labels, hu, np.ones(hu.shape, dtype=bool))
    assert labels[0, 12:20, 12:20].all()
    assert not labels[0, 26:].any()


def test_every_recipe_gives_its_reasons() -> None:
    recipes = known_recipes()
    assert len({recipe.name for recipe in recipes.values()}) == len(recipes) == 8
    for recipe in recipes.values():
        assert all(edit.why for edit in (*recipe.lungs, *recipe.lesions))


def test_the_split_names_the_series_of_the_recipes_and_keeps_the_test_patient_aside() -> None:
    text = (resources.files("training") / "splits/chest-hu.json").read_text()
    series = json.loads(text)["series"]
    assert {uid: entry["name"] for uid, entry in series.items()} == {
        uid: recipe.name for uid, recipe in known_recipes().items()
    }
    assert {entry["part"] for entry in series.values()} == {"train", "selection", "test"}
    assert known_parts() == {uid: entry["part"] for uid, entry in series.items()}
    for uid, known in known_series().items():
        assert (known.part == "test") == (series[uid]["part"] == "test")


@pytest.mark.real
def test_labels_of_a_real_chest(shared_root: Path, tmp_path: Path) -> None:
    folder = shared_root / "data/chest-hu/wide-fov-5mm"
    if not folder.is_dir():
        pytest.skip("../shared/data/chest-hu is not on this machine")
    words = [str(folder), "--out", str(tmp_path)]
    result = CliRunner().invoke(label_chest, words)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.output)
    out = tmp_path / "train" / "wide-fov-5mm.npz"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [out]
    assert summary["name"] == "wide-fov-5mm"
    assert 1200 < summary["right_ml"] < 1400
    assert 900 < summary["left_ml"] < 1050
    assert summary["lesion_ml"] == 0
    stored = np.load(out)
    assert set(stored) == {"hu", "body", "lungs", "lesion", "spacing"}
    assert not stored["lungs"][~stored["body"]].any()
    volume = read_volume(folder)
    again: RealLabels = labels_of(volume, known_recipes()[volume.series_uid])
    np.testing.assert_array_equal(again.lungs, stored["lungs"])
    np.testing.assert_array_equal(again.lesion, stored["lesion"])
    written = out.stat()
    assert CliRunner().invoke(label_chest, words).exit_code == 0
    assert out.stat() == written


@pytest.mark.real
def test_a_series_without_a_recipe_is_refused(shared_root: Path, tmp_path: Path) -> None:
    folder = next((shared_root / "data").glob("chest-ct/*"), None)
    if folder is None:
        pytest.skip("../shared/data/chest-ct is not on this machine")
    known = known_recipes()
    known.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.real_labels.command.known_recipes", lambda: known)
        result = CliRunner().invoke(label_chest, [str(folder), "--out", str(tmp_path / "chests")])
    assert result.exit_code == 1
    assert "no recipe for series" in result.output
    assert not (tmp_path / "chests").exists()
