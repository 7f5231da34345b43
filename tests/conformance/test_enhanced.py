"""What results of multi-frame series reference: every frame by its own instance and number."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from conformance_series import SHAPE, Variant, analysed, lungs, with_lesion
from enhanced_ct import FrameOf, Layout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from chestct.results import Extra
from chestct.volume import Label
from dicom_out.objects.extras import Drawings, compose_extras

FRONTAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
Results = tuple[list[Dataset], Dataset, Dataset]
Places = dict[tuple[str, int], NDArray[np.float64]]


def beside_others(frames: list[FrameOf]) -> list[FrameOf]:
    """Put two localizer frames before the stack, and frontal reformats behind it."""
    scouts = [
        FrameOf(
            slice=one.slice,
            content={},
            cosines=FRONTAL,
            frame_type=("ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"),
        )
        for one in frames[:2]
    ]
    frontal = [
        FrameOf(
            slice=one.slice,
            content={},
            cosines=FRONTAL,
            frame_type=("DERIVED", "PRIMARY", "VOLUME", "MPR"),
        )
        for one in frames[:5]
    ]
    return [*scouts, *frames, *frontal]


LAYOUTS = {
    "one image": Layout(seed=5),
    "in parts": Layout(sizes=(3, 12, 9), seed=6, own_groups=True, rescales=True),
    "concatenation": Layout(sizes=(20, 4), concatenated=True),
    "frame by frame": Layout(sizes=(1,) * SHAPE[0], seed=8),
    "beside others": Layout(frames=beside_others, own_groups=True),
    "beside others, in parts": Layout(sizes=(2, 14, 15), frames=beside_others, own_groups=True),
}


def results(layout: Layout | None, folder: Path) -> Results:
    """Return the source images, the SEG and the SR of the painted series."""
    variant = Variant(labels=with_lesion(lungs()), layout=layout)
    series, files = variant.write(folder / "series")
    objects = analysed(series).compose(folder / "out").objects
    images = [pydicom.dcmread(path) for path in files]
    return images, pydicom.dcmread(objects[0].path), pydicom.dcmread(objects[-1].path)


def places_of(images: list[Dataset]) -> Places:
    """Return the position of each frame of the sources."""
    return {
        (image.SOPInstanceUID, number): np.array(
            groups.PlanePositionSequence[0].ImagePositionPatient, float
        )
        for image in images
        for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence, start=1)
    }


def frames_of_stack(images: list[Dataset]) -> dict[str, set[int]]:
    """Return the numbers of the axial frames, by instance, and the instances that have some."""
    found: dict[str, set[int]] = {}
    for image in images:
        shared = image.SharedFunctionalGroupsSequence[0]
        for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence, start=1):
            own = groups if "PlaneOrientationSequence" in groups else shared
            if list(own.PlaneOrientationSequence[0].ImageOrientationPatient) != list(FRONTAL):
                found.setdefault(image.SOPInstanceUID, set()).add(number)
    return found


@pytest.fixture(scope="module", params=LAYOUTS)
def multi_frame(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    """The sources, the SEG and the SR of the painted series in one of the layouts."""
    return results(LAYOUTS[request.param], tmp_path_factory.mktemp("multi-frame"))


@pytest.fixture(scope="module")
def single_frame(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Those of the same series as slices."""
    return results(None, tmp_path_factory.mktemp("single-frame"))


def test_every_reference_is_to_the_frame_at_that_place(multi_frame: Results) -> None:
    images, seg, sr = multi_frame
    places, stack = places_of(images), frames_of_stack(images)

    referenced = 0
    for groups in seg.PerFrameFunctionalGroupsSequence:
        (derivation,) = groups.DerivationImageSequence
        (source,) = derivation.SourceImageSequence
        position = places[source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber]
        assert groups.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(position)
        assert source.ReferencedFrameNumber in stack[source.ReferencedSOPInstanceUID]
        referenced += 1
    assert referenced == seg.NumberOfFrames

    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == images[0].SeriesInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == set(stack)
    require_frames(seg.SourceImageSequence, images, stack)
    (evidence,) = (
        one
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        if one.SeriesInstanceUID == images[0].SeriesInstanceUID
    )
    assert {one.ReferencedSOPInstanceUID for one in evidence.ReferencedSOPSequence} == set(stack)
    (library,) = (one for one in items(sr) if concept(one) == "Image Library Group")
    listed = [one for one in library.ContentSequence if one.ValueType == "IMAGE"]
    require_frames([one.ReferencedSOPSequence[0] for one in listed], images, stack)


def require_frames(
    references: list[Dataset], images: list[Dataset], stack: dict[str, set[int]]
) -> None:
    """Images are named once each; with their frames exactly where not all were analysed."""
    counts = {image.SOPInstanceUID: int(image.NumberOfFrames) for image in images}
    assert len(references) == len(stack)
    for reference in references:
        uid = reference.ReferencedSOPInstanceUID
        numbers = reference.get("ReferencedFrameNumber")
        if len(stack[uid]) == counts[uid]:
            assert numbers is None
        else:
            assert set(np.atleast_1d(numbers)) == stack[uid]


def test_every_outline_lies_where_that_of_the_single_frame_series_does(
    multi_frame: Results, single_frame: Results
) -> None:
    images, _, sr = multi_frame
    single, _, wanted = single_frame
    positions = {
        (image.SOPInstanceUID, 0): np.array(image.ImagePositionPatient, float) for image in single
    }
    found = outlines_of(sr, places_of(images))
    assert found == outlines_of(wanted, positions)
    assert len(found) > len(Label)


def outlines_of(
    sr: Dataset, positions: Places
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return every outline with the position of the frame that it names."""
    found = []
    for one in items(sr):
        if one.ValueType == "SCOORD":
            reference = one.ContentSequence[0].ReferencedSOPSequence[0]
            number = int(reference.get("ReferencedFrameNumber", 0))
            position = positions[reference.ReferencedSOPInstanceUID, number]
            found.append((tuple(one.GraphicData), tuple(position)))
    return sorted(found)


def concept(one: Dataset) -> str:
    """Return the name of a content item; images need none."""
    names = one.get("ConceptNameCodeSequence")
    return str(names[0].CodeMeaning) if names else ""


def items(sr: Dataset) -> list[Dataset]:
    """Return every content item of a report."""
    found: list[Dataset] = []
    waiting = list(sr.ContentSequence)
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += one.get("ContentSequence", [])
    return found


def test_the_image_that_joins_the_frames_is_nowhere_named(multi_frame: Results) -> None:
    images, seg, sr = multi_frame
    known = {str(image.SOPInstanceUID) for image in images}
    for result in (seg, sr):
        named = {
            str(element.value)
            for element in result.iterall()
            if element.keyword == "ReferencedSOPInstanceUID"
        }
        assert named - known <= {str(seg.SOPInstanceUID)}


def volume_of(seg: Dataset) -> Any:
    return hd.seg.Segmentation.from_dataset(seg).get_volume(combine_segments=True)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**16),
    cuts=st.sets(st.integers(1, SHAPE[0] - 1), max_size=3),
    concatenated=st.booleans(),
    own_groups=st.booleans(),
    rescales=st.booleans(),
)
def test_order_and_split_give_the_same_mask(
    single_frame: Results,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    cuts: set[int],
    **options: bool,
) -> None:
    sizes = tuple(int(size) for size in np.diff([0, *sorted(cuts), SHAPE[0]]))
    layout = Layout(sizes=sizes, seed=seed, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, seg, _ = results(layout, tmp_path_factory.mktemp("multi-frame"))
    found, classic = volume_of(seg), volume_of(single_frame[1])
    np.testing.assert_allclose(found.affine, classic.affine)
    np.testing.assert_array_equal(found.array, classic.array)


def pointers(layout: Layout | None, folder: Path) -> tuple[Places, dict[str, Dataset]]:
    """Return the positions in the sources, and presentation state and key objects by role."""
    variant = Variant(labels=with_lesion(lungs()), layout=layout)
    series, files = variant.write(folder / "series")
    if layout:
        for path in files:
            share_rescale(path)
    case = analysed(series)
    objects = compose_extras(
        (Extra.PRESENTATION_STATE, Extra.KEY_OBJECTS),
        Drawings(page=unwanted, pdf=unwanted, frames=unwanted),
        case.analysed(),
        case.sources(),
        folder,
    ).objects
    images = [pydicom.dcmread(path) for path in files]
    places = (
        places_of(images)
        if layout
        else {(one.SOPInstanceUID, 0): np.array(one.ImagePositionPatient, float) for one in images}
    )
    return places, {item.role: pydicom.dcmread(item.path) for item in objects}


def share_rescale(path: Path) -> None:
    """Put the rescale of the first frame where it counts for all: a GSPS needs it there."""
    image = pydicom.dcmread(path)
    frames = image.PerFrameFunctionalGroupsSequence
    image.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = frames[
        0
    ].PixelValueTransformationSequence
    for frame in frames:
        del frame.PixelValueTransformationSequence
    image.save_as(path)


def unwanted() -> Any:
    raise AssertionError("no picture was asked for")


def drawn(state: Dataset, places: Places) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return every outline of a presentation state with the position of its image."""
    found = []
    for annotation in state.GraphicAnnotationSequence:
        (image,) = annotation.ReferencedImageSequence
        number = int(image.get("ReferencedFrameNumber", 0))
        place = tuple(places[image.ReferencedSOPInstanceUID, number])
        found += [(tuple(one.GraphicData), place) for one in annotation.GraphicObjectSequence]
    return sorted(found)


@pytest.mark.parametrize("name", ["one image", "concatenation"])
def test_a_presentation_state_draws_on_the_frames_of_the_lesion(name: str, tmp_path: Path) -> None:
    places, found = pointers(LAYOUTS[name], tmp_path / "multi-frame")
    positions, wanted = pointers(None, tmp_path / "classic")
    state = found[Extra.PRESENTATION_STATE]
    assert drawn(state, places) == drawn(wanted[Extra.PRESENTATION_STATE], positions)


def test_a_lesion_over_several_multi_frame_images_gets_key_objects_alone(tmp_path: Path) -> None:
    places, found = pointers(LAYOUTS["frame by frame"], tmp_path / "multi-frame")
    positions, wanted = pointers(None, tmp_path / "classic")
    assert set(found) == {Extra.KEY_OBJECTS}
    assert pointed_at(found[Extra.KEY_OBJECTS], places, 1) == pointed_at(
        wanted[Extra.KEY_OBJECTS], positions, 0
    )


def pointed_at(keys: Dataset, places: Places, frame: int) -> set[tuple[float, ...]]:
    """Return the positions of the images of one frame each that key objects name."""
    named = [
        one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for one in items(keys)
        if one.ValueType == "IMAGE"
    ]
    assert named
    return {tuple(places[uid, frame]) for uid in named}
