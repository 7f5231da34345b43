"""What is made for viewers without SEG: pictures, pages and pointers, each read back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import highdicom as hd
import numpy as np
import pydicom
import pytest
from chest_cases import (
    MODELS,
    Case,
    both_lungs,
    healthy_lungs,
    make_case,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.results import Extra, ResultObject, ResultReference
from chestct.uids import derive_uid
from chestct.volume import Label
from dicom_out.objects.contours import outlines
from dicom_out.objects.extras import compose_extras
from dicom_out.objects.pointers import most_affected
from rales.pictures.frames import draw_slices
from rales.pictures.heading import Heading
from rales.pictures.page import draw_page, drawings_of

DCIODVFY = Path(sys.executable).with_name("dciodvfy")
REPLACED = ResultReference(
    study_uid=derive_uid("study"),
    series_uid=derive_uid("replaced series"),
    sop_class_uid=derive_uid("class"),
    sop_instance_uid=derive_uid("replaced"),
)
EVERY = tuple(Extra)
HEADING = Heading(examination="study of 2026-01-02")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "series")


def write(case: Case, folder: Path, extras: tuple[Extra, ...] = EVERY) -> dict[str, ResultObject]:
    folder.mkdir(parents=True, exist_ok=True)
    objects = compose_extras(
        extras,
        drawings_of(case.analysed(), case.sources()),
        case.analysed(),
        case.sources(),
        folder,
    )
    assert objects.left_out == ()
    return {item.role: item for item in objects.objects}


def read(item: ResultObject) -> Dataset:
    return pydicom.dcmread(item.path)


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_each_names_its_patient_and_repeats_itself(*, enhanced: bool, tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", enhanced=enhanced)
    objects = write(case, tmp_path / "one")
    assert set(objects) == {str(extra) for extra in Extra}
    again = write(case, tmp_path / "two")
    source = pydicom.dcmread(case.series.instances[0].path)
    for role, item in objects.items():
        dataset = read(item)
        assert item.path.read_bytes() == again[role].path.read_bytes(), role
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber"):
            assert dataset.get(keyword) == source.get(keyword), (role, keyword)
        assert "research" in dataset.SeriesDescription
        assert len(dataset.ContributingEquipmentSequence) >= len(MODELS)  # and highdicom itself
    uids = {item.sop_instance_uid for item in objects.values()}
    series = {item.series_uid for item in objects.values()}
    assert len(uids) == len(series) == len(Extra)


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
@pytest.mark.parametrize("labels", [both_lungs, healthy_lungs])
def test_the_validator_finds_no_error(
    labels: Callable[[], NDArray[np.uint8]], *, enhanced: bool, tmp_path: Path
) -> None:
    if not DCIODVFY.exists():
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    case = make_case(tmp_path / "series", labels=labels(), enhanced=enhanced)
    for role, item in write(case, tmp_path).items():
        done = subprocess.run([DCIODVFY, item.path], capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert errors == [], role


def test_everything_says_that_it_is_for_research(tmp_path: Path) -> None:
    for role, item in write(make_case(tmp_path / "series"), tmp_path / "out").items():
        assert read(item).ContentQualification == "RESEARCH", role


def test_the_window_has_one_name(tmp_path: Path) -> None:
    wanted = (Extra.PRESENTATION_STATE,)
    state = read(write(make_case(tmp_path / "series"), tmp_path / "out", wanted)[wanted[0]])
    (window,) = state.SoftcopyVOILUTSequence
    assert window.WindowCenterWidthExplanation == "LUNG"
    assert window["WindowCenter"].VM == window["WindowWidth"].VM == 1


def test_an_extra_that_cannot_be_made_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = make_case(tmp_path / "series")

    def fail() -> NDArray[np.uint8]:
        raise ValueError("Doe^John")

    found = compose_extras(
        (Extra.SECONDARY_CAPTURE, Extra.KEY_OBJECTS),
        replace(drawings_of(case.analysed(), case.sources()), page=fail),
        case.analysed(),
        case.sources(),
        tmp_path,
    )
    assert [item.role for item in found.objects] == ["key-objects"]
    assert found.left_out == (Extra.SECONDARY_CAPTURE,)
    (said,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert (
        said.getMessage() == "the secondary-capture cannot be written and is left out (ValueError)"
    )


def test_without_a_lesion_there_is_nothing_to_point_at(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=healthy_lungs())
    objects = write(case, tmp_path)
    assert set(objects) == {"secondary-capture", "colour-overlay", "encapsulated-pdf"}


def test_the_page_is_in_the_capture_and_the_pdf(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    objects = write(case, tmp_path)
    capture = read(objects["secondary-capture"])
    drawings = drawings_of(case.analysed(), case.sources())
    assert np.array_equal(capture.pixel_array, drawings.page())
    assert capture.BurnedInAnnotation == "YES", "the page states the accession number"
    assert "PixelSpacing" not in capture
    document = read(objects["encapsulated-pdf"])
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content == drawings.pdf()
    assert content.startswith(b"%PDF-")
    assert document.BurnedInAnnotation == "YES"
    (title,) = document.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("126000", "DCM")
    assert read(objects["colour-overlay"]).BurnedInAnnotation == "NO"
    sources = {item.ReferencedSOPInstanceUID for item in capture.SourceImageSequence}
    assert sources == {one.sop_instance_uid for one in case.series.instances}


def test_a_page_changes_with_what_it_tells(tmp_path: Path) -> None:
    sick = draw_page(make_case(tmp_path / "sick").analysed(), HEADING).pixels
    well = draw_page(
        make_case(tmp_path / "well", labels=healthy_lungs()).analysed(), HEADING
    ).pixels
    assert sick.shape == well.shape
    banner = slice(0, 54)
    assert np.array_equal(sick[banner], well[banner]), "the warning is on every page"
    assert (sick != well).any()


def test_the_overlay_shows_each_slice_of_the_lungs_from_head_to_feet(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    overlay = read(write(case, tmp_path)["colour-overlay"])
    frames = draw_slices(case.analysed()).pixels
    assert overlay.NumberOfFrames == len(frames) == 5  # the first slice of six is empty
    assert np.array_equal(overlay.pixel_array, frames)
    assert [float(place) for place in overlay.SliceLocationVector] == [0, 4, 8, 12, 16]
    # The lesion lies in slices 2 to 4 of the volume, which runs from the feet to the head.
    red = (frames.astype(int)[..., 0] - frames.astype(int)[..., 2] > 60).sum(axis=(1, 2))
    assert (red[1:4] > red[0]).all()
    assert (red[1:4] > red[4]).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_each_frame_of_the_overlay_lies_where_its_slice_lies(
    *, mirrored: bool, tmp_path: Path
) -> None:
    """By PS3.3 C.7.6.2.1.1 the red of a lesion is where the lesion is in the patient."""
    sign = -1.0 if mirrored else 1.0
    labels = healthy_lungs()
    labels[2:5, 10:18, 3:7] = Label.RIGHT_CONSOLIDATION
    case = make_case(
        tmp_path / "series", labels=labels, cosines=((sign, 0.0, 0.0), (0.0, sign, 0.0))
    )
    overlay = read(write(case, tmp_path, (Extra.COLOUR_OVERLAY,))["colour-overlay"])
    assert overlay.FrameOfReferenceUID == case.volume.frame_of_reference_uid
    (shared,) = overlay.SharedFunctionalGroupsSequence
    down, along = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    pixels = overlay.pixel_array.astype(int)
    red = pixels[..., 0] - pixels[..., 1] > 57  # captions are less red
    points = [
        np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        + column * along * cosines[:3]
        + row * down * cosines[3:]
        for groups, plane in zip(overlay.PerFrameFunctionalGroupsSequence, red, strict=True)
        for row, column in np.argwhere(plane)
    ]
    lesion = np.argwhere(case.lesion_map.lesion()).astype(float)
    expected = case.volume.geometry.to_patient(lesion)
    assert np.mean(points, axis=0) == pytest.approx(expected.mean(axis=0), abs=0.6)
    half = np.array([case.volume.geometry.pixel_spacing[1], 1.5, 0.01]) + 0.3
    assert (np.min(points, axis=0) >= expected.min(axis=0) - half).all()
    assert (np.max(points, axis=0) <= expected.max(axis=0) + half).all()


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "multi-frame"])
def test_the_outlines_lie_around_the_lesion_on_its_own_image(
    *, enhanced: bool, tmp_path: Path
) -> None:
    case = make_case(tmp_path / "series", enhanced=enhanced)
    state = read(write(case, tmp_path)["presentation-state"])
    lesion = case.lesion_map.lesion()
    drawn = np.zeros_like(lesion)
    places = [(one.sop_instance_uid, one.frame_number) for one in case.volume.sources]
    for annotation in state.GraphicAnnotationSequence:
        (image,) = annotation.ReferencedImageSequence
        index = places.index((image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")))
        for graphic in annotation.GraphicObjectSequence:
            assert (graphic.GraphicType, graphic.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
            points = np.array(graphic.GraphicData).reshape(-1, 2)
            assert np.array_equal(points[0], points[-1]), "closed"
            drawn[index] |= filled(points, lesion.shape[1:])
    assert np.array_equal(drawn, lesion)
    (window,) = state.SoftcopyVOILUTSequence
    assert (float(window.WindowCenter), float(window.WindowWidth)) == (-600, 1500)


def filled(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies inside a polygon of (column, row)."""
    polygon = points.astype(np.float32).reshape(-1, 1, 2)
    return np.array(
        [
            [
                cv2.pointPolygonTest(polygon, (column + 0.5, row + 0.5), measureDist=False) >= 0
                for column in range(shape[1])
            ]
            for row in range(shape[0])
        ]
    )


def test_images_without_one_rescale_in_common_get_no_presentation_state(tmp_path: Path) -> None:
    def vary(dataset: Dataset) -> None:
        dataset.RescaleIntercept = str(-1000 - int(dataset.InstanceNumber))

    case = make_case(tmp_path / "series", change=vary)
    assert "presentation-state" not in write(case, tmp_path)


def test_the_key_objects_are_the_images_with_most_lesion(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")
    item = write(case, tmp_path)["key-objects"]
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(read(item))
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    named = [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence]
    chosen = most_affected(case.lesion_map, 5)
    assert named == [case.volume.sources[index].sop_instance_uid for index in chosen]
    area = case.lesion_map.lesion().sum(axis=(1, 2))
    assert int(area.argmax()) in chosen


def test_key_slices_are_some_way_apart(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series")  # slices 4 mm apart: 15 mm are four of them
    chosen = most_affected(case.lesion_map, 5)
    assert len(chosen) == 1
    assert most_affected(case.lesion_map, 0) == []


def test_a_ring_has_two_outlines_and_nothing_none() -> None:
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[3:6, 3:6] = False
    assert len(outlines(ring)) == 2
    assert outlines(np.zeros((4, 4), bool)) == []
