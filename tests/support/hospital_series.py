"""Series as hospitals really send them: small changes that no reader of the images would see.

Each takes the data sets of a good axial series, feet first, and returns those that are sent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from chestct.uids import derive_uid

Slices = list[Dataset]
Change = Callable[[Slices], Slices]


@dataclass(frozen=True, slots=True)
class Habit:
    """One way in which a series differs from the textbook.

    ``aside``: so many images, the last ones, are no part of it. ``verbatim``: what a validator
    says of a value that results take over as it stands, whatever it is. ``invalid``: results say
    that they leave a value out.
    """

    name: str
    change: Change
    aside: int = 0
    verbatim: str = ""
    invalid: bool = False


def put(dataset: Dataset, keyword: str, value: bytes) -> None:
    """Store ``value`` as it stands, whatever the standard says of it."""
    tag = Tag(tag_for_keyword(keyword))
    vr = {"US or SS": "US"}.get(dictionary_VR(tag), dictionary_VR(tag))
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    dataset._dict[tag] = _raw(tag, vr, value)


def _raw(tag: BaseTag, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(
        tag, vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
    )


def habits() -> list[Habit]:
    """Return every habit."""
    return [
        Habit("leading zeros in UIDs", _leading_zeros, verbatim="Leading zeroes in embedded"),
        *(_each(f"{keyword} empty", keyword, b"") for keyword in _MAY_BE_EMPTY),
        *(
            replace(
                _each(f"{keyword} {value.decode()}", keyword, value), invalid=keyword in _CARRIED
            )
            for keyword, value in _NOT_NEEDED.items()
        ),
        Habit("orientation differs by 1e-4", _turned),
        Habit("orientation of three decimals", _coarse_orientation),
        *(Habit(f"names {one} and {other}", _named(one, other)) for one, other in _ONE_NAME),
        *(
            Habit(f"{keyword} {one!r} and {other!r}", _alternating(keyword, one, other))
            for keyword, one, other in _ONE_VALUE
        ),
    ]


def set_aside() -> list[Habit]:
    """Return those habits in which images are sent that are none of the stack."""
    return []


def with_strangers() -> list[Habit]:
    """Return those habits in which the last images are none of the stack."""
    return [
        Habit("a screenshot among the slices", lambda one: [*one, _screenshot(one)], 1),
        Habit("a screenshot in its own matrix", lambda one: [*one, _small_screenshot(one)], 1),
        Habit("a screenshot in colour", lambda one: [*one, _colour_screenshot(one)], 1),
        Habit("a dose report in another frame", lambda one: [*one, _elsewhere(one)], 1),
        Habit("a page without position", lambda one: [*one, _page(one)], 1),
        Habit("a page with an empty position", lambda one: [*one, _empty_page(one)], 1),
        Habit("a page and a screenshot", lambda one: [*one, _page(one), _screenshot(one)], 2),
    ]


_MAY_BE_EMPTY = (
    "NumberOfFrames",
    "SliceThickness",
    "GantryDetectorTilt",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleType",
    "ImageType",
    "BodyPartExamined",
    "ConvolutionKernel",
    "KVP",
    "SeriesNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "WindowCenter",
    "WindowWidth",
    "Laterality",
    "PositionReferenceIndicator",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "SpacingBetweenSlices",
    "TimezoneOffsetFromUTC",
    "SpecificCharacterSet",
    "PatientAge",
    "PatientSize",
    "NumberOfSeriesRelatedInstances",
    "ConcatenationUID",
    "StackID",
)
_NOT_NEEDED = {
    "SliceThickness": b"5,00",
    "SpacingBetweenSlices": b"5,00",
    "GantryDetectorTilt": b"0,0",
    "SliceLocation": b"N/A",
    "KVP": b"120 kV",
    "PatientSize": b"1,80",
    "PatientWeight": b"70,5",
    "PatientAge": b"65",
    "InstanceNumber": b"1.0",
    "SeriesNumber": b"abc",
    "AcquisitionNumber": b"1/2",
    "WindowCenter": b"-600,0",
    "NumberOfFrames": b"N/A",
    "LossyImageCompression": b"NO",
    "LossyImageCompressionRatio": b"10,5",
    "TimezoneOffsetFromUTC": b"CET",
    "ContentTime": b"10:16:00.5.1",
    "NumberOfSeriesRelatedInstances": b"many",
}
_CARRIED = frozenset(
    {
        "PatientSize",
        "PatientWeight",
        "PatientAge",
        "LossyImageCompression",
        "LossyImageCompressionRatio",
        "TimezoneOffsetFromUTC",
    }
)
_ONE_NAME = (
    (b"DOE^JANE", b"DOE^JANE^^^"),
    (b"DOE^JANE", b"DOE^JANE="),
    (b"DOE^JANE", b"DOE^JANE^^=^="),
    (b"DOE^JANE", b"DOE^JANE  "),
    (b"DOE^JANE", b"DOE ^ JANE"),
    (b"DOE^JANE", b"DOE^JANE\0\0"),
)
_ONE_VALUE = (
    ("PatientID", b"4711", b" 4711"),
    ("PatientID", b"4711", b"4711 \0"),
    ("IssuerOfPatientID", b"HOSPITAL", b" HOSPITAL "),
    ("StudyInstanceUID", b"1.2.3.4", b"1.2.3.4 "),
    ("FrameOfReferenceUID", b"1.2.3.4", b"1.2.3.4 "),
)


def _each(name: str, keyword: str, value: bytes) -> Habit:
    def change(slices: Slices) -> Slices:
        for one in slices:
            put(one, keyword, value)
        return slices

    return Habit(name, change)


def _leading_zeros(slices: Slices) -> Slices:
    for number, one in enumerate(slices):
        uid = f"1.2.392.200036.9116.2.5.1.48.0{number:03d}"
        put(one, "SOPInstanceUID", uid.encode())
        put(one, "SeriesInstanceUID", b"1.2.392.200036.9116.2.5.1.048")
        put(one, "StudyInstanceUID", b"1.2.392.200036.9116.2.5.1.0")
        put(one, "FrameOfReferenceUID", b"1.2.392.200036.9116.2.5.1.007")
        one.file_meta._dict[Tag("MediaStorageSOPInstanceUID")] = _raw(
            Tag("MediaStorageSOPInstanceUID"), "UI", uid.encode()
        )
    return slices


def _turned(slices: Slices) -> Slices:
    for number, one in enumerate(slices):
        turn = 1e-4 * ((number % 3) - 1)
        put(one, "ImageOrientationPatient", f"1\\{turn:.7f}\\0\\{-turn:.7f}\\1\\0".encode())
    return slices


def _coarse_orientation(slices: Slices) -> Slices:
    """Write 2.5 degrees about the axis with three decimals: no unit vector to six."""
    for one in slices:
        put(one, "ImageOrientationPatient", b"0.999\\0.044\\0\\-0.044\\0.999\\0")
    return slices


def _named(one: bytes, other: bytes) -> Change:
    return _alternating("PatientName", one, other)


def _alternating(keyword: str, one: bytes, other: bytes) -> Change:
    def change(slices: Slices) -> Slices:
        for number, dataset in enumerate(slices):
            put(dataset, keyword, one if number % 2 else other)
        return slices

    return change


def _copy(slices: Slices, name: str) -> Dataset:
    made = copy.deepcopy(slices[0])
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = derive_uid(name)
    return made


def _screenshot(slices: Slices) -> Dataset:
    shot = _copy(slices, "screenshot")
    shot.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    shot.ImageOrientationPatient, shot.PixelSpacing = [1, 0, 0, 0, 0, -1], [1.3, 1.3]
    return shot


def _small_screenshot(slices: Slices) -> Dataset:
    shot = _copy(slices, "small")
    shot.ImageType = ["DERIVED", "SECONDARY"]
    shot.Rows, shot.Columns = 8, 8
    shot.PixelData = bytes(128)
    return shot


def _colour_screenshot(slices: Slices) -> Dataset:
    shot = _copy(slices, "colour")
    shot.ImageType = ["DERIVED", "SECONDARY"]
    shot.SamplesPerPixel, shot.PhotometricInterpretation = 3, "RGB"
    shot.PlanarConfiguration = 0
    shot.BitsAllocated, shot.BitsStored, shot.HighBit = 8, 8, 7
    shot.PixelData = np.zeros((shot.Rows, shot.Columns, 3), np.uint8).tobytes()
    shot["PixelData"].VR = "OB"
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        delattr(shot, keyword)
    return shot


def _elsewhere(slices: Slices) -> Dataset:
    page = _copy(slices, "dose report")
    page.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    page.FrameOfReferenceUID = derive_uid("elsewhere")
    return page


def _page(slices: Slices) -> Dataset:
    page = _copy(slices, "page")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation"):
        if keyword in page:
            delattr(page, keyword)
    return page


def _empty_page(slices: Slices) -> Dataset:
    page = _copy(slices, "empty page")
    put(page, "ImagePositionPatient", b"")
    put(page, "ImageOrientationPatient", b"")
    return page
