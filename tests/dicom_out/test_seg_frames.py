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

import dicom_out.objects.seg as builder
import dicom_out.objects.seg_parts as parts
from chestct.results import Profile, ReportOptions

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
