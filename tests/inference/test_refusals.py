"""A broken series for every reason to reject; each message states the problem in numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_series import (
    ORIGIN,
    SLICES,
    STEP,
    Change,
    SeriesMaker,
    ct_slice,
    enhanced_ct,
    stored_values,
)
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from chestct.errors import InputUnavailable, RejectReason, SeriesRejected
from chestct.uids import derive_uid
from inference.loading.loader import LoadingPolicy, load
from inference.loading.rules import EligibilityRules


def refusal(series: Any, rules: EligibilityRules | None = None) -> tuple[RejectReason, str]:
    with pytest.raises(SeriesRejected) as caught:
        load(series, LoadingPolicy(rules=rules or EligibilityRules()))
    return caught.value.reason, str(caught.value)


def every(**elements: Any) -> Change:
    """Return a change of every slice; None deletes."""

    def change(_: int, dataset: Dataset) -> None:
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def one(index: int, **elements: Any) -> Change:
    """Return a change of one slice only."""

    def change(number: int, dataset: Dataset) -> None:
        if number == index:
            every(**elements)(number, dataset)

    return change


def moved(move: Callable[[int, list[float]], list[float]]) -> Change:
    """Return a change of positions."""

    def change(index: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = move(index, [float(x) for x in dataset.ImagePositionPatient])

    return change


FRONTAL = [1, 0, 0, 0, 0, -1]

CASES: list[tuple[str, RejectReason, Change, str]] = [
    ("MR", RejectReason.NOT_CT, one(3, Modality="MR"), "Modality is MR"),
    ("no modality", RejectReason.NOT_CT, every(Modality=None), "Modality is missing"),
    ("head", RejectReason.NOT_CHEST, every(BodyPartExamined="HEAD"), "is HEAD"),
    ("localizers", RejectReason.LOCALIZER, every(ImageType=["A", "B", "LOCALIZER"]), "LOCALIZER"),
    ("MPR", RejectReason.DERIVED, one(9, ImageType=["DERIVED", "PRIMARY", "MPR"]), "MPR"),
    (
        "vendor MPR",
        RejectReason.DERIVED,
        every(ImageType=["DERIVED", "PRIMARY", "OTHER", "CSA MPR"]),
        "CSA MPR",
    ),
    (
        "secondary",
        RejectReason.DERIVED,
        every(ImageType=["DERIVED", "SECONDARY", "AXIAL"]),
        "SECONDARY",
    ),
    ("thick", RejectReason.TOO_THICK, every(SliceThickness=7), "7 mm, at most 5 mm"),
    (
        "far apart",
        RejectReason.TOO_THICK,
        moved(lambda i, p: [p[0], p[1], 10.0 * i]),
        "10.0 mm apart, at most 5 mm",
    ),
    (
        "coronal",
        RejectReason.NOT_AXIAL,
        lambda i, d: every(ImageOrientationPatient=FRONTAL, ImagePositionPatient=[0, 2.0 * i, 0])(
            i, d
        ),
        "not axial",
    ),
    (
        "askew",
        RejectReason.NOT_AXIAL,
        every(ImageOrientationPatient=[0.8, 0.6, 0, -0.6, 0.8, 0]),
        "turned by 36.9 degrees",
    ),
    ("sizes", RejectReason.MIXED_GEOMETRY, one(4, Rows=20), "40x34 and 20x34"),
    (
        "directions",
        RejectReason.MIXED_GEOMETRY,
        one(4, ImageOrientationPatient=[0.9998, 0.02, 0, -0.02, 0.9998, 0]),
        "different directions",
    ),
    ("pixels", RejectReason.MIXED_GEOMETRY, one(4, PixelSpacing=[1.5, 0.8]), "Pixel Spacing"),
    (
        "frames",
        RejectReason.MIXED_FRAMES_OF_REFERENCE,
        one(5, FrameOfReferenceUID=derive_uid("other")),
        "different values of Frame of Reference UID",
    ),
    ("no frame", RejectReason.NO_FRAME_OF_REFERENCE, every(FrameOfReferenceUID=None), "no Frame"),
    ("no position", RejectReason.NO_POSITIONS, one(2, ImagePositionPatient=None), "Image Position"),
    (
        "no orientation",
        RejectReason.NO_POSITIONS,
        one(2, ImageOrientationPatient=None),
        "Image Orientation",
    ),
    ("no spacing", RejectReason.BAD_GEOMETRY, one(2, PixelSpacing=None), "Pixel Spacing"),
    ("flat pixels", RejectReason.BAD_GEOMETRY, every(PixelSpacing=[0, 0]), "not positive"),
    (
        "no unit vectors",
        RejectReason.BAD_GEOMETRY,
        every(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]),
        "unit vector",
    ),
    (
        "degenerate",
        RejectReason.BAD_GEOMETRY,
        every(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        "not a pair of perpendicular unit vectors",
    ),
    (
        "one slice aside",
        RejectReason.BAD_GEOMETRY,
        moved(lambda i, p: [p[0] + (6 if i == 11 else 0), p[1], p[2]]),
        "a slice is shifted sideways by 6.0 mm",
    ),
    (
        "tilt",
        RejectReason.GANTRY_TILT,
        moved(lambda i, p: [p[0], p[1] + 0.8 * i, p[2]]),
        "sheared by 17.7 degrees",
    ),
    (
        "small tilt",
        RejectReason.GANTRY_TILT,
        moved(lambda i, p: [p[0], p[1] + 0.1 * i, p[2]]),
        "sheared by 2.3 degrees",
    ),
    (
        "twice",
        RejectReason.DUPLICATE_POSITIONS,
        moved(lambda i, p: [p[0], p[1], p[2] - (2.5 if i in {7, 9} else 0)]),
        "2 slices lie at the position of another slice, the first at -188.2 mm",
    ),
    (
        "a step",
        RejectReason.VARIABLE_SPACING,
        moved(lambda i, p: [p[0], p[1], p[2] + (0.4 if i > 9 else 0)]),
        "2.50 mm apart, but 2.90 mm after -180.8 mm",
    ),
    (
        "two spacings",
        RejectReason.VARIABLE_SPACING,
        moved(lambda i, p: [p[0], p[1], 2.5 * i + 0.2 * max(0, i - 12)]),
        "2.50 to 2.70 mm apart",
    ),
    ("no slope", RejectReason.BAD_RESCALE, one(6, RescaleSlope=None), "Rescale Slope"),
    ("slope 0", RejectReason.BAD_RESCALE, one(6, RescaleSlope=0), "Rescale Slope"),
    ("slope below", RejectReason.BAD_RESCALE, one(6, RescaleSlope=-1), "Rescale Slope"),
    (
        "electron density",
        RejectReason.BAD_RESCALE,
        every(RescaleType="ED"),
        "Rescale Type is ED: the pixels are not Hounsfield units",
    ),
    ("colour", RejectReason.BAD_PIXELS, one(6, SamplesPerPixel=3), "grey"),
    ("32 bits", RejectReason.BAD_PIXELS, one(6, BitsAllocated=32), "grey"),
    ("bits stored", RejectReason.BAD_PIXELS, one(6, BitsStored=17), "Bits Stored"),
    ("sign", RejectReason.BAD_PIXELS, one(6, PixelRepresentation=None), "Pixel Representation"),
    ("no rows", RejectReason.BAD_PIXELS, every(Rows=0), "Rows"),
    ("no pixels", RejectReason.BAD_PIXELS, one(6, PixelData=None), "no Pixel Data"),
    ("cut off", RejectReason.BAD_PIXELS, one(6, PixelData=b"\0\0"), "cannot be decoded"),
    ("hidden frames", RejectReason.BAD_PIXELS, one(6, NumberOfFrames=2), "Number of Frames is 2"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("reason", "change", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_trouble_has_its_reason(
    make_ct: SeriesMaker, reason: RejectReason, change: Change, words: str
) -> None:
    found, message = refusal(make_ct(change))
    assert (found, words in message) == (reason, True), f"{found}: {message}"
    assert "\n" not in message


def test_missing_slices_are_named(make_ct: SeriesMaker) -> None:
    assert refusal(make_ct(leave_out=[4, 10, 11], slices=30)) == (
        RejectReason.MISSING_SLICES,
        "3 slices are missing, at -193.2, -178.2, -175.8 mm",
    )


def test_one_missing_slice_is_named(make_ct: SeriesMaker) -> None:
    assert refusal(make_ct(leave_out=[4])) == (
        RejectReason.MISSING_SLICES,
        "1 slice is missing, at -193.2 mm",
    )


def test_many_missing_slices_are_counted(make_ct: SeriesMaker) -> None:
    reason, message = refusal(make_ct(leave_out=range(10, 22), slices=40))
    assert reason is RejectReason.MISSING_SLICES
    assert message.startswith("12 slices are missing")
    assert message.endswith("and 4 more mm")


def test_too_few_slices(make_ct: SeriesMaker) -> None:
    assert refusal(make_ct(slices=19)) == (
        RejectReason.TOO_FEW_SLICES,
        "19 slices, at least 20 are needed",
    )
    single = EligibilityRules(minimum_slices=1)
    assert refusal(make_ct(slices=1), single)[0] is RejectReason.TOO_FEW_SLICES


def test_a_tilt_in_the_header_alone_is_no_reason(make_ct: SeriesMaker) -> None:
    """Scanners resample tilted acquisitions to a right-angled grid and keep the element."""
    volume = load(make_ct(every(GantryDetectorTilt=12)), LoadingPolicy())
    assert volume.geometry.shape[0] == SLICES


def test_positions_rounded_by_the_scanner_are_no_reason(make_ct: SeriesMaker) -> None:
    rounded = moved(lambda i, p: [p[0], p[1], p[2] + (0.1, -0.1, 0.05)[i % 3]])
    assert load(make_ct(rounded), LoadingPolicy()).geometry.slice_spacing == pytest.approx(
        2.5, abs=0.01
    )


def test_two_patients_under_one_series_uid(make_ct: SeriesMaker) -> None:
    series = make_ct(lambda i, one: setattr(one, "PatientName", ("Tiny^Series", "Tiny")[i % 2]))
    assert refusal(series)[0] is RejectReason.MIXED_PATIENTS


def test_two_studies_under_one_series_uid(make_ct: SeriesMaker) -> None:
    series = make_ct()
    first, *rest = series.instances
    mixed = replace(series, instances=(replace(first, study_uid=derive_uid("other")), *rest))
    assert refusal(mixed)[0] is RejectReason.MIXED_STUDIES


def test_a_file_that_is_not_dicom_any_more(make_ct: SeriesMaker) -> None:
    series = make_ct()
    series.instances[5].path.write_bytes(b"not DICOM")
    assert refusal(series)[0] is RejectReason.BAD_PIXELS


def test_a_file_that_is_gone_is_no_reason_to_refuse(make_ct: SeriesMaker) -> None:
    series = make_ct()
    series.instances[5].path.unlink()
    with pytest.raises(InputUnavailable) as caught:
        load(series, LoadingPolicy())
    assert caught.value.images == (series.instances[5].sop_instance_uid,)


def test_a_second_stack_is_never_set_aside(make_ct: SeriesMaker) -> None:
    """Four images across are no localizers: half of the series must not be left out silently."""
    others = []
    for index in range(4):
        other = ct_slice(100 + index, stored_values()[index])
        other.ImageOrientationPatient = FRONTAL
        others.append(other)
    assert refusal(make_ct(extra=others))[0] is RejectReason.MIXED_GEOMETRY


def test_frames_without_a_description_are_not_left_out(make_ct: SeriesMaker) -> None:
    enhanced = enhanced_ct(stored_values())
    del enhanced.PerFrameFunctionalGroupsSequence[-1]
    assert refusal(make_ct.write([enhanced])) == (
        RejectReason.BAD_GEOMETRY,
        "Number of Frames is 24, but the functional groups describe 23 frames",
    )


def test_a_projection_among_enhanced_frames(make_ct: SeriesMaker) -> None:
    enhanced = enhanced_ct(stored_values())
    frame_type = enhanced.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0]
    frame_type.FrameType = ["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"]
    assert refusal(make_ct.write([enhanced]))[0] is RejectReason.DERIVED


def test_the_kernel_of_enhanced_frames_is_seen(make_ct: SeriesMaker) -> None:
    enhanced = enhanced_ct(stored_values())
    kernel = Dataset()
    kernel.ConvolutionKernel = "B30f"
    enhanced.SharedFunctionalGroupsSequence[0].CTReconstructionSequence = [kernel]
    rules = EligibilityRules(kernel_exclude=("^B[1-3]",))
    assert refusal(make_ct.write([enhanced]), rules)[0] is RejectReason.EXCLUDED_BY_RULE


HOSTILE = [
    b"",
    b"abc ",
    b"nan\\0\\0 ",
    b"1\\nan\\0\\0\\1\\0",
    b"1e999 ",
    b"\x01\x02\x03",
    b"\xff" * 70,
]
ELEMENTS = [
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "SamplesPerPixel",
    "Modality",
    "FrameOfReferenceUID",
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("keyword", ELEMENTS)
def test_nonsense_in_one_header_is_refused_and_never_crashes(
    make_ct: SeriesMaker, keyword: str
) -> None:
    """A NaN or a text where a number belongs must neither pass nor raise anything else."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    series = make_ct(slices=21)
    path = series.instances[7].path
    dataset = pydicom.dcmread(path)
    for value in HOSTILE:
        if keyword == "RescaleType" and not value:
            continue  # empty is as good as missing there
        dataset._dict[tag] = RawDataElement(
            tag,
            dictionary_VR(tag),
            len(value),
            value,
            0,
            is_implicit_VR=False,
            is_little_endian=True,
        )
        dataset.save_as(path)
        assert refusal(series)[0], (keyword, value)


def test_volumes_are_read_only(make_ct: SeriesMaker) -> None:
    volume = load(make_ct(), LoadingPolicy())
    with pytest.raises(ValueError, match="read-only"):
        volume.hu[0, 0, 0] = 1
    assert volume.hu.dtype == np.int16


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one(4, PixelSpacing=""), "Pixel Spacing is missing or empty"),
        (one(4, Modality="MR"), "Modality is MR"),
        (one(4, Rows=20), "40x34 and 20x34"),
        (one(4, PixelSpacing=[1.5, 0.8]), "most have 1.5 x 0.75 mm, this slice has 1.5 x 0.8 mm"),
        (
            one(4, ImageOrientationPatient=[0.9998, 0.02, 0, -0.02, 0.9998, 0]),
            "turned by 1.1 degrees",
        ),
        (one(0, Rows=20), "40x34 and 20x34"),
    ],
)
def test_a_refusal_for_one_image_names_it_and_the_count(
    make_ct: SeriesMaker, change: Change, said: str
) -> None:
    series = make_ct(change)
    _, message = refusal(series)
    assert message.startswith("1 of 24 images: ")
    assert any(one.sop_instance_uid in message for one in series.instances)
    assert said in message


def written(keyword: str, value: bytes) -> Change:
    """Return a change of every slice to a value as it stands."""

    def change(_: int, dataset: Dataset) -> None:
        tag = Tag(tag_for_keyword(keyword))
        vr = dictionary_VR(tag)
        dataset._dict[tag] = RawDataElement(
            tag, vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
        )

    return change


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        (
            "ImagePositionPatient",
            b"1,5\\2,5\\3,5 ",
            r'Image Position (Patient) is "1,5\2,5\3,5", 3 numbers',
        ),
        ("ImagePositionPatient", b"", "Image Position (Patient) is missing or empty, 3 numbers"),
        ("ImageOrientationPatient", b"1\\0\\0 ", r'(Patient) is "1\0\0", 6 numbers'),
        ("PixelSpacing", b"0,7\\0,7 ", r'Pixel Spacing is "0,7\0,7", 2 numbers'),
        ("RescaleSlope", b"1,0 ", 'Rescale Slope is "1,0", Rescale Intercept is "-1024'),
        ("RescaleIntercept", b"\x1b[2J ", r'Rescale Intercept is "\x1b[2J"'),
        ("FrameOfReferenceUID", b"1.2." + b"3" * 62, "(66 characters): a UID has at most 64"),
        ("FrameOfReferenceUID", b"1.2.ABC ", '"1.2.ABC"'),
        ("ImageOrientationPatient", b"0.998\\0\\0\\0\\0.998\\0 ", "length is 0.998, not 1"),
    ],
)
def test_a_value_that_cannot_be_used_is_quoted(
    make_ct: SeriesMaker, keyword: str, value: bytes, said: str
) -> None:
    _, message = refusal(make_ct(written(keyword, value)))
    assert said in message


@pytest.mark.parametrize(
    ("apart", "reason"),
    [
        (0.0, RejectReason.DUPLICATE_POSITIONS),
        (1.1, RejectReason.VARIABLE_SPACING),
        (STEP / 2, RejectReason.SEVERAL_VOLUMES),
    ],
)
def test_two_acquisitions_of_one_region_are_refused_and_named(
    make_ct: SeriesMaker, apart: float, reason: RejectReason
) -> None:
    def change(index: int, dataset: Dataset) -> None:
        dataset.AcquisitionNumber = 1 + index % 2
        shift = apart if index % 2 else 0.0
        dataset.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + STEP * (index // 2) + shift]

    found, message = refusal(make_ct(change, slices=48))
    assert found is reason
    assert "2 acquisitions (Acquisition Number 1: 24 images, 2: 24 images)" in message


@pytest.mark.parametrize("images", [1, 2, 24])
def test_acquisitions_one_after_the_other_are_one_volume(make_ct: SeriesMaker, images: int) -> None:
    def change(index: int, dataset: Dataset) -> None:
        dataset.AcquisitionNumber = 1 + index // images

    assert load(make_ct(change, slices=48), LoadingPolicy()).geometry.shape[0] == 48


def test_direction_cosines_of_few_decimals_become_unit_vectors(make_ct: SeriesMaker) -> None:
    cut = every(ImageOrientationPatient=[0.9995, 0, 0, 0, 0.9995, 0])
    geometry = load(make_ct(cut), LoadingPolicy()).geometry
    assert geometry.row_cosines == (1.0, 0.0, 0.0)
    assert geometry.column_cosines == (0.0, 1.0, 0.0)


def test_directions_a_little_askew_become_right_angled(make_ct: SeriesMaker) -> None:
    askew = every(ImageOrientationPatient=[1, 0.0005, 0, 0.0004, 1, 0])
    geometry = load(make_ct(askew), LoadingPolicy()).geometry
    assert abs(np.dot(geometry.row_cosines, geometry.column_cosines)) < 1e-6


def _uid_of(number: str) -> str:
    return derive_uid(f"slice {number}")


def _leaning(index: int, dataset: Dataset) -> None:
    cosine, sine = 0.9848077530122, 0.17364817766693
    dataset.ImageOrientationPatient = [1, 0, 0, 0, cosine, sine]
    dataset.ImagePositionPatient = [0, -2.5 * index * sine, 2.5 * index * cosine]


NAMED: list[tuple[str, Change, tuple[str, ...]]] = [
    (
        "another patient",
        one(6, PatientID="OTHER"),
        ("1 of 24 images: {6}", "2 different patients under one Series Instance UID"),
    ),
    (
        "another frame of reference",
        one(6, FrameOfReferenceUID="1.2.9"),
        (
            "1 of 24 images: {6}",
            "2 different values of Frame of Reference UID",
            "this image has 1.2.9",
        ),
    ),
    (
        "a projection",
        one(6, ImageType=["DERIVED", "SECONDARY", "MIP"]),
        ("1 of 24 images: {6}", r"Image Type is DERIVED\SECONDARY\MIP"),
    ),
    (
        "a thick one",
        one(6, SliceThickness=7.5),
        ("1 of 24 images: {6}", "7.5 mm", "at most 5 mm"),
    ),
    ("all are thick", every(SliceThickness=7.5), ("up to 7.5 mm", "at most 5 mm")),
    (
        "another body part",
        every(BodyPartExamined="KNEE"),
        ("is KNEE", "CHEST, THORAX, LUNG"),
    ),
    (
        "one aside",
        moved(lambda i, p: [p[0] + (6 if i == 11 else 0), p[1], p[2]]),
        (
            "1 of 24 images: {11}",
            "a slice is shifted sideways by 6.0 mm",
            "at most a pixel (1.5 mm)",
        ),
    ),
    (
        "sheared",
        moved(lambda i, p: [p[0], p[1] + 0.8 * i, p[2]]),
        ("the 24 slices", "17.7 degrees", "at most 0.5"),
    ),
    (
        "a step",
        moved(lambda i, p: [p[0], p[1], p[2] + (0.4 if i > 9 else 0)]),
        ("2.90 mm after -180.8 mm", "1 of 23 distances", "more than 0.25 mm"),
    ),
    (
        "two spacings",
        moved(lambda i, p: [p[0], p[1], 2.5 * i + 0.2 * max(0, i - 12)]),
        ("2.50 to 2.70 mm apart", "drift", "at most 0.6 mm"),
    ),
    (
        "leaning",
        _leaning,
        ("10.0 degrees", "at most 5"),
    ),
    (
        "degenerate",
        every(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        ("Image Orientation (Patient)", "(1, 0, 0) and (1, 0, 0)"),
    ),
    (
        "no directions",
        one(6, ImageOrientationPatient=[30, 0, 0, 0, 1, 0]),
        ("1 of 24 images: {6}", "holds 30", "at most 1"),
    ),
    ("far away", one(6, ImagePositionPatient=[0, 0, 1e6]), ("{6}", "1e+06 mm", "at most 100000")),
    ("no rows", every(Rows=0), ("24 of 24 images: ", "0 and")),
    ("no spacing", one(2, PixelSpacing=None), ("1 of 24 images: {2}", "Pixel Spacing is ")),
    (
        "slope",
        one(6, RescaleSlope=0),
        ("1 of 24 images: {6}", "a slope of 1e-06 to"),
    ),
    ("colour", one(6, SamplesPerPixel=3), ("{6}", "Samples per Pixel is 3, Bits Allocated is 16")),
    ("32 bits", one(6, BitsAllocated=32), ("{6}", "Samples per Pixel is 1, Bits Allocated is 32")),
    ("bits stored", one(6, BitsStored=17), ("{6}", "Bits Stored is 17", "with 16 Bits Allocated")),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("change", "words"), [case[1:] for case in NAMED], ids=[case[0] for case in NAMED]
)
def test_a_refusal_names_image_count_value_and_limit(
    make_ct: SeriesMaker, change: Change, words: tuple[str, ...]
) -> None:
    _, message = refusal(make_ct(change))
    for said in words:
        assert re.sub(r"\{(\d+)\}", lambda found: _uid_of(found[1]), said) in message
    assert "Tiny" not in message


def test_another_study_is_named(make_ct: SeriesMaker) -> None:
    series = make_ct()
    first, *rest = series.instances
    mixed = replace(series, instances=(replace(first, study_uid=derive_uid("other")), *rest))
    assert refusal(mixed) == (
        RejectReason.MIXED_STUDIES,
        (
            f"1 of 24 images: {first.sop_instance_uid}: 2 different studies under one Series "
            f"Instance UID, most images belong to {rest[0].study_uid}, "
            f"this image to {derive_uid('other')}"
        ),
    )
