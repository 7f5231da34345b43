import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from phantom import (
    LesionKind,
    LesionSpec,
    PhantomIdentity,
    PhantomSpec,
    Thorax,
    make_thorax,
    small_spec,
    write_series,
)
from phantom import __main__ as command


def test_the_lungs_are_apart_and_on_their_sides(small_thorax: Thorax) -> None:
    left, right = small_thorax.left_lung, small_thorax.right_lung
    assert not (left & right).any()
    assert np.nonzero(left)[2].mean() > np.nonzero(right)[2].mean()
    for lung in (left, right):
        assert 1500 < small_thorax.volume_ml(lung) < 3500


def test_lesions_lie_in_the_lung_that_was_asked_for(small_thorax: Thorax) -> None:
    right, left = small_thorax.lesion == 1, small_thorax.lesion == 2
    assert right.any()
    assert left.any()
    assert not (right & ~small_thorax.right_lung).any()
    assert not (left & ~small_thorax.left_lung).any()


def test_each_kind_attenuates_as_it_should(small_thorax: Thorax) -> None:
    hu = small_thorax.hu
    glass, dense = small_thorax.lesion == 1, small_thorax.lesion == 2
    healthy = (small_thorax.left_lung | small_thorax.right_lung) & (small_thorax.lesion == 0)
    assert -900 < np.median(hu[healthy]) < -750
    assert -700 < np.median(hu[glass]) < -400
    assert -150 < np.median(hu[dense]) < 80


def test_a_healthy_phantom_has_no_lesion(healthy_thorax: Thorax) -> None:
    assert not healthy_thorax.lesion.any()


def test_the_volume_is_that_of_the_voxels(small_thorax: Thorax) -> None:
    voxels = int(small_thorax.left_lung.sum())
    assert small_thorax.volume_ml(small_thorax.left_lung) == pytest.approx(
        voxels * 5.0 * 1.68 * 1.68 / 1000
    )


def test_the_same_spec_gives_the_same_voxels_and_another_seed_another_patient() -> None:
    small = small_spec(shape=(20, 80, 80), pixel_spacing_mm=4.7)
    first, again = make_thorax(small), make_thorax(small)
    other = make_thorax(small_spec(shape=(20, 80, 80), pixel_spacing_mm=4.7, seed=5))
    assert np.array_equal(first.hu, again.hu)
    assert not np.array_equal(first.left_lung, other.left_lung)


def test_a_kind_that_is_no_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="is not a LesionKind"):
        LesionSpec(
            kind=str(LesionKind.GROUND_GLASS),  # type: ignore[arg-type]
            side="left",
            center=(0.5, 0.5, 0.5),
            radius_mm=(9, 9, 9),
        )
    with pytest.raises(TypeError, match="is not a Kernel"):
        PhantomSpec(kernel="B31f")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"side": "Left"}, "neither left nor right"),
        ({"center": (0.5, 1.2, 0.5)}, "outside the lung"),
        ({"radius_mm": (9.0, 0.0, 9.0)}, "not all positive"),
    ],
)
def test_a_lesion_that_would_lie_elsewhere_is_refused(wrong: dict[str, Any], said: str) -> None:
    right: dict[str, Any] = {"side": "left", "center": (0.5, 0.5, 0.5), "radius_mm": (9, 9, 9)}
    with pytest.raises(ValueError, match=said):
        LesionSpec(kind=LesionKind.GROUND_GLASS, **(right | wrong))


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless],
)
def test_every_transfer_syntax_gives_the_same_voxels(syntax: UID, tmp_path: Path) -> None:
    thorax = make_thorax(small_spec(shape=(3, 32, 32), pixel_spacing_mm=11.0, lesions=()))
    for index, path in enumerate(write_series(thorax, tmp_path, transfer_syntax=syntax)):
        dataset = pydicom.dcmread(path)
        assert dataset.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(dataset.pixel_array.astype(int) - 1024, thorax.hu[index])


def test_big_endian_is_refused(small_thorax: Thorax, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="retired"):
        write_series(small_thorax, tmp_path, transfer_syntax=ExplicitVRBigEndian)


def test_the_command_writes_a_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_spec(shape=(6, 64, 64), slice_spacing_mm=50.0, pixel_spacing_mm=5.9, lesions=())
    monkeypatch.setattr(command, "healthy_spec", lambda: small)
    result = CliRunner().invoke(
        command.main, ["--healthy", "--seed", "3", "--out", str(tmp_path / "new")]
    )
    assert result.exit_code == 0, result.output
    assert "6 slices" in result.output
    assert "lesions 0.0 ml" in result.output
    headers = [pydicom.dcmread(path) for path in (tmp_path / "new").iterdir()]
    assert len(headers) == 6
    assert {header.DeviceSerialNumber for header in headers} == {"3"}
    assert len({header.SOPInstanceUID for header in headers}) == 6
    assert len({header.SeriesInstanceUID for header in headers}) == 1


def test_given_uids_are_kept(small_thorax: Thorax, tmp_path: Path) -> None:
    identity = PhantomIdentity(
        study_uid="1.2.3", series_uid="1.2.4", frame_of_reference_uid="1.2.5"
    )
    dataset = pydicom.dcmread(write_series(small_thorax, tmp_path, identity)[0])
    assert dataset.StudyInstanceUID == "1.2.3"
    assert dataset.SeriesInstanceUID == "1.2.4"
    assert dataset.FrameOfReferenceUID == "1.2.5"


def test_the_files_hold_the_voxels_in_order(small_thorax: Thorax, small_series: Path) -> None:
    files = sorted(small_series.iterdir())
    assert len(files) == 60
    for path in files[::20]:
        dataset = pydicom.dcmread(path)
        height = float(dataset.ImagePositionPatient[2])
        index = round((height - small_thorax.origin[2]) / small_thorax.spacing[0])
        hu = dataset.pixel_array.astype(int) * int(dataset.RescaleSlope)
        hu += int(dataset.RescaleIntercept)
        assert np.array_equal(hu, small_thorax.hu[index])
    first, last = (pydicom.dcmread(path) for path in (files[0], files[-1]))
    assert first.InstanceNumber == 1
    assert first.ImagePositionPatient[2] > last.ImagePositionPatient[2]


def test_the_files_are_valid(small_series: Path) -> None:
    dciodvfy = shutil.which("dciodvfy", path=f"{Path(sys.executable).parent}:/usr/bin")
    if dciodvfy is None:
        pytest.skip("dciodvfy is not installed")
    said = subprocess.run(
        [dciodvfy, str(next(small_series.iterdir()))], capture_output=True, text=True, check=False
    )
    assert "Error" not in said.stderr, said.stderr


def test_names_of_any_language_and_any_transfer_syntax(
    small_thorax: Thorax, tmp_path: Path
) -> None:
    identity = PhantomIdentity(patient_name="Ямада^Тарō=山田^太郎", patient_id="Ø1")
    (path, *_) = write_series(small_thorax, tmp_path, identity, JPEG2000Lossless)
    dataset = pydicom.dcmread(path)
    assert str(dataset.PatientName) == "Ямада^Тарō=山田^太郎"
    assert dataset.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert np.array_equal(dataset.pixel_array.astype(int) - 1024, small_thorax.hu[0])
