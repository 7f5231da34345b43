"""Every number of the report against one worked out here from the mask and the HU alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import highdicom as hd
import numpy as np
import pydicom
import pytest
from chest_cases import PIXEL_SPACING, SLICE_SPACING, Case, healthy_lungs, make_case
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage
from slow_axes import slow_chord, slow_longest
from sr_content import groups, items, name_of, values

from chestct.results import ReportOptions
from chestct.volume import Label

VOXEL_ML = PIXEL_SPACING[0] * PIXEL_SPACING[1] * SLICE_SPACING / 1000
LUNG_VOLUME = "Volume of lung with its opacities, sum of segments"
LESION_VOLUME = "Volume of opacities in lung, sum of segments"
PERCENT, ML, HU, MM = "%", "ml", "[hnsf'U]", "mm"
Mask = NDArray[np.bool_]


def one_lesion() -> NDArray[np.uint8]:
    """Return lungs with one lesion, bent so that no axis of it runs along the grid."""
    labels = healthy_lungs()
    labels[2:4, 6:9, 3:5] = Label.RIGHT_GROUND_GLASS
    labels[3, 8:15, 4:7] = Label.RIGHT_GROUND_GLASS
    labels[3, 15:17, 6] = Label.RIGHT_GROUND_GLASS
    return labels


def hundreds_of_lesions() -> NDArray[np.uint8]:
    """Return lungs on a larger grid with lesions of 1 to 27 voxels that do not touch."""
    labels = np.zeros((14, 72, 70), np.uint8)
    labels[1:13, 2:70, 36:68] = Label.LEFT_LUNG
    labels[1:13, 2:70, 2:34] = Label.RIGHT_LUNG
    draw = np.random.default_rng(11)
    for corner in np.ndindex(3, 13, 6):
        for first, lesion in ((37, Label.LEFT_GROUND_GLASS), (3, Label.RIGHT_GROUND_GLASS)):
            z, y, x = (1, 3, first) + np.array((4, 5, 5)) * corner
            deep, high, wide = draw.integers(1, 4, 3)
            labels[z : z + deep, y : y + high, x : x + wide] = lesion
    return labels


PHANTOMS = {"none": healthy_lungs, "one": one_lesion, "hundreds": hundreds_of_lesions}


@pytest.fixture(params=PHANTOMS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return make_case(tmp_path / "series", labels=PHANTOMS[request.param]())


def read(case: Case, folder: Path, options: ReportOptions | None = None) -> list[Dataset]:
    results = case.compose(folder, **({"options": options} if options else {}))
    return [pydicom.dcmread(item.path) for item in results.objects]


def lesions_by_size(case: Case) -> list[Mask]:
    """Return the connected lesions of each lung, the largest first."""
    masks = []
    for side in (0, 1):
        lesion = (case.lesion_map.labels >= 3) & (case.lesion_map.labels % 2 == side)
        parts, count = ndimage.label(lesion, np.ones((3, 3, 3)))
        masks += [parts == number for number in range(1, count + 1)]
    return sorted(masks, key=lambda mask: -int(mask.sum()))


def axes_of(mask: Mask) -> tuple[float, float, int]:
    """Return long axis, short axis and slice, by a slow search."""
    best = (-1.0, 0.0, -1)
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        parts, count = ndimage.label(mask[index], np.ones((3, 3)))
        for number in range(1, count + 1):
            longest, ends = slow_longest(parts == number, PIXEL_SPACING)
            if longest > best[0] + 1e-6:
                best = (longest, slow_chord(parts == number, ends, PIXEL_SPACING), int(index))
    return best


def close(value: float, unit: str) -> tuple[object, str]:
    return pytest.approx(value, abs=0.0051), unit


def counts_of(item: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the unit and the text of each count below a content item."""
    for child in item.get("ContentSequence", ()):
        if child.ValueType == "NUM":
            (value,) = child.MeasuredValueSequence
            unit = str(value.MeasurementUnitsCodeSequence[0].CodeValue)
            if unit in {"{pixels}", "{lesions}"}:
                yield unit, str(value.NumericValue)
        yield from counts_of(child)


def test_counts_are_integers(tmp_path: Path) -> None:
    sr = pydicom.dcmread(make_case(tmp_path / "series").compose(tmp_path / "out").objects[-1].path)
    counts = list(counts_of(sr))
    assert {unit for unit, _ in counts} == {"{pixels}", "{lesions}"}
    assert all(text.isdecimal() for _, text in counts)


def test_lungs_and_summary(case: Case, tmp_path: Path) -> None:
    sr = read(case, tmp_path / "out")[-1]
    labels, lesion = case.lesion_map.labels, case.lesion_map.labels >= 3
    lungs = {
        "Left lung": labels % 2 == 1,
        "Right lung": (labels > 0) & (labels % 2 == 0),
        "Summary": labels > 0,
    }
    percent = {}
    for name, lung in lungs.items():
        found = values(*groups(sr, name))
        percent[name] = 100 * (lung & lesion).sum() / lung.sum()
        assert found[LUNG_VOLUME] == close(lung.sum() * VOXEL_ML, ML)
        assert found[LESION_VOLUME] == close((lung & lesion).sum() * VOXEL_ML, ML)
        assert found["Percent of lung involved"] == close(percent[name], PERCENT)
    summary = values(*groups(sr, "Summary"))
    assert summary["Percent of left lung involved"] == close(percent["Left lung"], PERCENT)
    assert summary["Percent of right lung involved"] == close(percent["Right lung"], PERCENT)
    assert summary["Number of lesions"][0] == len(lesions_by_size(case))
    assert summary["Opacity presence score"][0] == case.findings.presence.score


def test_opacities(case: Case, tmp_path: Path) -> None:
    seg, sr = read(case, tmp_path / "out")
    labels = case.lesion_map.labels
    lesion, dense = labels >= 3, labels >= 5
    wanted = {
        "Left lung excluding opacities": labels == 1,
        "Right lung excluding opacities": labels == 2,
        "Left ground-glass opacity": labels == 3,
        "Right ground-glass opacity": labels == 4,
        "Left consolidation": labels == 5,
        "Right consolidation": labels == 6,
        "Lung lesions (opacities)": lesion,
    }
    for name, mask in wanted.items():
        if not mask.any():
            assert groups(sr, name) == []
            continue
        found = values(*groups(sr, name))
        total = LESION_VOLUME if mask is lesion else "Volume"
        assert found[total] == close(mask.sum() * VOXEL_ML, ML)
        if lesion[mask].all():
            assert found["Attenuation Coefficient"] == close(case.volume.hu[mask].mean(), HU)
    if lesion.any():
        share = 100 * (lesion & dense).sum() / lesion.sum()
        found = values(*groups(sr, "Lung lesions (opacities)"))
        assert found["High-opacity share of lesion volume"] == close(share, PERCENT)
        assert len(seg.SegmentSequence) == len(np.unique(labels)) - 1


def test_each_lung_has_its_involvement_by_zone(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=one_lesion())
    sr = read(case, tmp_path / "out")[-1]
    lungs = {"Left lung": case.lesion_map.left_lung(), "Right lung": case.lesion_map.right_lung()}
    for name, lung in lungs.items():
        found = values(*groups(sr, name))
        inside = np.flatnonzero(lung.any(axis=(1, 2)))
        ends = np.linspace(inside[0], inside[-1] + 1, 4).round().astype(int)
        for zone, (first, last) in zip(
            ("lower", "middle", "upper"), itertools.pairwise(ends), strict=True
        ):
            part = lung[first:last]
            share = 100 * (part & (case.lesion_map.labels[first:last] >= 3)).sum() / part.sum()
            assert found[f"Percent of {zone} third of lung involved"] == close(share, PERCENT)
        assert {"Percent of peripheral lung involved", "Percent of central lung involved"} <= set(
            found
        )
    assert "Percent of central lung involved" not in values(*groups(sr, "Summary"))


@pytest.mark.parametrize("segments", [False, True], ids=["outlined", "segmented"])
def test_the_largest_lesions_one_by_one(case: Case, *, segments: bool, tmp_path: Path) -> None:
    options = ReportOptions(measured_lesions=7, lesion_segments=segments)
    sr = read(case, tmp_path / "out", options)[-1]
    masks = lesions_by_size(case)
    told = {
        item.TextValue
        for item in items(sr)
        if name_of(item) == "Tracking Identifier" and item.TextValue.startswith("Lesion ")
    }
    assert told == {f"Lesion {number}" for number in range(1, min(len(masks), 7) + 1)}
    left = case.lesion_map.left_lung()
    uids = set()
    for number in range(1, len(told) + 1):
        own = groups(sr, f"Lesion {number}")
        index, inside = outlined(own[-1], case)
        (mask,) = (one for one in masks if one[index][inside].any())
        assert mask.sum() == masks[number - 1].sum(), "the largest first"
        hu = case.volume.hu[mask]
        found = values(*own)
        long, short, where = axes_of(mask)
        assert found["Volume"] == close(mask.sum() * VOXEL_ML, ML)
        assert found["Attenuation Coefficient"] == close(hu.mean(), HU)
        share = 100 * (case.lesion_map.labels[mask] >= 5).mean()
        assert found["High-opacity share of lesion volume"] == close(share, PERCENT)
        pixel = min(PIXEL_SPACING)
        assert found["Long Axis"] == close(max(long, pixel), MM)
        assert found["Short Axis"][0] <= found["Long Axis"][0] + 1e-6
        if len(masks) == 1:
            assert found["Short Axis"] == close(max(short, pixel), MM)
            assert index == where
        parts, _ = ndimage.label(mask[index], np.ones((3, 3)))
        assert any(np.array_equal(inside, parts == part) for part in range(1, parts.max() + 1))
        sides = {
            item.ConceptCodeSequence[0].CodeMeaning
            for group in own
            for item in items(group)
            if name_of(item) == "Laterality"
        }
        assert sides == {"Left" if left[mask].all() else "Right"}
        uids |= {
            item.UID
            for group in own
            for item in items(group)
            if name_of(item) == "Tracking Unique Identifier"
        }
    assert len(uids) == len(told), "each is tracked by itself"


def outlined(group: Dataset, case: Case) -> tuple[int, Mask]:
    """Return the slice of a group's outline and the pixels whose centre lies inside it."""
    (region,) = [item for item in items(group) if item.ValueType == "SCOORD"]
    points = np.array(region.GraphicData, np.float32).reshape(-1, 1, 2)
    uid = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    index = [source.sop_instance_uid for source in case.volume.sources].index(uid)
    inside = np.zeros(case.volume.geometry.shape[1:], bool)
    for row, column in np.ndindex(*inside.shape):
        at = (column + 0.5, row + 0.5)
        inside[row, column] = cv2.pointPolygonTest(points, at, measureDist=False) > 0
    return index, inside


def test_each_lesion_segment_is_one_lesion(case: Case, tmp_path: Path) -> None:
    options = ReportOptions(measured_lesions=7, lesion_segments=True)
    objects = read(case, tmp_path / "out", options)
    masks = lesions_by_size(case)
    if not masks:
        assert len(objects) == 2, "there is nothing to segment"
        return
    tissues, seg, sr = objects
    assert seg.SeriesInstanceUID != tissues.SeriesInstanceUID
    drawn = frames(seg, case)
    assert list(drawn) == list(range(1, min(len(masks), 7) + 1))
    for number, mask in drawn.items():
        assert sum(np.array_equal(mask, one) for one in masks) == 1
        assert mask.sum() == masks[number - 1].sum()
        segment = seg.SegmentSequence[number - 1]
        volumetric, planar = groups(sr, segment.SegmentLabel)
        assert values(volumetric)["Volume"] == close(mask.sum() * VOXEL_ML, ML)
        index, inside = outlined(planar, case)
        assert mask[index][inside].all()
        (sop,) = (
            item.ReferencedSOPSequence[0]
            for item in volumetric.ContentSequence
            if item.ValueType == "IMAGE"
        )
        assert sop.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert sop.ReferencedSegmentNumber == number
        tracked = {
            item.UID
            for group in (volumetric, planar)
            for item in items(group)
            if name_of(item) == "Tracking Unique Identifier"
        }
        assert tracked == {segment.TrackingUID}


def frames(seg: Dataset, case: Case) -> dict[int, Mask]:
    """Return the mask of each segment, placed by the source image that each frame names."""
    uids = [source.sop_instance_uid for source in case.volume.sources]
    masks: dict[int, Mask] = {
        item.SegmentNumber: np.zeros(case.volume.geometry.shape, bool)
        for item in seg.SegmentSequence
    }
    shared = seg.SharedFunctionalGroupsSequence[0]
    planes = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for plane, frame in zip(planes, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        identified = frame if "SegmentIdentificationSequence" in frame else shared
        number = identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        masks[number][uids.index(source.ReferencedSOPInstanceUID)] = plane > 0
    return masks


def test_highdicom_reads_the_report_back(case: Case, tmp_path: Path) -> None:
    path = case.compose(tmp_path / "out").objects[-1].path
    content = hd.sr.srread(path).content
    volumetric = content.get_volumetric_roi_measurement_groups()
    planar = content.get_planar_roi_measurement_groups()
    assert volumetric
    for group in [*volumetric, *planar]:
        assert group.tracking_identifier
        assert group.tracking_uid


def shared_of(library: Dataset) -> Iterator[tuple[str, float]]:
    for item in items(library):
        if item.ValueType == "NUM":
            yield name_of(item), float(item.MeasuredValueSequence[0].NumericValue)


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_the_image_library_lists_every_source_image(*, enhanced: bool, tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", enhanced=enhanced)
    sr = read(case, tmp_path / "out")[-1]
    names = [name_of(item) for item in sr.ContentSequence]
    assert names.index("Image Library") < names.index("Imaging Measurements")
    library = sr.ContentSequence[names.index("Image Library")]
    listed = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(library)
        if item.ValueType == "IMAGE"
    ]
    wanted = list(dict.fromkeys(source.sop_instance_uid for source in case.volume.sources))
    assert listed == wanted
    shared = dict(shared_of(library))
    assert shared["Pixel Data Rows"] == case.volume.geometry.shape[1]
    assert shared["Horizontal Pixel Spacing"] == PIXEL_SPACING[1]
    assert shared["Vertical Pixel Spacing"] == PIXEL_SPACING[0]
    assert shared["Slice Thickness"] == SLICE_SPACING
    assert not any("Position" in name for name in shared), "the images differ in it"


def test_every_group_names_its_algorithm_with_its_parameters(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    sr = read(case, tmp_path / "out")[-1]
    seen = [item for item in items(sr) if name_of(item) == "Measurement Group"]
    assert len(seen) > 8
    for group in seen:
        said = [(name_of(item), item.get("TextValue")) for item in group.ContentSequence]
        names = [name for name, _ in said]
        assert names.count("Algorithm Name") == names.count("Algorithm Version") == 1
        parameters = dict(
            str(text).split("=") for name, text in said if name == "Algorithm Parameters"
        )
        (model,) = (text for name, text in said if name == "Algorithm Name")
        digest, thresholds = {
            "lungs": ("ab" * 32, {}),
            "lesions": (
                "cd" * 32,
                {
                    "high_opacity_hu": "-300",
                    "density_smoothing_mm": "1.5",
                    "minimum_piece_ml": "0.25",
                    "minimum_lesion_ml": "0",
                    "mild_percent": "5",
                    "moderate_percent": "25",
                    "operating_point": "0.5",
                },
            ),
        }[str(model)]
        assert parameters == {**thresholds, "model_sha256": digest}


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (hundreds_of_lesions, r"The 5 largest of 468 lesions"),
        (one_lesion, r"Each of the 1 lesions"),
    ],
)
def test_it_says_which_lesions_are_measured(
    labels: Callable[[], NDArray[np.uint8]], wanted: str, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", labels=labels())
    sr = read(case, tmp_path / "out")[-1]
    assert wanted in " ".join(item.TextValue for item in items(sr) if item.ValueType == "TEXT")
    assert values(*groups(sr, "Summary"))["Number of lesions"][0] == len(lesions_by_size(case))


def test_no_single_lesion_is_measured_where_none_is_asked_for(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=one_lesion())
    options = ReportOptions(measured_lesions=0, lesion_segments=True)
    seg, sr = read(case, tmp_path / "out", options)
    assert groups(sr, "Lesion 1") == []
    assert values(*groups(sr, "Summary"))["Number of lesions"][0] == 1
    assert [item.SegmentLabel for item in seg.SegmentSequence][2:] == [
        "Right ground-glass opacity",
        "Right consolidation",
    ]
