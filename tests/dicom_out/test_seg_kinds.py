"""The SEG as a label map, and results that travel compressed: the same voxels either way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from chest_cases import Case, both_lungs, healthy_lungs, left_lesion, make_case
from judges import known_to_older_judges
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)
from sending import send
from sr_content import groups, items, values

from chestct.results import Profile, ReportOptions, ResultObject
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.transfer import compressed_syntaxes

pytestmark = pytest.mark.slow

LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
DCIODVFY = Path(sys.executable).with_name("dciodvfy")


def numbers_of(case: Case) -> NDArray[np.uint8]:
    """Return the segment number of each voxel, in the order of the segments."""
    _, numbers = np.unique(case.lesion_map.labels, return_inverse=True)
    return numbers.reshape(case.lesion_map.labels.shape).astype(np.uint8)


def planes_of(seg: Dataset, case: Case) -> NDArray[np.uint8]:
    """Return the label map of a SEG, each frame where its source image lies."""
    sources = [(one.sop_instance_uid, one.frame_number) for one in case.volume.sources]
    found = np.zeros(case.volume.geometry.shape, np.uint8)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for plane, frame in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        at = (source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber"))
        found[sources.index(at)] = plane
    return found


def code_of(segment: Dataset, which: str) -> tuple[str, str]:
    """Return the code of the category or the type of a segment."""
    (code,) = segment[f"SegmentedProperty{which}CodeSequence"]
    return code.CodeValue, code.CodingSchemeDesignator


@pytest.mark.parametrize("labels", [both_lungs, left_lesion, healthy_lungs])
@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_a_label_map_holds_the_same_segments(
    labels: Callable[[], NDArray[np.uint8]], *, enhanced: bool, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", labels=labels(), enhanced=enhanced)
    binary = [pydicom.dcmread(one.path) for one in case.compose(tmp_path / "out").objects]
    results = case.compose(tmp_path / "out", Profile.LABELMAP)
    assert [one.role for one in results.objects] == ["seg-labelmap", "sr-labelmap"]
    seg, sr = (pydicom.dcmread(one.path) for one in results.objects)
    assert (seg.SOPClassUID, seg.SegmentationType) == (LABELMAP, "LABELMAP")
    wanted = numbers_of(case)
    assert np.array_equal(planes_of(seg, case), wanted)
    assert seg.NumberOfFrames == wanted.any(axis=(1, 2)).sum(), "only frames that hold something"
    described = [
        (one.SegmentNumber, one.SegmentLabel, one.TrackingUID) for one in seg.SegmentSequence[1:]
    ]
    assert described == [
        (one.SegmentNumber, one.SegmentLabel, one.TrackingUID) for one in binary[0].SegmentSequence
    ]
    background = seg.SegmentSequence[0]
    assert (background.SegmentNumber, seg.PixelPaddingValue) == (0, 0)
    assert (code_of(background, "Category"), code_of(background, "Type")) == (
        ("309825002", "SCT"),  # Spatial and Relational Concept
        ("125040", "DCM"),  # Background
    )
    assert set(np.unique(wanted)) <= {one.SegmentNumber for one in seg.SegmentSequence}
    assert {seg.SOPInstanceUID, sr.SOPInstanceUID}.isdisjoint(
        {one.SOPInstanceUID for one in binary}
    )
    references = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(sr)
        if item.ValueType == "IMAGE"
        and item.ReferencedSOPSequence[0].ReferencedSOPClassUID == LABELMAP
    }
    assert references == {seg.SOPInstanceUID}
    assert binary[0].SOPInstanceUID not in str(sr), "nothing that the destination does not get"
    for name in ("Summary", "Left lung", "Left consolidation", "Lesion 1"):
        assert values(*groups(sr, name)) == values(*groups(binary[1], name))


def test_the_iod_validator_finds_no_error_in_any_kind(tmp_path: Path) -> None:
    if not DCIODVFY.exists():
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    case = make_case(tmp_path / "series")
    options = ReportOptions(measured_lesions=2, lesion_segments=True)
    for kind in (Profile.OHIF, Profile.LABELMAP):
        objects = case.compose(tmp_path / "out", kind, options=options).objects
        assert [one.role for one in objects] == [
            kind.role(role) for role in ("seg", "seg-lesions", "sr")
        ]
        for item in objects:
            done = subprocess.run(
                [DCIODVFY, known_to_older_judges(item.path)],
                capture_output=True,
                text=True,
                check=False,
            )
            said = (done.stdout + done.stderr).splitlines()
            errors = [line for line in said if line.startswith("Error")]
            assert errors == []


class Archive:
    """Keeps what arrives, with the transfer syntax in which it came."""

    def __init__(self) -> None:
        self.syntaxes: list[UID] = []
        self.kept: list[Dataset] = []

    def store(self, event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        self.syntaxes.append(UID(event.context.transfer_syntax))
        self.kept.append(dataset)
        return 0x0000


@pytest.fixture
def objects(tmp_path: Path) -> dict[str, ResultObject]:
    case = make_case(tmp_path / "series")
    return {
        one.role: one
        for one in case.compose(tmp_path / "out", Profile.OHIF, Profile.LABELMAP).objects
    }


@pytest.mark.parametrize(
    ("role", "taken", "used"),
    [
        ("seg", (*PLAIN, DeflatedExplicitVRLittleEndian), DeflatedExplicitVRLittleEndian),
        ("seg", (DeflatedExplicitVRLittleEndian,), DeflatedExplicitVRLittleEndian),
        ("seg", (*PLAIN, RLELossless), ExplicitVRLittleEndian),
        ("seg", (ImplicitVRLittleEndian,), ImplicitVRLittleEndian),
        ("seg-labelmap", (*PLAIN, RLELossless, DeflatedExplicitVRLittleEndian), RLELossless),
        (
            "seg-labelmap",
            (*PLAIN, DeflatedExplicitVRLittleEndian),
            DeflatedExplicitVRLittleEndian,
        ),
        ("seg-labelmap", PLAIN, ExplicitVRLittleEndian),
        ("sr", (*PLAIN, DeflatedExplicitVRLittleEndian), ExplicitVRLittleEndian),
    ],
)
def test_it_travels_in_the_smallest_form_that_is_accepted(
    role: str,
    taken: tuple[str, ...],
    used: str,
    objects: dict[str, ResultObject],
    start_scp: Callable[..., Destination],
) -> None:
    archive = Archive()
    kinds = (SegmentationStorage, LABELMAP, COMPREHENSIVE_3D_SR)
    scp = replace(start_scp(archive.store, kinds=kinds, syntaxes=taken), compress=True)
    (outcome,) = send([objects[role]], scp, calling_ae="RALES", timeout_seconds=10)
    assert outcome.kind is OutcomeKind.DELIVERED, outcome.message
    assert archive.syntaxes == [used]
    (arrived,) = archive.kept
    sent = pydicom.dcmread(objects[role].path)
    assert arrived.SOPInstanceUID == sent.SOPInstanceUID
    if role == "sr":
        assert arrived == sent
    else:
        assert np.array_equal(arrived.pixel_array, sent.pixel_array)
        del arrived.PixelData, sent.PixelData
        assert arrived == sent, "nothing else has changed"


def test_it_is_not_compressed_unasked(
    objects: dict[str, ResultObject], start_scp: Callable[..., Destination]
) -> None:
    archive = Archive()
    taken = (*PLAIN, RLELossless, DeflatedExplicitVRLittleEndian)
    scp = start_scp(archive.store, kinds=(SegmentationStorage, LABELMAP), syntaxes=taken)
    chosen = [objects["seg"], objects["seg-labelmap"]]
    outcomes = send(chosen, scp, calling_ae="RALES", timeout_seconds=10)
    assert [one.kind for one in outcomes] == [OutcomeKind.DELIVERED] * 2
    assert archive.syntaxes == [ExplicitVRLittleEndian] * 2


def test_a_binary_mask_is_never_proposed_in_rle() -> None:
    """RLE works on whole bytes, and BINARY has eight pixels in one (PS3.5 annex G)."""
    assert compressed_syntaxes(SegmentationStorage, asked=True) == (DeflatedExplicitVRLittleEndian,)
    assert compressed_syntaxes(COMPREHENSIVE_3D_SR, asked=True) == ()
