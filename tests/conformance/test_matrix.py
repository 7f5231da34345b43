"""Results over a matrix of sources, judged by programs that share no code with the writers.

dicom3tools says whether the objects are what the standard asks for, dcmqi and highdicom read
them back, dcmtk prints the report. Where a voxel has to lie is read from the source files.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from conformance_series import (
    Variant,
    analysed,
    lungs,
    truth,
    with_lesion,
    with_lesions,
)
from ct_series import STEP
from enhanced_ct import Layout
from judges import (
    inflated,
    known_to_older_judges,
    require_one_study,
    require_same_places,
    require_valid,
    run,
    segments_of,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from chestct.results import Profile
from chestct.volume import LEFT_LABELS, RIGHT_LABELS, Label

TILT = math.radians(4)
LUNG_VOLUME = "Volume of lung with its opacities, sum of segments"
LEFT, RIGHT = "Left lung excluding opacities", "Right lung excluding opacities"
SEGMENTS = {
    LEFT: Label.LEFT_LUNG,
    RIGHT: Label.RIGHT_LUNG,
    "Left ground-glass opacity": Label.LEFT_GROUND_GLASS,
    "Right ground-glass opacity": Label.RIGHT_GROUND_GLASS,
    "Left consolidation": Label.LEFT_CONSOLIDATION,
    "Right consolidation": Label.RIGHT_CONSOLIDATION,
}
NAMES = {
    "latin-1": ("ISO_IR 100", "Müller^Jörg"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "gb18030": ("GB18030", "Wang^XiaoDong=王^小东"),
    "utf-8": ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
}
PLAIN = Variant(labels=with_lesion(lungs()))
MIRRORED = Variant(labels=with_lesion(lungs(mirrored=True)))


def elements(**values: Any) -> Any:
    """Return a change that sets elements; None takes one away."""

    def change(_index: int, dataset: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, value)

    return change


def private(creator: str, group: int, **values: Any) -> Any:
    """Return a change that sets elements and adds a private block as the vendor does."""
    plain = elements(**values)

    def change(index: int, dataset: Dataset) -> None:
        plain(index, dataset)
        dataset.private_block(group, creator, create=True).add_new(0x10, "LO", f"slice {index}")

    return change


VARIANTS = {
    "ge": replace(
        PLAIN,
        signed=True,
        change=private(
            "GEMS_ACQU_01",
            0x0019,
            Manufacturer="GE MEDICAL SYSTEMS",
            BitsStored=16,
            HighBit=15,
            PixelPaddingValue=-2000,
            RescaleType="HU",
            ConvolutionKernel="LUNG",
            PatientPosition="HFS",
        ),
    ),
    "siemens": replace(
        PLAIN,
        change=private(
            "SIEMENS CT VA0  COAD",
            0x0019,
            Manufacturer="SIEMENS",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
            ConvolutionKernel=["I70f", "3"],
            PositionReferenceIndicator="",
            RescaleType=None,
        ),
    ),
    "philips": replace(
        PLAIN,
        intercept=-1000,
        change=private(
            "ELSCINT1",
            0x00E1,
            Manufacturer="Philips",
            BodyPartExamined=None,
            PatientBirthDate=None,
            StudyID="",
            ConvolutionKernel="L",
        ),
        syntax=ImplicitVRLittleEndian,
    ),
    "toshiba": replace(
        PLAIN,
        intercept=0,
        signed=True,
        change=private(
            "TOSHIBA_MEC_CT3",
            0x7005,
            Manufacturer="TOSHIBA",
            BitsStored=16,
            HighBit=15,
            ConvolutionKernel="FC51",
            AccessionNumber="",
        ),
    ),
    "implicit": replace(PLAIN, syntax=ImplicitVRLittleEndian),
    "deflated": replace(PLAIN, syntax=DeflatedExplicitVRLittleEndian),
    "rle": replace(PLAIN, syntax=RLELossless),
    "jpeg-ls": replace(PLAIN, syntax=JPEGLSLossless),
    "jpeg-2000": replace(PLAIN, syntax=JPEG2000Lossless),
    "jpeg-lossless": replace(PLAIN, syntax=JPEGLosslessSV1),
    **{
        name: replace(PLAIN, change=elements(SpecificCharacterSet=charset, PatientName=patient))
        for name, (charset, patient) in NAMES.items()
    },
    "prone": replace(MIRRORED, cosines=((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))),
    "feet-first": replace(MIRRORED, cosines=((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
    "feet-first-prone": replace(PLAIN, cosines=((1.0, 0.0, 0.0), (0.0, -1.0, 0.0))),
    "oblique": replace(PLAIN, cosines=((1.0, 0.0, 0.0), (0.0, math.cos(TILT), math.sin(TILT)))),
    "descending": replace(PLAIN, steps=tuple(-step for step in PLAIN.steps)),
    "thin-anisotropic": replace(
        PLAIN, steps=tuple(0.625 * index for index in range(24)), spacing=(0.9, 0.9)
    ),
    "unequal": replace(
        PLAIN, steps=tuple(STEP * index + 0.04 * (index % 3 - 1) for index in range(24))
    ),
    "no-lesion": Variant(labels=lungs()),
    "hundreds-of-lesions": Variant(labels=with_lesions(lungs())),
    "enhanced": replace(PLAIN, enhanced=True),
    "enhanced-in-parts": replace(
        PLAIN, layout=Layout(sizes=(10, 9, 5), seed=7, own_groups=True, rescales=True)
    ),
    "enhanced-concatenation": replace(
        PLAIN,
        layout=Layout(sizes=(13, 11), concatenated=True, rescales=True, fragments=3),
        syntax=JPEGLSLossless,
    ),
    "enhanced-prone": replace(
        MIRRORED,
        cosines=((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
        layout=Layout(seed=1, own_groups=True, extended=True),
        syntax=JPEG2000Lossless,
    ),
    "enhanced-rle": replace(PLAIN, layout=Layout(rescales=True), syntax=RLELossless),
    "enhanced-jpeg-lossless": replace(PLAIN, layout=Layout(seed=2), syntax=JPEGLosslessSV1),
    "enhanced-legacy": replace(PLAIN, layout=Layout(legacy=True)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_judge_agrees(name: str, tmp_path: Path) -> None:
    variant = VARIANTS[name]
    series, files = variant.write(tmp_path / "series")
    results = analysed(series).compose(tmp_path / "out", Profile.OHIF, Profile.LABELMAP)
    paths = {item.role: item.path for item in results.objects}
    points = truth(files, pydicom.dcmread)
    tolerance = 0.15 if name == "unequal" else 2e-3  # mm; one grid stands for uneven slices
    for kind in ("", "-labelmap"):
        seg, sr = paths[f"seg{kind}"], paths[f"sr{kind}"]
        known = known_to_older_judges(sr)
        for path in (seg, known):
            require_valid(path)
            require_patient(path, files[0])
        require_one_study([*(inflated(path) for path in files), seg, sr])
        require_voxels(segments_of(seg, tmp_path / f"nrrd{kind}"), points, tolerance)
        hd.seg.segread(seg)
        hd.sr.srread(sr)
        require_measurements(sr, tmp_path / "sr.json", points, voxel_ml(variant))
        require_rendered(known)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_spelled_as_in_the_source(name: str, tmp_path: Path) -> None:
    series, _files = VARIANTS[name].write(tmp_path / "series")
    for item in analysed(series).compose(tmp_path / "out").objects:
        assert str(pydicom.dcmread(item.path).PatientName) == NAMES[name][1]


def test_the_judges_see_what_is_wrong(tmp_path: Path) -> None:
    series, files = PLAIN.write(tmp_path / "series")
    seg, sr = (item.path for item in (analysed(series).compose(tmp_path / "out").objects))
    points = truth(files, pydicom.dcmread)
    found = segments_of(seg, tmp_path / "nrrd")
    found[LEFT] = found[LEFT] + [0.0, 0.0, STEP]
    with pytest.raises(AssertionError):
        require_voxels(found, points, 2e-3)

    report = pydicom.dcmread(sr)
    report.PatientName = "Somebody^Else"
    report.save_as(sr)
    with pytest.raises(AssertionError, match="PatientName"):
        require_one_study([*files, seg, sr])

    segmentation = pydicom.dcmread(seg)
    del segmentation.SegmentSequence[0].SegmentAlgorithmType
    segmentation.save_as(seg)
    with pytest.raises(AssertionError, match="SegmentAlgorithmType"):
        require_valid(seg)


def require_patient(path: Path, source: Path) -> None:
    before, after = pydicom.dcmread(source), pydicom.dcmread(path)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID"):
        assert after[keyword].value == before[keyword].value


def require_rendered(sr: Path) -> None:
    """DCMTK prints the whole tree without a word of complaint."""
    done = run("dsrdump", sr)
    assert done.returncode == 0, done.stderr
    assert "Imaging Measurement Report" in done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith(("E:", "F:"))] == []


def require_voxels(
    found: dict[str, NDArray[np.float64]], points: dict[Label, NDArray], tolerance: float
) -> None:
    """Every voxel of the source is in its segment, at its place in the patient, and no other."""
    for name, label in SEGMENTS.items():
        require_same_places(found.get(name, np.empty((0, 3))), points[label], tolerance)
    assert found.keys() <= SEGMENTS.keys()
    assert found[LEFT][:, 0].mean() > found[RIGHT][:, 0].mean()


def voxel_ml(variant: Variant) -> float:
    """Return the volume of a voxel by the mean distance of the slices."""
    between = abs(variant.steps[-1] - variant.steps[0]) / (len(variant.steps) - 1)
    return between * math.prod(variant.spacing) / 1000.0


def require_measurements(sr: Path, out: Path, points: dict[Label, NDArray], ml: float) -> None:
    """tid1500reader finds the volume of each lung that the source says."""
    done = run("tid1500reader", "--inputDICOM", sr, "--outputMetadata", out)
    assert done.returncode == 0, done.stdout + done.stderr
    read: dict[str, dict[str, float]] = {}
    for group in json.loads(out.read_text())["Measurements"]:
        own = read.setdefault(group["TrackingIdentifier"], {})
        for one in group.get("measurementItems", ()):
            own[one["quantity"]["CodeMeaning"]] = float(one["value"])
    for name, (lung, *lesions) in (("Left lung", LEFT_LABELS), ("Right lung", RIGHT_LABELS)):
        lesion = sum(len(points[label]) for label in lesions)
        count = len(points[lung]) + lesion
        assert read[name][LUNG_VOLUME] == pytest.approx(count * ml, abs=0.0051)
        share = 100.0 * lesion / count
        assert read[name]["Percent of lung involved"] == pytest.approx(share, abs=0.0051)
