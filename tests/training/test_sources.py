"""Public data sets: right orientation, sides and masks, or a clear message."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

nib = pytest.importorskip("nibabel", reason="the extra rales[train] is not installed")

from phantom import make_thorax, small_spec
from training.__main__ import main
from training.data import LEFT, RIGHT, load_slices
from training.sources.layouts import DATASETS, LayoutError, Scan
from training.sources.nifti import read_canonical, read_scan, sides_by_place

pytestmark = pytest.mark.train

WAYS = [
    "".join(way)
    for axes in itertools.permutations(("LR", "PA", "SI"))
    for way in itertools.product(*axes)
]


def write(
    path: Path,
    voxels: NDArray[np.generic],
    codes: str = "LPS",
    spacing: tuple[float, float, float] = (5.0, 0.8, 0.7),
) -> Path:
    """Write canonical voxels (slice, row, column), stored along the axes of ``codes``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])  # NIfTI's axes are RAS+
    image = nib.Nifti1Image(voxels.transpose(2, 1, 0).astype(np.int16), affine)
    now = nib.orientations.io_orientation(affine)
    then = nib.orientations.axcodes2ornt(tuple(codes))
    image.as_reoriented(nib.orientations.ornt_transform(now, then)).to_filename(path)
    return path


@pytest.mark.parametrize("codes", WAYS)
def test_every_orientation_comes_back_the_same(codes: str, tmp_path: Path) -> None:
    voxels = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    found = read_canonical(write(tmp_path / "a.nii.gz", voxels, codes))
    np.testing.assert_array_equal(found.voxels, voxels)
    assert found.spacing == pytest.approx((5.0, 0.8, 0.7))


def scan_of(tmp_path: Path, image: NDArray[np.generic], mask: NDArray[np.generic]) -> Scan:
    return Scan(
        name="a",
        patient="a",
        image=write(tmp_path / "image.nii.gz", image),
        lungs=write(tmp_path / "lungs.nii.gz", mask),
        lesion=write(tmp_path / "lesion.nii.gz", mask),
        lesion_values=(1, 2),
        other_values=(3,),
    )


def test_only_the_values_that_are_lesion_count(tmp_path: Path) -> None:
    mask = np.zeros((2, 4, 6), dtype=int)
    mask[0, 0, :3] = [1, 2, 3]
    found = read_scan(scan_of(tmp_path, np.full((2, 4, 6), -800), mask))
    assert np.argwhere(found.lesion).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert found.window is None


def test_grey_levels_are_not_taken_for_hounsfield_units(tmp_path: Path) -> None:
    image = np.linspace(0, 250, 48).reshape(2, 4, 6).astype(int)
    found = read_scan(scan_of(tmp_path, image, np.ones((2, 4, 6), dtype=int)))
    assert found.window == (0.0, 250.0)


@pytest.mark.parametrize("labels", [(1, 2), (2, 1), (20, 10)])
def test_sides_follow_their_place_whatever_their_numbers(labels: tuple[int, int]) -> None:
    lungs = np.zeros((1, 4, 10), dtype=np.uint8)
    lungs[:, :, 1:4], lungs[:, :, 6:9] = labels
    sides = sides_by_place(lungs)
    assert (sides[:, :, 1:4] == RIGHT).all()
    assert (sides[:, :, 6:9] == LEFT).all()
    assert np.array_equal(sides, sides_by_place((lungs > 0).astype(np.uint8)))


def test_a_mask_of_another_grid_is_refused(tmp_path: Path) -> None:
    scan = scan_of(tmp_path, np.zeros((2, 4, 6)), np.zeros((2, 4, 6)))
    write(tmp_path / "lesion.nii.gz", np.zeros((2, 4, 7)))
    with pytest.raises(LayoutError, match=r"lesion.nii.gz has \(2, 4, 7\) voxels"):
        read_scan(scan)


def test_a_file_that_is_no_nifti_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no NIfTI at all")
    with pytest.raises(LayoutError, match=r"a\.nii\.gz is no NIfTI"):
        read_canonical(tmp_path / "a.nii.gz")


LAYOUTS = {
    "covid-19-ct-seg": [
        "COVID-19-CT-Seg_20cases/radiopaedia_29_86490_1.nii.gz",
        "COVID-19-CT-Seg_20cases/radiopaedia_29_86491_1.nii.gz",
        "Lung_Mask/radiopaedia_29_86490_1.nii.gz",
        "Lung_Mask/radiopaedia_29_86491_1.nii.gz",
        "Infection_Mask/radiopaedia_29_86490_1.nii.gz",
        "Infection_Mask/radiopaedia_29_86491_1.nii.gz",
    ],
    "mosmed": [
        "studies/CT-0/study_0001.nii.gz",
        "studies/CT-1/study_0255.nii.gz",
        "masks/study_0255_mask.nii.gz",
    ],
    "medseg": [
        "tr_im.nii.gz",
        "tr_mask.nii.gz",
        "rp_im/1.nii.gz",
        "rp_msk/1.nii.gz",
        "rp_lung_msk/1.nii.gz",
    ],
    "covid-19-20": [
        "Train/volume-covid19-A-0003_ct.nii.gz",
        "Train/volume-covid19-A-0003_seg.nii.gz",
    ],
}


def touch(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("dataset", list(DATASETS))
def test_what_is_missing_in_a_folder_is_named(dataset: str, tmp_path: Path) -> None:
    names = LAYOUTS[dataset]
    touch(tmp_path, names)
    scans = list(DATASETS[dataset](tmp_path))
    files = {file for one in scans for file in (one.image, one.lungs, one.lesion) if file}
    assert files == {tmp_path / name for name in names}
    (tmp_path / names[-1]).unlink()
    with pytest.raises(LayoutError, match=r"is missing|there is no"):
        list(DATASETS[dataset](tmp_path))


def test_two_volumes_of_a_case_are_one_patient(tmp_path: Path) -> None:
    touch(tmp_path, LAYOUTS["covid-19-ct-seg"])
    assert {one.patient for one in DATASETS["covid-19-ct-seg"](tmp_path)} == {"radiopaedia_29"}


def test_a_study_without_findings_has_no_lesion_mask(tmp_path: Path) -> None:
    touch(tmp_path, LAYOUTS["mosmed"])
    healthy, ill = DATASETS["mosmed"](tmp_path)
    assert (healthy.name, healthy.lesion) == ("study_0001", None)
    assert ill.lesion is not None


def test_prepared_files_are_split_by_patient_and_read_for_training(tmp_path: Path) -> None:
    """The whole way with phantoms in MosMedData's folders: lungs come from the lung network."""
    thorax = make_thorax(
        small_spec(shape=(24, 160, 160), slice_spacing_mm=12.0, pixel_spacing_mm=2.35)
    )
    folder = tmp_path / "mosmed"
    write(folder / "studies/CT-0/study_0001.nii.gz", thorax.hu, "RAS", thorax.spacing)
    for number in (255, 256):
        write(folder / f"studies/CT-1/study_0{number}.nii.gz", thorax.hu, "LAI", thorax.spacing)
        mask = folder / f"masks/study_0{number}_mask.nii.gz"
        write(mask, thorax.lesion > 0, "RPI", thorax.spacing)
    out = tmp_path / "out/mosmed.npz"
    done = CliRunner().invoke(main, ["prepare", "mosmed", str(folder), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "3 patients, 3 volumes" in done.output
    assert [one.name for one in out.parent.iterdir()] == ["mosmed.npz"]
    data = load_slices(out)
    assert data.names == ("mosmed:study_0001", "mosmed:study_0255", "mosmed:study_0256")
    assert not data.named(["mosmed:study_0001"]).lesions.any()
    ill = data.named(["mosmed:study_0255"])
    assert ill.images.shape[1:] == (256, 256)
    truth = (thorax.lesion > 0).mean(axis=(1, 2))
    expected = truth[truth > 0].sum() / thorax.hu.shape[0]
    found = ill.lesions.mean(axis=(1, 2)).sum() / thorax.hu.shape[0]
    assert found == pytest.approx(expected, rel=0.1)
    columns = [np.argwhere(ill.lungs == side)[:, 2].mean() for side in (RIGHT, LEFT)]
    assert columns[0] < 128 < columns[1]
    with np.load(out) as content:
        assert content["lung_source"][0].startswith("rales-lungs")
        assert content["spacing"][0] == pytest.approx((12.0, 2.35, 2.35), rel=1e-3)
    parts = tmp_path / "split.json"
    words = ["split", str(out), "--out", str(parts), "--validation", "0.34"]
    assert CliRunner().invoke(main, words).exit_code == 0
    volumes = json.loads(parts.read_text())["volumes"]
    assert sorted(volumes["train"] + volumes["validation"]) == list(data.names)
    assert len(volumes["validation"]) == 1


def test_a_wrong_folder_gives_a_message_of_one_line(tmp_path: Path) -> None:
    words = ["prepare", "covid-19-20", str(tmp_path), "--out", str(tmp_path / "a.npz")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "there is no *_ct.nii.gz" in done.output
    assert not (tmp_path / "a.npz").exists()
