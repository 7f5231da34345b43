"""The segmentation object: the right voxel, the right side, the right references."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from chest_cases import (
    MODELS,
    SHAPE,
    SOFTWARE,
    Case,
    both_lungs,
    healthy_lungs,
    left_lesion,
    make_case,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from chestct.errors import ResultInvalid
from chestct.results import ModelIdentity, Profile, ReportOptions
from chestct.volume import LEFT_LABELS, Label
from dicom_out.objects import compose as writer
from dicom_out.objects.seg import LESIONS, TISSUES, SegDocument
from dicom_out.objects.segments import Segments
from dicom_out.objects.sr_text import statements

DCIODVFY = Path(sys.executable).with_name("dciodvfy")
TILT = math.radians(4)
ORIENTATIONS = {
    "supine": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "mirrored": ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "prone": ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
    "tilted": ((1.0, 0.0, 0.0), (0.0, math.cos(TILT), math.sin(TILT))),
    "transposed": ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    "on the left side": ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
}
NAMES = [
    "Left lung excluding opacities",
    "Right lung excluding opacities",
    "Left ground-glass opacity",
    "Right ground-glass opacity",
    "Left consolidation",
    "Right consolidation",
]


def masks(case: Case) -> dict[str, NDArray[np.bool_]]:
    """Return what each segment should hold, by its name."""
    return {
        name: case.lesion_map.labels == label
        for name, label in zip(NAMES, list(Label)[1:], strict=True)
    }


def read_seg(case: Case, folder: Path) -> Dataset:
    """Write the results and read the SEG back from its bytes."""
    return pydicom.dcmread(case.compose(folder).objects[0].path)


def points_in_patient(seg: Dataset, number: int) -> NDArray[np.float64]:
    """Return the centres of a segment's voxels in LPS mm, from what the SEG itself says."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    between_rows, between_columns = (float(value) for value in measures.PixelSpacing)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    points = []
    for pixel, frame in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            rows, columns = np.nonzero(pixel)
            corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
            points.append(
                corner
                + columns[:, None] * between_columns * cosines[:3]
                + rows[:, None] * between_rows * cosines[3:]
            )
    return np.concatenate(points)


def in_order(points: NDArray[np.float64]) -> NDArray[np.float64]:
    rounded = points.round(4)
    return rounded[np.lexsort(rounded.T)]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_every_voxel_is_where_it_was_found(
    orientation: str, *, enhanced: bool, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", cosines=ORIENTATIONS[orientation], enhanced=enhanced)
    seg = read_seg(case, tmp_path / "out")
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == NAMES
    for segment in seg.SegmentSequence:
        mask = masks(case)[segment.SegmentLabel]
        wanted = case.volume.geometry.to_patient(np.argwhere(mask).astype(float))
        found = points_in_patient(seg, segment.SegmentNumber)
        assert in_order(found) == pytest.approx(in_order(wanted), abs=1e-3)


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_every_frame_names_the_image_that_lies_in_its_plane(
    *, enhanced: bool, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", enhanced=enhanced)
    seg = read_seg(case, tmp_path / "out")
    positions = {
        (source.sop_instance_uid, source.frame_number): case.volume.geometry.slice_position(index)
        for index, source in enumerate(case.volume.sources)
    }
    for frame in seg.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        key = (source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber"))
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert [float(value) for value in position] == pytest.approx(positions[key])


def test_segments_do_not_overlap(tmp_path: Path) -> None:
    seg = read_seg(make_case(tmp_path / "series"), tmp_path / "out")
    points = np.concatenate([points_in_patient(seg, number) for number in (1, 2, 3, 4)])
    assert len(np.unique(points.round(4), axis=0)) == len(points)


def test_the_source_series_is_referenced(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    seg = read_seg(case, tmp_path / "out")
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == case.series.series_uid
    named = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert named == {source.sop_instance_uid for source in case.volume.sources}
    assert seg.FrameOfReferenceUID == case.volume.frame_of_reference_uid


def test_left_is_left_and_right_is_right(tmp_path: Path) -> None:
    seg = read_seg(make_case(tmp_path / "series"), tmp_path / "out")
    sides = [
        segment.SegmentedPropertyTypeCodeSequence[0]
        .SegmentedPropertyTypeModifierCodeSequence[0]
        .CodeMeaning
        for segment in seg.SegmentSequence[:2]
    ]
    assert sides == ["Left", "Right"]
    for opacity in seg.SegmentSequence[2:]:
        region = opacity.AnatomicRegionSequence[0]
        assert region.CodeMeaning == "Lung"
        (side,) = region.AnatomicRegionModifierSequence
        assert opacity.SegmentLabel.startswith(side.CodeMeaning)


def test_opacities_of_one_side_are_not_said_to_be_in_both(tmp_path: Path) -> None:
    seg = read_seg(make_case(tmp_path / "series", labels=left_lesion()), tmp_path / "out")
    sides = [
        opacity.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeMeaning
        for opacity in seg.SegmentSequence[2:]
    ]
    assert sides == ["Left", "Left"]


def test_segments_say_what_they_are_and_who_found_them(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    seg = read_seg(case, tmp_path / "out")
    left, right, *opacities = seg.SegmentSequence
    for lung, role in ((left, "left-lung"), (right, "right-lung")):
        assert lung.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
        assert lung.SegmentedPropertyTypeCodeSequence[0].CodeValue == "39607008"
        assert "without its opacities" in lung.SegmentDescription
        assert lung.TrackingUID == case.key.uid(f"{role}-without-opacities")
    ground_glass, consolidation = ("112120", "below -300 HU"), ("95436008", "at or above -300 HU")
    for opacity, role, (code, said) in zip(
        opacities,
        ("left-ground-glass", "right-ground-glass", "left-consolidation", "right-consolidation"),
        (ground_glass, ground_glass, consolidation, consolidation),
        strict=True,
    ):
        assert opacity.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert opacity.SegmentedPropertyTypeCodeSequence[0].CodeValue == code
        assert said in opacity.SegmentDescription
        assert opacity.TrackingUID == case.key.uid(role)
    thresholds = (
        "high_opacity_hu=-300,density_smoothing_mm=1.5,minimum_piece_ml=0.25,minimum_lesion_ml=0,"
        "mild_percent=5,moderate_percent=25,operating_point=0.5,"
    )
    for segment, model, parameters in (
        (left, MODELS[0], ""),
        (right, MODELS[0], ""),
        *((opacity, MODELS[1], thresholds) for opacity in opacities),
    ):
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (model.name, model.version)
        assert algorithm.AlgorithmParameters == f"{parameters}model_sha256={model.digest}"
    colours = {tuple(segment.RecommendedDisplayCIELabValue) for segment in seg.SegmentSequence}
    assert len(colours) == 6


def test_it_says_that_it_is_made_by_ai_for_research(tmp_path: Path) -> None:
    seg = read_seg(make_case(tmp_path / "series"), tmp_path / "out")
    assert seg.SOPClassUID == SegmentationStorage
    assert seg.SegmentationType == "BINARY"
    assert seg.ContentQualification == "RESEARCH"
    assert "AI" in seg.SeriesDescription
    assert "research" in seg.SeriesDescription


def test_each_algorithm_is_contributing_equipment_of_its_own(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    seg = read_seg(case, tmp_path / "one")
    changed = (MODELS[0], replace(MODELS[1], digest="ef" * 32))
    other = pydicom.dcmread(case.compose(tmp_path / "two", models=changed).objects[0].path)

    def devices(dataset: Dataset) -> list[str]:
        return [str(item.DeviceUID) for item in dataset.ContributingEquipmentSequence[:2]]

    names = [item.ManufacturerModelName for item in seg.ContributingEquipmentSequence]
    assert names[:2] == [model.name for model in MODELS]
    assert devices(seg)[0] == devices(other)[0]
    assert devices(seg)[1] != devices(other)[1], "a new model is a new device"


def test_without_lesion_there_is_no_lesion_segment(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=healthy_lungs())
    seg = read_seg(case, tmp_path / "out")
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == NAMES[:2]


def test_segment_numbers_have_no_gap_when_a_lung_is_missing(tmp_path: Path) -> None:
    labels = both_lungs()
    labels[np.isin(labels, LEFT_LABELS)] = Label.BACKGROUND
    seg = read_seg(make_case(tmp_path / "series", labels=labels), tmp_path / "out")
    assert [segment.SegmentNumber for segment in seg.SegmentSequence] == [1, 2, 3]
    assert seg.SegmentSequence[0].SegmentLabel == "Right lung excluding opacities"


def test_a_lesion_in_one_slice_does_not_bring_empty_frames(tmp_path: Path) -> None:
    seg = read_seg(make_case(tmp_path / "series", labels=left_lesion()), tmp_path / "out")
    assert all(frame.any() for frame in seg.pixel_array)
    numbers = [
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in seg.PerFrameFunctionalGroupsSequence
    ]
    assert numbers.count(3) == numbers.count(4) == 1


def test_the_same_analysis_makes_the_same_bytes(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    first, second = (case.compose(tmp_path / name).objects for name in ("one", "two"))
    for one, two in zip(first, second, strict=True):
        assert one.sop_instance_uid == two.sop_instance_uid
        assert one.path.read_bytes() == two.path.read_bytes()


def test_another_analysis_is_another_object(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    first = case.compose(tmp_path / "one").objects
    second = case.compose(tmp_path / "two", key=replace(case.key, config_digest="d")).objects
    for one, two in zip(first, second, strict=True):
        assert one.sop_instance_uid != two.sop_instance_uid
        assert one.series_uid != two.series_uid


def test_only_the_finished_objects_lie_in_the_folder(tmp_path: Path) -> None:
    make_case(tmp_path / "series").compose(tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["seg.dcm", "sr.dcm"]


def _shift(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.roll(labels, 1, axis=2)


def _mirror(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return labels[:, :, ::-1].copy()


def _upside_down(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return labels[::-1].copy()


@pytest.mark.parametrize("change", [_shift, _mirror, _upside_down])
@pytest.mark.parametrize(
    ("kind", "wrong_one"), [(Profile.OHIF, 0), (Profile.OHIF, 1), (Profile.LABELMAP, 0)]
)
def test_a_mask_that_is_not_the_computed_one_is_never_returned(
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    kind: Profile,
    wrong_one: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = make_case(tmp_path / "series")
    build = writer.build_seg
    roles = [TISSUES.role, LESIONS.role]

    def wrong(*, document: SegDocument, segments: Segments, **arguments: Any) -> Dataset:
        if document.role == roles[wrong_one]:
            segments = replace(segments, numbers=change(segments.numbers))
        return build(document=document, segments=segments, **arguments)

    monkeypatch.setattr(writer, "build_seg", wrong)
    options = ReportOptions(lesion_segments=True)
    with pytest.raises(ResultInvalid, match="mask"):
        case.compose(tmp_path / "out", kind, options=options)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("labels", [both_lungs, healthy_lungs, left_lesion])
@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_the_iod_validator_finds_no_error(
    labels: Callable[[], NDArray[np.uint8]], *, enhanced: bool, tmp_path: Path
) -> None:
    if not DCIODVFY.exists():
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    case = make_case(tmp_path / "series", labels=labels(), enhanced=enhanced)
    for item in case.compose(tmp_path / "out").objects:
        done = subprocess.run([DCIODVFY, item.path], capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).splitlines()
        assert [line for line in said if line.startswith("Error")] == []
        kinds = [line for line in said if "not present in standard DICOM IOD" in line]
        # Device UID in Contributing Equipment is newer (CP-2231) than this validator.
        assert [line for line in kinds if "Device UID" not in line and "(0x" in line] == []


def test_long_model_names_are_cut_to_what_dicom_holds(tmp_path: Path) -> None:
    long = ModelIdentity(name="n" * 90, version="v" * 90, digest="12" * 32, licence="l" * 300)
    case = make_case(tmp_path / "series")
    for item in case.compose(tmp_path / "out", models=(MODELS[0], long)).objects:
        result = pydicom.dcmread(item.path)
        assert len(result.ContributingEquipmentSequence[1].ManufacturerModelName) <= 64


def test_it_is_explicit_little_endian_on_the_grid_of_the_series(tmp_path: Path) -> None:
    seg = read_seg(make_case(tmp_path / "series"), tmp_path / "out")
    assert seg.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (seg.Rows, seg.Columns) == SHAPE[1:]


def test_the_parameters_say_below_which_density_nothing_is_a_lesion(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    method = replace(case.findings.method, minimum_lesion_hu=-750.0)
    case = replace(case, findings=replace(case.findings, method=method))
    seg = read_seg(case, tmp_path / "out")
    algorithm = seg.SegmentSequence[2].SegmentationAlgorithmIdentificationSequence[0]
    stated = algorithm.AlgorithmParameters
    assert "minimum_lesion_ml=0,minimum_lesion_hu=-750," in stated
    said = " ".join(statements(case.findings, 2, MODELS, SOFTWARE))
    assert "lung below -750 HU is no opacity" in said


def _compressed(before: str | None) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        if before is None:
            return
        dataset.LossyImageCompression = before
        if before == "01":
            dataset.LossyImageCompressionRatio = "12.5"
            dataset.LossyImageCompressionMethod = "ISO_15444_1"

    return change


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
@pytest.mark.parametrize(
    ("before", "after"), [("01", "01"), ("00", "00"), ("", "00"), (None, "00")]
)
def test_lossy_compression_of_the_source_is_not_denied(
    before: str | None, after: str, *, enhanced: bool, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", enhanced=enhanced, change=_compressed(before))
    seg = read_seg(case, tmp_path / "out")
    assert seg.LossyImageCompression == after
    assert ("LossyImageCompressionMethod" in seg) == (after == "01")
    if after == "01":
        assert seg.LossyImageCompressionRatio == 12.5
        assert seg.LossyImageCompressionMethod == "ISO_15444_1"
