"""Public data sets with faults: rejected, or read without wrong labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from linear_models import ModelFolder
from numpy.typing import NDArray

nib = pytest.importorskip("nibabel", reason="the extra rales[train] is not installed")

from inference.networks.session import (
    OnnxModel,
    load_model,
)
from training.data import load_slices
from training.sources.command import split
from training.sources.layouts import LayoutError, Scan
from training.sources.nifti import read_canonical, read_scan
from training.sources.prepare import prepare

pytestmark = pytest.mark.train

LPS = (-1.0, -1.0, 1.0)


def write(
    path: Path,
    voxels: NDArray[np.generic],
    steps: tuple[float, float, float] = LPS,
    at: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Path:
    """Write voxels (slice, row, column); ``steps`` mm along column, row and slice."""
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = at
    nib.Nifti1Image(voxels.transpose(2, 1, 0).astype(np.int16), affine).to_filename(path)
    return path


def scan_in(folder: Path, count: int = 6, thickness: float = 5.0) -> Scan:
    """Write ``count`` slices, all with lung, each of another density, one lesion voxel each."""
    image = np.full((count, 8, 8), -850)
    image += np.arange(count)[:, None, None] * 40
    lungs = np.ones((count, 8, 8))
    lungs[:, :, 4:] = 2
    lesion = np.zeros((count, 8, 8))
    lesion[:, 2:6, 1:3] = 1
    steps = (-1.0, -1.0, thickness)
    return Scan(
        name="a",
        patient="a",
        image=write(folder / "image.nii.gz", image, steps),
        lungs=write(folder / "lungs.nii.gz", lungs, steps),
        lesion=write(folder / "lesion.nii.gz", lesion, steps),
    )


@pytest.fixture
def finds_nothing(folder_of_models: ModelFolder) -> OnnxModel:
    weights = [[1.0], [0.0], [0.0]]
    manifest = folder_of_models.write("lungs", weights)
    return load_model(manifest, provider="CPU", threads=1)


@pytest.mark.parametrize(
    ("steps", "at"),
    [((-1.0, 1.0, 5.0), (0.0, 0.0, 0.0)), ((-1.0, -1.0, 5.0), (0.0, 3.0, 0.0))],
    ids=["turned", "moved"],
)
def test_a_mask_whose_header_lies_elsewhere_is_refused(
    steps: tuple[float, float, float], at: tuple[float, float, float], tmp_path: Path
) -> None:
    """With the same shape, it would silently be read in the wrong orientation."""
    scan = scan_in(tmp_path)
    write(tmp_path / "lesion.nii.gz", np.ones((6, 8, 8)), steps, at)
    with pytest.raises(LayoutError, match=r"lesion\.nii\.gz and its image do not agree"):
        read_scan(scan)


@pytest.mark.parametrize("value", [4, 255, -1, 256])
def test_an_unexplained_value_is_no_healthy_lung(value: int, tmp_path: Path) -> None:
    """A mask of 0 and 255 would make the patient healthy; 256 in a byte is 0."""
    scan = scan_in(tmp_path)
    write(tmp_path / "lesion.nii.gz", np.full((6, 8, 8), value), (-1.0, -1.0, 5.0))
    with pytest.raises(LayoutError, match=r"lesion or not|is no mask"):
        read_scan(scan)


def test_values_of_the_scanner_are_not_taken_for_hounsfield_units(tmp_path: Path) -> None:
    scan = scan_in(tmp_path)
    write(scan.image, np.full((6, 8, 8), 1000), (-1.0, -1.0, 5.0))
    with pytest.raises(LayoutError, match="neither HU"):
        read_scan(scan)


def test_a_header_without_a_place_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([1.0, 1.0, 1.0, 1.0]))
    image.header.set_sform(np.diag([0.0, 0.0, 0.0, 1.0]), 1)
    path = tmp_path / "a.nii"
    image.to_filename(path)
    raw = bytearray(path.read_bytes())
    raw[280:328] = bytes(48)  # srow_x, srow_y and srow_z
    path.write_bytes(raw)
    with pytest.raises(LayoutError, match="how its axes lie"):
        read_canonical(path)


def test_single_slices_are_not_each_others_neighbours(
    finds_nothing: OnnxModel, tmp_path: Path
) -> None:
    scan = replace(scan_in(tmp_path), slices_apart=True)
    prepare("set", [scan], tmp_path / "a.npz", finds_nothing, lambda _one: None)
    data = load_slices(tmp_path / "a.npz")
    every = np.arange(6)
    np.testing.assert_array_equal(data.neighbour(every, 1), every)
    np.testing.assert_array_equal(data.neighbour(every, -1), every)
    with np.load(tmp_path / "a.npz") as content:
        assert set(content["patient"]) == {"set:a"}
        assert len(set(content["name"])) == len(content["spacing"]) == 6


@pytest.mark.parametrize(("thickness", "slices"), [(5.0, 6), (2.0, 3), (1.0, 2)])
def test_neighbours_are_as_far_apart_as_on_live_ct(
    thickness: float, slices: int, finds_nothing: OnnxModel, tmp_path: Path
) -> None:
    out = tmp_path / "a.npz"
    (done,) = prepare(
        "set", [scan_in(tmp_path, thickness=thickness)], out, finds_nothing, lambda _one: None
    )
    assert done.slices == done.with_lesion == slices
    assert len(load_slices(out).images) == slices


def test_a_scan_without_lungs_is_left_out_and_the_rest_kept(
    finds_nothing: OnnxModel, tmp_path: Path
) -> None:
    """A bad scan among a thousand must not stop a long run."""
    good = scan_in(tmp_path)
    bad = replace(good, name="b", patient="b", lungs=None, lesion=None)
    done = prepare("set", [bad, good], tmp_path / "a.npz", finds_nothing, lambda _one: None)
    assert [one.refused is None for one in done] == [False, True]
    assert load_slices(tmp_path / "a.npz").names == ("set:a",)
    with pytest.raises(LayoutError, match="shows lungs"):
        prepare("set", [bad], tmp_path / "b.npz", finds_nothing, lambda _one: None)
    assert not list(tmp_path.glob("b.npz*"))


def prepared(path: Path, patients: list[str]) -> Path:
    """Write what ``split`` reads of a prepared file: two volumes of each patient."""
    names = [f"{one}-{number}" for one in patients for number in (1, 2)]
    np.savez(path, name=names, patient=np.repeat(patients, 2))
    return path


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_on_both_sides_and_every_set_is_watched(seed: int, tmp_path: Path) -> None:
    first = prepared(tmp_path / "a.npz", ["p", "q"])
    second = prepared(tmp_path / "b.npz", ["q", "r", "s", "t", "u"])
    out = tmp_path / "split.json"
    words = [str(first), str(second), "--out", str(out), "--seed", str(seed)]
    assert CliRunner().invoke(split, words, catch_exceptions=False).exit_code == 0
    parts = json.loads(out.read_text())["volumes"]
    train, watched = ({name[0] for name in parts[one]} for one in ("train", "validation"))
    assert not train & watched
    assert train | watched == set("pqrstu")
    assert len(watched & set("pq")) == 1
    assert len(watched & set("rstu")) == 1


def test_a_file_that_prepare_did_not_write_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "slices.npz", ct=np.zeros(1))
    words = [str(tmp_path / "slices.npz"), "--out", str(tmp_path / "split.json")]
    done = CliRunner().invoke(split, words)
    assert done.exit_code == 1
    assert "slices.npz was not written by `prepare`" in done.output
    assert not (tmp_path / "split.json").exists()
