"""The objects of each profile: what its viewer needs, the same numbers, no UID of another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from chest_cases import Case, both_lungs, healthy_lungs, left_lesion, make_case
from judges import require_one_study, require_valid, run
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage
from sr_content import groups, items, name_of, values

from chestct.results import Profile, ReportOptions, ResultObject
from dicom_out.objects.seg_parts import MOST_FRAMES

pytestmark = pytest.mark.slow

LABELS = [both_lungs, left_lesion, healthy_lungs]
LESION_SEGMENTS = ReportOptions(measured_lesions=2, lesion_segments=True)


def composed(case: Case, folder: Path, profile: Profile, **changes: object) -> dict[str, Path]:
    """Return the files of OHIF and another profile by role."""
    objects = case.compose(folder, Profile.OHIF, profile, **changes).objects
    assert len({item.sop_instance_uid for item in objects}) == len(objects)
    return {item.role: item.path for item in objects}


def by_role(objects: tuple[ResultObject, ...]) -> dict[str, bytes]:
    return {item.role: item.path.read_bytes() for item in objects}


def measurement_groups(sr: Dataset) -> list[Dataset]:
    return [item for item in items(sr) if name_of(item) == "Measurement Group"]


def segment_references(sr: Dataset) -> list[tuple[str, int]]:
    """Return SOP Instance UID and Segment Number of each referenced segment."""
    references = [
        item.ReferencedSOPSequence[0] for item in items(sr) if name_of(item) == "Referenced Segment"
    ]
    return [(one.ReferencedSOPInstanceUID, int(one.ReferencedSegmentNumber)) for one in references]


@pytest.mark.parametrize("profile", [Profile.SLICER, Profile.PLAIN])
def test_the_objects_of_ohif_stay_the_same_beside_another_profile(
    profile: Profile, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series")
    alone = by_role(case.compose(tmp_path / "alone").objects)
    beside = by_role(case.compose(tmp_path / "beside", Profile.OHIF, profile).objects)
    assert list(beside) == [*alone, profile.role("sr")]
    assert {role: beside[role] for role in alone} == alone
    again = by_role(case.compose(tmp_path / "again", Profile.OHIF, profile).objects)
    assert again == beside


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("options", [ReportOptions(), LESION_SEGMENTS])
def test_slicer_gets_one_group_for_each_segment_in_their_order(
    labels: Callable[[], NDArray[np.uint8]], options: ReportOptions, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", labels=labels())
    files = composed(case, tmp_path / "out", Profile.SLICER, options=options)
    seg, report = (pydicom.dcmread(files[role]) for role in ("seg", "sr-slicer"))
    assert segment_references(report) == [
        (seg.SOPInstanceUID, segment.SegmentNumber) for segment in seg.SegmentSequence
    ]
    assert len(measurement_groups(report)) == len(seg.SegmentSequence)
    assert "SCOORD" not in {item.ValueType for item in items(report)}
    named = [list(values(group)) for group in measurement_groups(report)]
    assert named[0]
    assert all(names == named[0] for names in named), "Slicer fills its columns by position"
    ohif = pydicom.dcmread(files["sr"])
    for segment in seg.SegmentSequence:
        (own,) = groups(report, segment.SegmentLabel)
        expected = values(*groups(ohif, segment.SegmentLabel))
        assert values(own).items() <= expected.items()
    assert hd.sr.srread(files["sr-slicer"]).content.get_planar_roi_measurement_groups() == []
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    classes = Counter(
        one.ReferencedSOPClassUID for series in evidence for one in series.ReferencedSOPSequence
    )
    assert classes[SegmentationStorage] == 1


@pytest.mark.parametrize("labels", LABELS)
def test_the_reader_of_slicer_finds_the_groups_and_their_segments(
    labels: Callable[[], NDArray[np.uint8]], tmp_path: Path
) -> None:
    """tid1500reader (dcmqi) is what QuantitativeReporting calls."""
    case = make_case(tmp_path / "series", labels=labels())
    files = composed(case, tmp_path / "out", Profile.SLICER)
    out = tmp_path / "sr.json"
    done = run("tid1500reader", "--inputDICOM", files["sr-slicer"], "--outputMetadata", out)
    assert done.returncode == 0, done.stdout + done.stderr
    seg, report = (pydicom.dcmread(files[role]) for role in ("seg", "sr-slicer"))
    found = [
        (
            group["TrackingIdentifier"],
            group["TrackingUniqueIdentifier"],
            group["segmentationSOPInstanceUID"],
            group["ReferencedSegment"],
            {
                one["quantity"]["CodeMeaning"]: float(one["value"])
                for one in group["measurementItems"]
            },
        )
        for group in json.loads(out.read_text())["Measurements"]
    ]
    assert found == [
        (
            segment.SegmentLabel,
            segment.TrackingUID,
            seg.SOPInstanceUID,
            segment.SegmentNumber,
            {name: value for name, (value, _) in values(group).items()},
        )
        for segment, group in zip(seg.SegmentSequence, measurement_groups(report), strict=True)
    ]


def test_slicer_finds_the_largest_lesions_in_the_comments(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    files = composed(case, tmp_path / "out", Profile.SLICER)
    comments = [
        item.TextValue
        for item in pydicom.dcmread(files["sr-slicer"]).ContentSequence
        if name_of(item) == "Comment"
    ]
    for lesion in case.findings.lesions:
        (own,) = (text for text in comments if text.startswith(f"Lesion {lesion.number}: "))
        assert f"{lesion.side} lung, image " in own
        assert f"{lesion.volume_ml:.2f} ml" in own
        assert f"axes {lesion.diameter.long_axis_mm:.1f} x " in own


def long_chest() -> NDArray[np.uint8]:
    """Return lungs and lesions over so many slices that one segment needs two SEGs."""
    return np.repeat(both_lungs(), 80, axis=0)


def test_weasis_gets_each_segment_in_segs_of_few_frames(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=long_chest(), slice_spacing=0.5)
    files = composed(case, tmp_path / "out", Profile.WEASIS)
    whole, ohif = (pydicom.dcmread(files[role]) for role in ("seg", "sr"))
    assert whole.NumberOfFrames > 400
    parts = [pydicom.dcmread(path) for role, path in files.items() if role.startswith("seg-")]
    assert all(part.NumberOfFrames <= MOST_FRAMES for part in parts)
    assert sum(part.NumberOfFrames for part in parts) == whole.NumberOfFrames
    assert len({part.SeriesInstanceUID for part in parts} | {whole.SeriesInstanceUID}) == 2
    assert [part.InstanceNumber for part in parts] == [*range(1, len(parts) + 1)]
    tracked: dict[str, list[Dataset]] = {}
    for part in parts:
        (segment,) = part.SegmentSequence
        assert segment.SegmentNumber == 1
        tracked.setdefault(segment.TrackingUID, []).append(part)
    assert list(tracked) == [segment.TrackingUID for segment in whole.SegmentSequence]
    report = pydicom.dcmread(files["sr-weasis"])
    alone = [held[0].SOPInstanceUID for held in tracked.values() if len(held) == 1]
    assert segment_references(report) == [(uid, 1) for uid in alone]
    assert len(alone) < len(tracked), "one segment lies in two SEGs"
    for segment in whole.SegmentSequence:
        label = segment.SegmentLabel
        assert values(*groups(report, label)) == values(*groups(ohif, label))


def test_weasis_shares_the_objects_of_ohif_if_no_seg_is_too_long(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    assert list(composed(case, tmp_path / "out", Profile.WEASIS)) == ["seg", "sr"]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("options", [ReportOptions(), LESION_SEGMENTS])
def test_plain_gets_all_numbers_and_no_reference_to_a_seg(
    labels: Callable[[], NDArray[np.uint8]], options: ReportOptions, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", labels=labels())
    files = composed(case, tmp_path / "out", Profile.PLAIN, options=options)
    ohif, report = (pydicom.dcmread(files[role]) for role in ("sr", "sr-plain"))
    assert report.SOPClassUID == ComprehensiveSRStorage
    assert segment_references(report) == []
    assert SegmentationStorage not in str(report)
    for group in measurement_groups(report):
        assert "SCOORD" in {item.ValueType for item in group.ContentSequence}
        (tracking,) = (
            item.TextValue
            for item in group.ContentSequence
            if name_of(item) == "Tracking Identifier"
        )
        assert values(group) == values(*groups(ohif, tracking))


@pytest.mark.parametrize("profile", [Profile.SLICER, Profile.WEASIS, Profile.PLAIN])
def test_the_validators_find_no_error_in_any_profile(profile: Profile, tmp_path: Path) -> None:
    labels = long_chest() if profile is Profile.WEASIS else both_lungs()
    case = make_case(tmp_path / "series", labels=labels)
    files = composed(case, tmp_path / "out", profile, options=LESION_SEGMENTS)
    for path in files.values():
        require_valid(path)
    report = files[profile.role("sr")]
    done = run("dsrdump", report)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith(("E:", "F:"))] == []
    hd.sr.srread(report)
    require_one_study([*(instance.path for instance in case.series.instances), *files.values()])
