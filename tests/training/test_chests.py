"""A labelled chest becomes scans: opacities in its lungs, labels that follow, a field of view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelled_chest import KNOWN_LESION, UNKNOWN_LESION, UNKNOWN_LUNG, labelled_chest
from numpy.typing import NDArray

from inference.loading.pixels import AIR_HU
from training.chests import LabelledChest, Scan, chest_slices, depth_in, load_chest, make_scan
from training.data import IGNORE, LEFT, RIGHT, join
from training.grey import CANVAS

_PAINTED = (1, 2, 4, 5, 7, 8)


@pytest.fixture(scope="module")
def chest() -> LabelledChest:
    return labelled_chest()


@pytest.fixture(scope="module")
def depth(chest: LabelledChest) -> NDArray[np.float32]:
    return depth_in(chest.lungs, chest.spacing)


@pytest.fixture
def whole_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.chests._CUT_SHARE", 0.0)


@pytest.fixture
def cut_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.chests._CUT_SHARE", 1.0)


def _new(scan: Scan, chest: LabelledChest) -> NDArray[np.bool_]:
    return (scan.lesion == 1) & (chest.lesion != 1)


def test_the_depth_is_that_of_each_lung_by_itself(
    chest: LabelledChest, depth: NDArray[np.float32]
) -> None:
    assert ((depth > 0) == np.isin(chest.lungs, (RIGHT, LEFT))).all()
    # One slab is 8 mm, a pixel 4 mm: the second row from the surface is 8 mm deep.
    assert depth[8, 11, 60] == 8
    touching = np.full((8, 8, 8), RIGHT, dtype=np.uint8)
    touching[:, :, 4:] = LEFT
    assert depth_in(touching, (1.0, 1.0, 1.0))[4, 4].tolist() == [4, 3, 2, 1, 1, 2, 3, 4]


@pytest.mark.usefixtures("whole_view")
@pytest.mark.parametrize("seed", _PAINTED)
def test_painted_opacities_lie_in_the_lungs_and_are_the_truth(
    seed: int, chest: LabelledChest, depth: NDArray[np.float32]
) -> None:
    scan = make_scan(chest, depth, seed)
    new = _new(scan, chest)
    assert new.any()
    assert (depth[new] > 0).all()
    healthy = (depth > 0) & (scan.lesion == 0)
    assert scan.hu[new].mean() > np.median(scan.hu[healthy]) + 60
    assert np.array_equal(scan.lungs, chest.lungs)


@pytest.mark.usefixtures("whole_view")
@pytest.mark.parametrize("seed", [0, 3, 6])
def test_every_third_seed_paints_no_opacity(
    seed: int, chest: LabelledChest, depth: NDArray[np.float32]
) -> None:
    scan = make_scan(chest, depth, seed)
    assert np.array_equal(scan.lesion, chest.lesion)
    assert np.array_equal(scan.lungs, chest.lungs)


@pytest.mark.usefixtures("whole_view")
@pytest.mark.parametrize("seed", _PAINTED)
def test_labels_of_the_chest_stay(
    seed: int, chest: LabelledChest, depth: NDArray[np.float32]
) -> None:
    scan = make_scan(chest, depth, seed)
    assert (scan.lungs[UNKNOWN_LUNG] == IGNORE).all()
    assert (scan.lesion[KNOWN_LESION] == 1).all()
    unknown = scan.lesion[UNKNOWN_LESION]
    assert np.isin(unknown, (1, IGNORE)).all()
    assert ((scan.lesion == IGNORE) <= (chest.lesion == IGNORE)).all()


@pytest.mark.parametrize("seed", [2, 3])
def test_a_seed_gives_the_same_scan_again(
    seed: int, chest: LabelledChest, depth: NDArray[np.float32]
) -> None:
    first, again = make_scan(chest, depth, seed), make_scan(chest, depth, seed)
    for name in ("hu", "lungs", "lesion"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.hu, make_scan(chest, depth, seed + 1).hu)


@pytest.mark.usefixtures("cut_view")
@pytest.mark.parametrize("seed", range(1, 7))
def test_beyond_the_field_of_view_are_air_and_no_labels(
    seed: int, chest: LabelledChest, depth: NDArray[np.float32]
) -> None:
    scan = make_scan(chest, depth, seed)
    blank = scan.hu == AIR_HU
    assert blank[~chest.body].all()
    assert not scan.lungs[blank].any()
    assert not scan.lesion[blank].any()
    # Each plane shows the same part, and the part is most of it.
    assert (blank == blank[0]).mean() > 0.99
    assert (blank & chest.body).mean() < 0.5


@pytest.mark.usefixtures("cut_view")
def test_some_fields_of_view_cut_the_body(chest: LabelledChest, depth: NDArray[np.float32]) -> None:
    cut = [
        ((make_scan(chest, depth, seed).hu == AIR_HU) & chest.body).mean() for seed in range(1, 13)
    ]
    assert max(cut) > 0.03


def test_the_scans_stand_on_the_canvas(chest: LabelledChest) -> None:
    data = chest_slices([chest], range(1, 4))
    assert data.names == ("chest-boxes-1", "chest-boxes-2", "chest-boxes-3")
    assert data.images.shape == data.lungs.shape == data.lesions.shape
    assert data.images.shape == (48, CANVAS, CANVAS)
    assert data.volumes.tolist() == [0] * 16 + [1] * 16 + [2] * 16
    assert data.unknown is not None
    assert not (data.lesions & data.unknown).any()
    assert not data.images[:, :40].any()
    assert not data.lungs[:, :40].any()
    aerated = np.isin(data.lungs, (RIGHT, LEFT)) & ~data.lesions & ~data.unknown
    assert np.median(data.images[aerated]) / 255 * 1424 - 1024 == pytest.approx(-850, abs=120)


def test_the_scans_of_a_chest_stand_at_different_places(chest: LabelledChest) -> None:
    data = chest_slices([chest], range(3, 13, 3))
    places = {
        tuple(np.argwhere(data.select([at]).lungs > 0).min(axis=0)) for at in range(len(data.names))
    }
    assert len(places) == 4


def test_no_chest_gives_no_slices(chest: LabelledChest) -> None:
    none, some = chest_slices([], range(1, 4)), chest_slices([chest], range(1, 2))
    assert none.names == ()
    assert len(none.images) == 0
    both = join([none, some])
    assert both.names == some.names
    assert np.array_equal(both.lesions, some.lesions)


def test_a_chest_comes_back_as_its_label_file_holds_it(
    chest: LabelledChest, tmp_path: Path
) -> None:
    arrays = {name: getattr(chest, name) for name in ("hu", "body", "lungs", "lesion", "spacing")}
    np.savez_compressed(tmp_path / "boxes.npz", **arrays)
    loaded = load_chest(tmp_path / "boxes.npz")
    assert loaded.name == "boxes"
    assert loaded.spacing == chest.spacing
    for name in ("hu", "body", "lungs", "lesion"):
        assert np.array_equal(getattr(loaded, name), getattr(chest, name))
