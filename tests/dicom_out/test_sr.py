"""The report: every number, of the right side, beside the right segment, and no overclaim."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from chest_cases import (
    MODELS,
    Case,
    both_lungs,
    healthy_lungs,
    left_lesion,
    make_case,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from sr_content import groups, items, name_of, values

from chestct.findings import Findings
from chestct.geometry import Geometry
from chestct.method import Method, Presence
from chestct.results import Profile, ResultReference
from chestct.uids import derive_uid
from chestct.verdict import scope
from chestct.volume import Label, LesionMap
from dicom_out.objects.contours import outline
from dicom_out.objects.segments import tissue_segments
from dicom_out.objects.text import render_text


def read_sr(case: Case, folder: Path, **changes: Any) -> Dataset:
    """Write the results and read the SR back from its bytes."""
    return pydicom.dcmread(case.compose(folder, **changes).objects[1].path)


def evaluations(group: Dataset) -> dict[str, str]:
    return {
        name_of(child): child.ConceptCodeSequence[0].CodeMeaning
        for child in group.ContentSequence
        if child.ValueType == "CODE"
    }


def laterality(group: Dataset) -> str:
    (found,) = [item for item in items(group) if name_of(item) == "Laterality"]
    return str(found.ConceptCodeSequence[0].CodeMeaning)


LUNG_VOLUME = "Volume of lung with its opacities, sum of segments"
LESION_VOLUME = "Volume of opacities in lung, sum of segments"


def texts(sr: Dataset) -> str:
    return " ".join(item.TextValue for item in items(sr) if item.ValueType == "TEXT")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (both_lungs, "Opacities found: 12.3 %"),
        (healthy_lungs, "None marked: ground-glass, consolidation"),
    ],
)
def test_the_list_of_series_says_the_outcome(
    labels: Callable[[], NDArray[np.uint8]], said: str, tmp_path: Path
) -> None:
    description = read_sr(
        make_case(tmp_path / "series", labels=labels()), tmp_path
    ).SeriesDescription
    assert description.startswith(f"{said}; S2 (Rales AI")
    assert len(description) <= 64  # Long String, PS3.5 section 6.2


def test_the_document_says_what_it_is(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    sr = read_sr(case, tmp_path / "out")
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert sr.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (sr.PreliminaryFlag, sr.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert sr.CompletionFlag == "COMPLETE"
    assert sr.ContentQualification == "RESEARCH"
    assert "AI" in sr.SeriesDescription
    codes = {name_of(item): item for item in items(sr)}
    procedures = [
        item.ConceptCodeSequence[0].CodeValue
        for item in sr.ContentSequence
        if name_of(item) == "Procedure reported"
    ]
    assert procedures == ["25045-6"]  # TID 1500 has one, of CID 100
    assert codes["Observer Type"].ConceptCodeSequence[0].CodeValue == "121007"
    assert codes["Device Observer UID"].UID
    assert codes["Language of Content Item and Descendants"].ConceptCodeSequence


def test_every_number_is_the_one_that_was_measured(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    sr = read_sr(case, tmp_path / "out")
    total = case.findings.total
    for tracking, lung in (
        ("Left lung", case.findings.left),
        ("Right lung", case.findings.right),
        ("Summary", total),
    ):
        found = values(*groups(sr, tracking))
        assert found[LUNG_VOLUME] == (pytest.approx(lung.volume_ml, abs=0.01), "ml")
        assert found[LESION_VOLUME] == (pytest.approx(lung.lesion_ml, abs=0.01), "ml")
        percent = pytest.approx(lung.involved_percent, abs=0.01)
        assert found["Percent of lung involved"] == (percent, "%")
    assert values(*groups(sr, "Summary"))["Number of lesions"][0] == 2
    lesion = values(*groups(sr, "Lung lesions (opacities)"))
    assert lesion[LESION_VOLUME] == (pytest.approx(total.lesion_ml, abs=0.01), "ml")
    assert lesion["High-opacity share of lesion volume"][0] == pytest.approx(
        total.high_opacity_percent, abs=0.01
    )
    mean = pytest.approx(total.lesion_mean_hu, abs=0.01)
    assert lesion["Attenuation Coefficient"] == (mean, "[hnsf'U]")
    largest = case.findings.lesions[0].diameter
    lesion = values(*groups(sr, "Lesion 1"))
    assert lesion["Long Axis"] == (pytest.approx(largest.long_axis_mm, abs=0.01), "mm")
    assert lesion["Short Axis"] == (pytest.approx(largest.short_axis_mm, abs=0.01), "mm")


def test_volumes_are_those_of_the_segments(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    seg, sr = (pydicom.dcmread(item.path) for item in case.compose(tmp_path / "out").objects)
    counts = np.zeros(7)
    for pixels, frame in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        counts[number] += pixels.sum()
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    ml = np.prod([*measures.PixelSpacing, measures.SpacingBetweenSlices], dtype=float) / 1000
    for segment in seg.SegmentSequence:
        assert values(*groups(sr, segment.SegmentLabel))["Volume"][0] == pytest.approx(
            counts[segment.SegmentNumber] * ml, abs=0.01
        )
    assert values(*groups(sr, "Lung lesions (opacities)"))[LESION_VOLUME][0] == pytest.approx(
        counts[3:].sum() * ml, abs=0.01
    )
    for name, own in (
        ("Summary", counts),
        ("Left lung", counts[1::2]),
        ("Right lung", counts[2::2]),
    ):
        (found,) = (values(group) for group in groups(sr, name))
        assert found[LUNG_VOLUME][0] == pytest.approx(own.sum() * ml, abs=0.01)
        assert "Volume" not in found, "that is the volume of a segment"


def test_each_segment_has_a_volumetric_and_a_planar_group_under_its_tracking_uid(
    tmp_path: Path,
) -> None:
    """OHIF loses the viewport over a volumetric group without the planar one beside it."""
    case = make_case(tmp_path / "series")
    seg, sr = (pydicom.dcmread(item.path) for item in case.compose(tmp_path / "out").objects)
    for segment in seg.SegmentSequence:
        volumetric, planar = groups(sr, segment.SegmentLabel)
        for group in (volumetric, planar):
            uids = [
                item.UID for item in items(group) if name_of(item) == "Tracking Unique Identifier"
            ]
            assert uids == [segment.TrackingUID]
        (reference,) = [item for item in items(volumetric) if item.ValueType == "IMAGE"]
        sop = reference.ReferencedSOPSequence[0]
        assert sop.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert sop.ReferencedSegmentNumber == segment.SegmentNumber
        assert [item.GraphicType for item in items(planar) if item.ValueType == "SCOORD"] == [
            "POLYLINE"
        ]
        series = [item for item in items(volumetric) if item.ValueType == "UIDREF"]
        assert case.series.series_uid in {item.UID for item in series}


def all_lesion() -> NDArray[np.uint8]:
    """Return two lungs, the left one all lesion."""
    labels = healthy_lungs()
    labels[labels == Label.LEFT_LUNG] = Label.LEFT_GROUND_GLASS
    return labels


def test_left_is_left_and_right_is_right(tmp_path: Path) -> None:
    sr = read_sr(make_case(tmp_path / "series"), tmp_path / "out")
    for side in ("Left", "Right"):
        assert [laterality(group) for group in groups(sr, f"{side} lung")] == [side]
        for rest in ("lung excluding opacities", "ground-glass opacity", "consolidation"):
            assert [laterality(group) for group in groups(sr, f"{side} {rest}")] == [side, side]
    (lesions,) = groups(sr, "Lung lesions (opacities)")
    assert laterality(lesions) == "Bilateral"
    assert [laterality(group) for group in groups(sr, "Lesion 1")] == ["Right"]
    assert [laterality(group) for group in groups(sr, "Lesion 2")] == ["Left"]


def test_a_lesion_of_one_side_is_not_said_to_be_in_both(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=left_lesion())
    seg, sr = (pydicom.dcmread(item.path) for item in case.compose(tmp_path / "out").objects)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence[2:]] == [
        "Left ground-glass opacity",
        "Left consolidation",
    ]
    for opacity in ("Left ground-glass opacity", "Left consolidation", "Lung lesions (opacities)"):
        assert {laterality(group) for group in groups(sr, opacity)} == {"Left"}
    assert values(*groups(sr, "Right lung"))["Percent of lung involved"] == (0.0, "%")


def enclosed(sr: Dataset, case: Case, tracking: str) -> tuple[int, NDArray[np.bool_]]:
    """Return the slice of the outline and the pixels whose centre lies inside it."""
    (region,) = [item for item in items(groups(sr, tracking)[-1]) if item.ValueType == "SCOORD"]
    points = np.array(region.GraphicData, np.float32).reshape(-1, 2)
    assert (points[0] == points[-1]).all(), "a closed polyline"
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    (index,) = [
        number
        for number, source in enumerate(case.volume.sources)
        if source.sop_instance_uid == reference.ReferencedSOPInstanceUID
        and source.frame_number == reference.get("ReferencedFrameNumber")
    ]
    rows, columns = case.volume.geometry.shape[1:]
    inside = [
        [
            cv2.pointPolygonTest(points[:, None], (column + 0.5, row + 0.5), measureDist=False) > 0
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    return index, np.array(inside)


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_outlines_lie_around_what_they_outline(*, enhanced: bool, tmp_path: Path) -> None:
    labels = healthy_lungs()
    labels[2:5, 10:18, 3:7] = Label.RIGHT_GROUND_GLASS
    case = make_case(tmp_path / "series", labels=labels, enhanced=enhanced)
    sr = read_sr(case, tmp_path / "out")
    index, inside = enclosed(sr, case, "Lesion 1")
    assert np.array_equal(inside, labels[index] == Label.RIGHT_GROUND_GLASS)
    index, inside = enclosed(sr, case, "Left lung")
    assert np.array_equal(inside, labels[index] == Label.LEFT_LUNG)


def test_the_outline_is_of_the_lesion_whose_axes_are_given(tmp_path: Path) -> None:
    """The largest lesion by volume need not be the largest in the slice of its diameter."""
    labels = healthy_lungs()
    labels[2:5, 4:16, 3:5] = Label.RIGHT_GROUND_GLASS  # 72 voxels, longest in every slice it has
    labels[2, 5:13, 10:16] = Label.LEFT_GROUND_GLASS  # 48 voxels, all in one slice
    labels[2, 4:17, 3:5] = Label.RIGHT_GROUND_GLASS
    case = make_case(tmp_path / "series", labels=labels)
    sr = read_sr(case, tmp_path / "out")
    index, inside = enclosed(sr, case, "Lesion 1")
    assert index == case.findings.lesions[0].diameter.slice_index == 2
    assert np.array_equal(inside, labels[2] == Label.RIGHT_GROUND_GLASS)


def test_nothing_found_is_said_with_the_volumes(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=healthy_lungs())
    sr = read_sr(case, tmp_path / "out")
    (summary,) = groups(sr, "Summary")
    assert evaluations(summary)["Opacity presence"] == "None marked"
    assert "Severity" not in evaluations(summary)
    assert values(summary)["Number of lesions"][0] == 0
    assert values(summary)[LUNG_VOLUME][0] == pytest.approx(case.findings.total.volume_ml, abs=0.01)
    assert scope(case.findings) in texts(sr)
    assert groups(sr, "Lung lesions (opacities)") == []
    for lung in ("Left lung", "Right lung"):
        assert (len(groups(sr, lung)), len(groups(sr, f"{lung} excluding opacities"))) == (1, 2)


def test_a_lung_that_is_all_lesion_keeps_its_numbers(tmp_path: Path) -> None:
    """Its segment is empty, but its volume and its involvement are what matters most."""
    case = make_case(tmp_path / "series", labels=all_lesion())
    sr = read_sr(case, tmp_path / "out")
    (group,) = groups(sr, "Left lung")
    assert values(group)["Percent of lung involved"] == (100.0, "%")
    assert laterality(group) == "Left"


@pytest.mark.parametrize("labels", [both_lungs, left_lesion])
def test_words_and_thresholds_are_defined(
    labels: Callable[[], NDArray[np.uint8]], tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", labels=labels())
    sr = read_sr(case, tmp_path / "out")
    assert "Severity" not in evaluations(groups(sr, "Summary")[0]), "no limit has a source"
    said = texts(sr)
    for stated in (
        "Opacity is ground-glass or consolidation.",
        "A lesion is one connected component of opacity.",
        "-300 HU",
        "operating point 0.5",
        "lesions: outlined",
    ):
        assert stated in said


def test_a_score_just_below_the_operating_point_is_not_rounded_onto_it(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=healthy_lungs())
    close = replace(case.findings, presence=Presence(score=0.4987, operating_point=0.5))
    sr = read_sr(case, tmp_path / "out", findings=close)
    assert values(*groups(sr, "Summary"))["Opacity presence score"][0] == pytest.approx(0.4987)
    assert "score 0.499" in texts(sr)


def test_it_never_names_a_cause_and_says_what_it_is(tmp_path: Path) -> None:
    sr = read_sr(make_case(tmp_path / "series"), tmp_path / "out")
    said = " ".join(str(element.value) for element in sr.iterall()).lower()
    for word in ("covid", "co-rads", "corads", "pneumonia", "infect", "cancer", "tumo"):
        assert word not in said
    for phrase in ("artificial intelligence", "research use only", "not verified", "ce-marked"):
        assert phrase in texts(sr).lower()


def test_models_and_quality_flags_are_named(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    flagged = replace(case.findings, quality_flags=("the left lung is small",))
    said = texts(read_sr(case, tmp_path / "out", findings=flagged))
    assert "the left lung is small" in said
    for model in MODELS:
        assert model.name in said
        assert model.digest[:12] in said
        assert model.licence in said


def test_flags_outside_ascii_survive_a_source_without_character_set(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        del dataset.SpecificCharacterSet

    case = make_case(tmp_path / "series", change=change)
    flagged = replace(case.findings, quality_flags=("spacing ≤ 0.7 mm², noyau très dur",))
    said = texts(read_sr(case, tmp_path / "out", findings=flagged))
    assert re.search(r"spacing . 0\.7 mm2, noyau tre.s dur", said)


def test_an_earlier_result_is_the_predecessor(tmp_path: Path) -> None:
    earlier = ResultReference(
        study_uid=derive_uid("study"),
        series_uid=derive_uid("earlier series"),
        sop_class_uid=derive_uid("class"),
        sop_instance_uid=derive_uid("earlier"),
    )
    case = make_case(tmp_path / "series")
    sr = read_sr(case, tmp_path / "out", predecessors={Profile.OHIF: earlier})
    (study,) = sr.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == earlier.study_uid
    assert series.SeriesInstanceUID == earlier.series_uid
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == earlier.sop_instance_uid
    assert "PredecessorDocumentsSequence" not in read_sr(case, tmp_path / "other")


def test_the_evidence_is_the_series_and_the_seg(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    seg, sr = (pydicom.dcmread(item.path) for item in case.compose(tmp_path / "out").objects)
    named = {
        item.ReferencedSOPInstanceUID
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for study in sr.get(keyword, ())
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    used = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(sr)
        if item.ValueType == "IMAGE"
    }
    assert seg.SOPInstanceUID in named
    assert used <= named


def test_private_codes_are_documented_and_their_scheme_identified(tmp_path: Path) -> None:
    sr = read_sr(make_case(tmp_path / "series"), tmp_path / "out")
    used = {
        element.value for element in sr.iterall() if element.keyword == "CodingSchemeDesignator"
    }
    assert "99RALES" in used
    schemes = [item.CodingSchemeDesignator for item in sr.CodingSchemeIdentificationSequence]
    assert schemes == ["99RALES"]
    page = (Path(__file__).parents[2] / "docs" / "private-codes.md").read_text()
    for item in items(sr):
        for sequence in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
            for code in item.get(sequence, ()):
                if code.CodingSchemeDesignator == "99RALES":
                    assert f"`{code.CodeValue}` | {code.CodeMeaning} |" in page


@pytest.mark.dcmtk
@pytest.mark.parametrize("labels", [both_lungs, healthy_lungs])
def test_dcmtk_reads_it(labels: Callable[[], NDArray[np.uint8]], tmp_path: Path) -> None:
    if shutil.which("dsrdump") is None:
        pytest.skip("dcmtk is not installed")
    case = make_case(tmp_path / "series", labels=labels())
    path = case.compose(tmp_path / "out").objects[1].path
    done = subprocess.run(["dsrdump", "+Pn", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Percent of lung involved" in done.stdout
    assert "E:" not in done.stderr


def test_the_text_shows_what_a_reader_wants(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    text = render_text(read_sr(case, tmp_path / "out"))
    total = case.findings.total
    assert text.startswith("Opacities found: ")
    assert "\nImaging Measurement Report\n" in text
    assert "PRELIMINARY, UNVERIFIED" in text
    assert f"Percent of lung involved: {total.involved_percent:.2f} %" in text
    assert "Number of lesions: 2 lesions" in text
    assert f"Attenuation Coefficient: {total.lesion_mean_hu:.2f} HU" in text
    assert text.count("Tracking Identifier: Left lung\n") == 1, "not again for its outline"
    assert "research use only" in text
    assert "2.25." not in text, "no UIDs"
    assert all(len(line) == len(line.rstrip()) for line in text.splitlines())


masks = arrays(np.bool_, (7, 9)).filter(lambda mask: bool(mask.any()))


@settings(deadline=None)  # a busy machine is no failure
@given(masks)
def test_an_outline_runs_between_the_pixels_of_one_part(mask: NDArray[np.bool_]) -> None:
    points = outline(mask)
    assert (points[0] == points[-1]).all()
    assert (points >= 0).all()
    assert (points <= (9, 7)).all(), "(column, row) within the image"
    inside = mask[points[:, 1].astype(int), points[:, 0].astype(int)]
    assert inside.all(), "the outline runs through the rim of the mask's own pixels"
    count, _parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    if count == 2:
        extent = np.argwhere(mask)
        assert points[:, 1].min() == pytest.approx(extent[:, 0].min() + 1 / 6)
        assert points[:, 1].max() == pytest.approx(extent[:, 0].max() + 5 / 6)
        assert points[:, 0].min() == pytest.approx(extent[:, 1].min() + 1 / 6)
        assert points[:, 0].max() == pytest.approx(extent[:, 1].max() + 5 / 6)


def test_an_empty_mask_has_no_outline() -> None:
    with pytest.raises(ValueError, match="empty"):
        outline(np.zeros((3, 3), bool))


masks_of_segments = arrays(np.uint8, (4, 3, 3), elements=st.integers(0, max(Label)))


@settings(deadline=None)  # a busy machine is no failure
@given(masks_of_segments.filter(lambda labels: bool(labels.any())), st.sets(st.integers(0, 3)))
def test_a_segment_is_outlined_where_most_of_it_shows(
    labels: NDArray[np.uint8], taken: set[int]
) -> None:
    geometry = Geometry(
        shape=(4, 3, 3),
        origin=(0.0, 0.0, 0.0),
        row_cosines=(1.0, 0.0, 0.0),
        column_cosines=(0.0, 1.0, 0.0),
        pixel_spacing=(1.0, 1.0),
        slice_spacing=1.0,
    )
    segments = tissue_segments(LesionMap(labels=labels, geometry=geometry), Method())
    assert [plan.number for plan in segments.plans] == list(range(1, len(segments.plans) + 1))
    assert np.array_equal(segments.numbers > 0, labels > 0)
    for plan in segments.plans:
        counts = (segments.numbers == plan.number).sum(axis=(1, 2))
        assert counts.sum() > 0
        index = segments.fullest(plan, taken)
        free = [count for at, count in enumerate(counts) if at not in taken]
        assert counts[index] == (max(free) if any(free) else counts.max())
        assert index not in taken or not any(free)


def test_findings_are_not_changed(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    before: Findings = replace(case.findings)
    case.compose(tmp_path / "out")
    assert case.findings == before
