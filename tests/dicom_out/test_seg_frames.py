"""The frames of a SEG that are encoded at once are those of highdicom, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from chest_cases import both_lungs, healthy_lungs, left_lesion, make_case
from numpy.typing import NDArray
from pydicom.dataset import Dataset

import dicom_out.objects.compose as composer
import dicom_out.objects.seg as builder
import dicom_out.objects.seg_parts as parts
from chestct.errors import ResultInvalid
from chestct.results import Profile, ReportOptions
from dicom_out.objects.written import EncodedObject, encode

Labels = NDArray[np.uint8]


def one_lung() -> Labels:
    """Return a left lung alone: the SEG has one segment."""
    labels = healthy_lungs()
    labels[labels != 1] = 0
    return labels


def odd_lungs() -> Labels:
    """Return lungs in images whose pixels do not fill whole bytes."""
    return both_lungs()[:, :23, :17].copy()


@pytest.mark.parametrize("labels", [both_lungs, healthy_lungs, left_lesion, one_lung, odd_lungs])
@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_the_frames_are_those_of_highdicom(
    labels: Callable[[], Labels],
    *,
    enhanced: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "MOST_FRAMES", 3)  # the profile for Weasis splits its SEG
    case = make_case(tmp_path / "series", labels=labels(), enhanced=enhanced)
    profiles = (Profile.OHIF, Profile.WEASIS)
    options = ReportOptions(lesion_segments=True)
    ours = case.compose(tmp_path / "ours", *profiles, options=options)

    def as_it_is(stack: tuple[Dataset, ...], _: Any) -> list[Dataset]:
        return list(stack)

    monkeypatch.setattr(builder, "draft_pixels", lambda segments: segments.numbers)
    monkeypatch.setattr(builder, "draft_sources", as_it_is)
    monkeypatch.setattr(builder, "add_frames", lambda *_: None)
    theirs = case.compose(tmp_path / "theirs", *profiles, options=options)
    assert [item.role for item in ours.objects] == [item.role for item in theirs.objects]
    for one, other in zip(ours.objects, theirs.objects, strict=True):
        # highdicom 0.28 pads bits with the character 0, not with the byte that PS3.5 wants.
        assert one.path.read_bytes()[:-1] == other.path.read_bytes()[:-1], one.role


def test_the_frames_can_still_be_read_from_the_data_set(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    (seg, _) = case.compose(tmp_path / "out").objects
    read = pydicom.dcmread(seg.path)
    assert len(read.PerFrameFunctionalGroupsSequence) == read.NumberOfFrames
    assert read.pixel_array.sum() == np.count_nonzero(case.lesion_map.labels)


def _move(seg: Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[2] += 1


def _rename_segment(seg: Dataset) -> None:
    frame = seg.PerFrameFunctionalGroupsSequence[0]
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2


def _name_another_image(seg: Dataset) -> None:
    frames = seg.PerFrameFunctionalGroupsSequence
    first, last = (frame.DerivationImageSequence[0] for frame in (frames[0], frames[-1]))
    first.SourceImageSequence = last.SourceImageSequence


def _flip_a_bit(seg: Dataset) -> None:
    seg.PixelData = bytes([seg.PixelData[0] ^ 1]) + seg.PixelData[1:]


def _drop_a_frame(seg: Dataset) -> None:
    del seg.PerFrameFunctionalGroupsSequence[-1]
    seg.NumberOfFrames -= 1
    seg.PixelData = seg.PixelData[: -(seg.Rows * seg.Columns) // 8]


def _repeat_a_frame(seg: Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence.append(seg.PerFrameFunctionalGroupsSequence[-1])
    seg.NumberOfFrames += 1
    seg.PixelData += seg.PixelData[-(seg.Rows * seg.Columns) // 8 :]


def _count_fewer_frames(seg: Dataset) -> None:
    seg.NumberOfFrames -= 1


def _turn(seg: Dataset) -> None:
    seg.Rows, seg.Columns = seg.Columns, seg.Rows


def _cut(seg: Dataset) -> None:
    seg.PixelData = seg.PixelData[:-2]


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
@pytest.mark.parametrize(
    "change",
    [
        _move,
        _rename_segment,
        _name_another_image,
        _flip_a_bit,
        _drop_a_frame,
        _repeat_a_frame,
        _count_fewer_frames,
        _turn,
        _cut,
    ],
)
def test_a_seg_that_differs_in_anything_is_refused(
    change: Callable[[Dataset], None],
    *,
    enhanced: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = make_case(tmp_path / "series", enhanced=enhanced)

    def changed(role: str, dataset: Dataset) -> EncodedObject:
        if dataset.Modality == "SEG":
            change(dataset)
        return encode(role, dataset)

    monkeypatch.setattr(composer, "encode", changed)
    with pytest.raises(ResultInvalid, match="that was computed"):
        case.compose(tmp_path / "out")
