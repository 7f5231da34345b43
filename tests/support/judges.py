"""Programs that judge results and share no code with the writers: dicom3tools, dcmqi."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    SegmentationStorage,
)
from scipy.spatial import cKDTree

TOOLS = Path(sys.executable).parent
LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
_SUMMARY = "Dicom dataset contains invalid data values for Value Representations"


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a tool of the virtual environment or of the machine; skip without it."""
    own = TOOLS / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, check=False, errors="replace"
    )


def inflated(path: Path) -> Path:
    """Return a file that dcentvfy can read: it does not know deflated ones."""
    dataset = pydicom.dcmread(path)
    if dataset.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return path
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    copy = path.with_suffix(".inflated")
    dataset.save_as(copy)
    return copy


def require_valid(path: Path, verbatim: str = "") -> None:
    """The IOD validator finds no error (Device UID, CP-2231, is newer than its IODs).

    ``verbatim``: what it says of values that are taken over from the source as they stand.
    """
    done = run("dciodvfy", path)
    said = (done.stdout + done.stderr).splitlines()
    bad = [line for line in said if line.startswith(("Error", "Abort"))]
    if verbatim:
        bad = [line for line in bad if verbatim not in line and _SUMMARY not in line]
    assert not bad, "\n".join(bad)
    assert {"Segmentation", "Comprehensive3DSR", "ComprehensiveSR"} & set(said)


def require_one_study(paths: list[Path]) -> None:
    """The validator of entities finds one patient and study, and all that is referenced.

    What the sources reference themselves (a converted image those that it was made of) need not
    be there.
    """
    done = run("dcentvfy", *paths)
    said = (done.stdout + done.stderr).splitlines()
    own = [
        line
        for line in said
        if not ("Missing SOPInstanceUID that was referenced" in line and "/series/" in line)
    ]
    bad = [line for line in own if line.startswith(("Error", "Abort"))]
    assert not bad, "\n".join(bad)


def segments_of(seg: Path, folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return the voxel centres of each segment, LPS mm (n, 3), as dcmqi reads them."""
    folder.mkdir()
    arguments = ("--inputDICOM", seg, "--outputDirectory", folder, "--outputType", "nrrd")
    done = run("segimage2itkimage", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    dataset = pydicom.dcmread(seg)
    numbers = {str(one.SegmentLabel): int(one.SegmentNumber) for one in dataset.SegmentSequence}
    if dataset.SegmentationType == "LABELMAP":
        (image,) = folder.glob("*.nrrd")
        return {name: nrrd_points(image, number) for name, number in numbers.items() if number}
    return {name: nrrd_points(folder / f"{number}.nrrd") for name, number in numbers.items()}


def known_to_older_judges(sr: Path) -> Path:
    """Return a copy of an SR that names label maps as segmentations.

    dciodvfy (2026-09) takes a Label Map Segmentation for no segmentation in a reference, and DCMTK
    before 3.6.9 for no image; dcmqi 1.5.7, with a newer DCMTK, reads the SR as it is.
    """
    report = pydicom.dcmread(sr)
    for element in report.iterall():
        if element.keyword == "ReferencedSOPClassUID" and element.value == LABELMAP:
            element.value = SegmentationStorage
    copy = sr.with_suffix(".known")
    report.save_as(copy)
    return copy


def nrrd_points(path: Path, number: int | None = None) -> NDArray[np.float64]:
    """Return where an NRRD is ``number``, by default where it is not 0, (n, 3) in its space."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    lines = [line for line in head.decode().splitlines() if ": " in line and line[0] != "#"]
    fields = dict(line.split(": ", 1) for line in lines)
    assert fields["space"] == "left-posterior-superior"
    if fields["encoding"] in {"gzip", "gz"}:
        body = gzip.decompress(body)
    kind = {"short": "<i2", "unsigned short": "<u2", "unsigned char": "u1", "uint8": "u1"}
    sizes = [int(size) for size in fields["sizes"].split()]
    voxels = np.frombuffer(body, kind[fields["type"]]).reshape(sizes[::-1])
    axes = np.array([vector(text) for text in fields["space directions"].split()])
    origin = np.array(vector(fields["space origin"]))
    wanted = voxels > 0 if number is None else voxels == number
    return np.argwhere(wanted)[:, ::-1] @ axes + origin


def vector(text: str) -> list[float]:
    return [float(part) for part in text.strip("()").split(",")]


def require_same_places(found: NDArray, wanted: NDArray, tolerance: float) -> None:
    """The two sets of points are one: each has its partner within ``tolerance`` mm."""
    assert len(found) == len(wanted)
    if len(wanted) == 0:
        return
    for points, others in ((found, wanted), (wanted, found)):
        far, _ = cKDTree(others).query(points)
        assert far.max() <= tolerance
