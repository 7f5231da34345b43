"""The outlines in the report: everything tracked has one, and it is of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from chest_cases import SHAPE, both_lungs, healthy_lungs, left_lesion, make_case
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.results import ReportOptions
from chestct.volume import Label
from dicom_out.objects.contours import outline


def items(dataset: Dataset) -> Iterator[Dataset]:
    """Walk through the content tree."""
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items(item)


def planar_groups(sr: Dataset) -> Iterator[tuple[dict[str, str], NDArray[np.float64], str]]:
    """Return texts and numbers, outline (column, row) and source image of every TID 1410 group."""
    for group in items(sr):
        content = list(items(group))
        regions = [item for item in content if item.ValueType == "SCOORD"]
        if group.ValueType == "CONTAINER" and len(regions) == 1:
            said = {
                item.ConceptNameCodeSequence[0].CodeMeaning: str(
                    item.get("TextValue") or item.MeasuredValueSequence[0].NumericValue
                )
                for item in content
                if item.ValueType in {"TEXT", "NUM"}
            }
            points = np.array(regions[0].GraphicData, float).reshape(-1, 2)
            image = regions[0].ContentSequence[0].ReferencedSOPSequence[0]
            yield said, points, str(image.ReferencedSOPInstanceUID)


def lesions_of_two_shapes() -> NDArray[np.uint8]:
    """Return a long thin lesion, the largest, and a compact one with more area in its key slice."""
    labels = healthy_lungs()
    labels[1:6, 4:18, 4] = Label.RIGHT_GROUND_GLASS
    labels[3, 4:20, 4] = Label.RIGHT_GROUND_GLASS
    labels[3, 5:17, 11:16] = Label.LEFT_GROUND_GLASS
    return labels


def test_the_outline_is_of_the_lesion_that_was_measured(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=lesions_of_two_shapes())
    largest = case.findings.lesions[0]
    assert largest.side == "right"
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[1].path)
    ((said, points, image),) = [
        group
        for group in planar_groups(sr)
        if group[0].get("Tracking Identifier") == "Lesion 1" and "Long Axis" in group[0]
    ]
    assert float(said["Long Axis"]) == round(largest.diameter.long_axis_mm, 2)
    assert image == case.volume.sources[largest.diameter.slice_index].sop_instance_uid
    ends = np.array(largest.diameter.long_axis)[:, ::-1] + 0.5
    assert (np.ptp(points, axis=0) >= np.ptp(ends, axis=0)).all()
    assert points[:, 0].max() <= 5, "the outline is of the right lung's lesion (column 4)"


def tracked(sr: Dataset) -> dict[str, list[Dataset]]:
    """Return the content items of all measurement groups under their tracking UID."""
    found: dict[str, list[Dataset]] = {}
    for group in items(sr):
        if group.get("ConceptNameCodeSequence", [Dataset()])[0].get("CodeValue") == "125007":
            (uid,) = [
                item.UID
                for item in group.ContentSequence
                if item.ConceptNameCodeSequence[0].CodeValue == "112040"
            ]
            found.setdefault(str(uid), []).extend(group.ContentSequence)
    return found


def one_lung_all_lesion() -> NDArray[np.uint8]:
    labels = healthy_lungs()
    labels[labels == Label.LEFT_LUNG] = Label.LEFT_GROUND_GLASS
    return labels


@pytest.mark.parametrize(
    "labels", [both_lungs, healthy_lungs, left_lesion, one_lung_all_lesion, lesions_of_two_shapes]
)
@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_everything_that_is_tracked_has_an_outline(
    labels: Callable[[], NDArray[np.uint8]], *, enhanced: bool, tmp_path: Path
) -> None:
    """OHIF 3.13 loses the viewport of the whole report when one tracking UID has none."""
    case = make_case(tmp_path / "series", labels=labels(), enhanced=enhanced)
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[1].path)
    groups = tracked(sr)
    assert groups
    without = [
        uid for uid, content in groups.items() if "SCOORD" not in {one.ValueType for one in content}
    ]
    assert without == []


@pytest.mark.parametrize("labels", [both_lungs, healthy_lungs, one_lung_all_lesion])
def test_the_numbers_of_both_lungs_do_not_lie_over_those_of_one(
    labels: Callable[[], NDArray[np.uint8]], tmp_path: Path
) -> None:
    """A viewer prints the numbers beside the outline: equal outlines make them unreadable."""
    case = make_case(tmp_path / "series", labels=labels().repeat(3, axis=0))
    sr = pydicom.dcmread(case.compose(tmp_path / "out").objects[1].path)
    regions = {
        uid: [
            (
                item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID,
                np.array(item.GraphicData, float).reshape(-1, 2),
            )
            for item in content
            if item.ValueType == "SCOORD"
        ]
        for uid, content in tracked(sr).items()
    }
    parts = regions.pop(case.key.uid("summary"))
    (image,) = {image for image, _ in parts}
    assert image not in {other for found in regions.values() for other, _ in found}
    images = [source.sop_instance_uid for source in case.volume.sources]
    lungs = case.lesion_map.labels[images.index(image)] > 0
    assert len(parts) == 2, "each lung by itself, and nothing between them"
    inside = np.zeros_like(lungs)
    for _, points in parts:
        for row, column in np.ndindex(*lungs.shape):
            at = (column + 0.5, row + 0.5)
            line = points.astype(np.float32)[:, None]
            inside[row, column] |= cv2.pointPolygonTest(line, at, measureDist=False) > 0
    assert np.array_equal(inside, lungs)


def test_an_outline_runs_inside_the_outermost_pixels() -> None:
    mask = np.zeros(SHAPE[1:], dtype=bool)
    mask[3:9, 5:7] = True
    points = outline(mask)
    assert (points[0] == points[-1]).all()
    assert (points.min(axis=0) > [5, 3]).all()
    assert (points.max(axis=0) < [7, 9]).all()
    assert (np.ptp(points, axis=0) > [1.6, 5.6]).all()


def test_the_outline_of_one_pixel_surrounds_its_centre() -> None:
    mask = np.zeros(SHAPE[1:], dtype=bool)
    mask[0, 17] = True
    points = outline(mask)
    assert len(points) >= 4
    assert (points.min(axis=0) + points.max(axis=0)) / 2 == pytest.approx([17.5, 0.5])


def test_a_diameter_never_spans_two_parts_of_a_slice(tmp_path: Path) -> None:
    """A lesion whose parts meet in another slice: what is outlined is as long as is said."""
    labels = healthy_lungs()
    labels[2, 4:8, 3:5] = Label.RIGHT_GROUND_GLASS
    labels[2, 12:18, 3:5] = Label.RIGHT_GROUND_GLASS
    labels[3, 7:13, 3:5] = Label.RIGHT_GROUND_GLASS
    case = make_case(tmp_path / "series", labels=labels)
    (lesion,) = case.findings.lesions
    row_spacing, column_spacing = case.volume.geometry.pixel_spacing
    longest = float(np.hypot(5 * row_spacing, column_spacing))
    assert lesion.diameter.long_axis_mm == pytest.approx(longest)


OHIF_PRINTS = 5
"""So many numbers of one tracking UID does OHIF 3.13 print beside its outline."""


@pytest.mark.parametrize("segments", [False, True], ids=["outlined", "segmented"])
def test_a_viewer_that_prints_five_numbers_shows_what_matters(
    *, segments: bool, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series")
    options = ReportOptions(lesion_segments=segments)
    sr = pydicom.dcmread(case.compose(tmp_path / "out", options=options).objects[-1].path)
    numbers = {
        uid: [
            str(item.ConceptNameCodeSequence[0].CodeMeaning)
            for item in content
            if item.ValueType == "NUM"
        ]
        for uid, content in tracked(sr).items()
    }
    summary = numbers.pop(case.key.uid("summary"))
    for lung in ("left-lung", "right-lung"):
        assert numbers.pop(case.key.uid(lung))[0] == "Percent of lung involved"
    assert all(len(named) <= OHIF_PRINTS for named in numbers.values())
    assert set(summary[:OHIF_PRINTS]) == {
        "Percent of lung involved",
        "Volume of opacities in lung, sum of segments",
        "Number of lesions",
        "Opacity presence score",
        "Volume of lung with its opacities, sum of segments",
    }
