"""The first command, with and without the software that Debian has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from rales.demo.pacs import find_orthanc
from rales.demo.run import dcmtks_storescu, values_of


@pytest.fixture(params=["without packages", "with packages"])
def search_path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the PATH of a machine where nothing was installed, and that of this one."""
    if request.param == "without packages":
        (tmp_path / "bin").mkdir()
        return str(tmp_path / "bin")
    if not find_orthanc() or not dcmtks_storescu():
        pytest.skip("needs Debian's orthanc and dcmtk")
    return os.environ["PATH"]


def test_the_demo_brings_its_results_back(
    search_path: str, small_series: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rales", "demo", "--series", str(small_series)]
    done = subprocess.run(
        [*command, "--out", str(out)],
        env=os.environ | {"PATH": search_path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    debians = search_path == os.environ["PATH"]
    assert ("PACS: Orthanc" in done.stdout) == debians
    assert ("dcmtk's storescu" in done.stdout) == debians
    assert [pydicom.dcmread(out / f"{role}.dcm").Modality for role in ("seg", "sr")] == [
        "SEG",
        "SR",
    ]
    assert (out / "overlay.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_pacs_changed_is_told_from_another_encoding(
    small_series: Path, tmp_path: Path
) -> None:
    made = min(small_series.iterdir())
    dataset = pydicom.dcmread(made)
    kept, changed = tmp_path / "kept.dcm", tmp_path / "changed.dcm"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    dataset.save_as(kept, implicit_vr=True, little_endian=True)
    assert values_of(kept) == values_of(made)
    dataset.SeriesNumber = 4711
    dataset.save_as(changed, implicit_vr=True, little_endian=True)
    assert values_of(changed) != values_of(made)
