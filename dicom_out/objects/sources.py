"""The source images as the writers need them, and what the results take over unchanged."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import format_number_as_ds

from chestct.errors import InputUnavailable, ResultInvalid
from chestct.series import Series
from chestct.uids import derive_uid
from chestct.volume import SliceSource, Volume

TAKEN_OVER = (
    "SpecificCharacterSet",
    # Patient (PS3.3 C.7.1.1)
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "EthnicGroup",
    "PatientComments",
    # General Study and Patient Study (PS3.3 C.7.2)
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
_EMPTY_ALLOWED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Type 2: present in a result even where the source lacks them."""
_DECIMAL = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")
"""A Decimal String (DS, PS3.5 section 6.2)."""
_TEXT_CODECS = ("ascii", "utf-8", "iso8859", "cp125", "gb", "shift_jis", "euc")
"""How the names of those codecs begin whose names some write as a Specific Character Set."""
_CODE_STRING = re.compile(rb"[A-Z0-9 _]{1,16}\Z")
_DECIMALS = 6
"""Of a position in mm: what lies beyond is what floats make of a sum."""
_OPTIONAL = {
    "PatientAge": re.compile(rb"\d{3}[DWMY]\Z"),
    "PatientSize": _DECIMAL,
    "PatientWeight": _DECIMAL,
    "PatientBirthTime": re.compile(rb"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?\Z"),
}
"""Type 3, with the form of a value: what has another ("1,80") is left out of a result. It names
nobody, and would make the result invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The source images of a result.

    Attributes:
        images: One data set per source instance, in the order of the slices: the UIDs under which
            it is referenced, and the geometry and the numbers of the volume. Nothing else of its
            header is in it, so that no header, however odd, can stand in the way of a result.
        stack: The same images as highdicom takes them: ``images`` where they have one frame
            each, else one multi-frame image of the frames of all of them, in slice order, whose
            UID is none that was received.
        slices: Where each slice of the volume was read from.
        original: The header of one source instance, untouched.
    """

    images: tuple[Dataset, ...]
    stack: tuple[Dataset, ...]
    slices: tuple[SliceSource, ...]
    original: Dataset

    @property
    def multi_frame(self) -> bool:
        """Whether slices are frames of multi-frame images."""
        return self.slices[0].frame_number is not None

    def slices_of(self, sop_instance_uid: str) -> list[tuple[int, int]]:
        """Return (slice, frame number) of every frame of a multi-frame image that was analysed."""
        return [
            (index, place.frame_number)
            for index, place in enumerate(self.slices)
            if place.sop_instance_uid == sop_instance_uid and place.frame_number is not None
        ]

    def frames_used(self, image: Dataset) -> list[int] | None:
        """Return the frames of an image that were analysed; None where all of it was.

        So Referenced Frame Number is to be written (PS3.3 table 10-3).
        """
        if not self.multi_frame:
            return None
        used = [frame for _, frame in self.slices_of(str(image.SOPInstanceUID))]
        return None if len(used) == image.NumberOfFrames else sorted(used)


def read_sources(series: Series, volume: Volume) -> Sources:
    """Return the images that the volume was made of.

    Raises:
        InputUnavailable: A source image is gone or cannot be read now.
        ResultInvalid: The volume mixes single-frame and multi-frame images.
    """
    kinds = {source.frame_number is None for source in volume.sources}
    if len(kinds) > 1:
        raise ResultInvalid("a volume of single-frame and multi-frame images")
    paths = {instance.sop_instance_uid: instance.path for instance in series.instances}
    first = volume.sources[0].sop_instance_uid
    try:
        original = pydicom.dcmread(paths[first], stop_before_pixels=True)
    except OSError as error:
        raise InputUnavailable.because_of(error, first) from error
    common = _common(series, volume, original)
    if kinds == {True}:
        images = tuple(_slice(common, volume, index) for index in range(len(volume.sources)))
        return Sources(images=images, stack=images, slices=volume.sources, original=original)
    return Sources(
        images=tuple(_multi_frame(common, members) for members in _instances(volume)),
        stack=(_joined(common, volume),),
        slices=volume.sources,
        original=original,
    )


def _common(series: Series, volume: Volume, original: Dataset) -> Dataset:
    """Return what all images have in common.

    The patient is left empty: highdicom (0.28) raises without Patient's Birth Date and with many
    a Specific Character Set. :func:`take_over` writes both as they came.
    """
    image = Dataset()
    for keyword in _EMPTY_ALLOWED:
        setattr(image, keyword, "")
    image.StudyInstanceUID = series.instances[0].study_uid
    image.SeriesInstanceUID = volume.series_uid
    image.FrameOfReferenceUID = volume.frame_of_reference_uid
    image.PositionReferenceIndicator = _ascii(original, "PositionReferenceIndicator")
    image.Modality = "CT"
    image.Rows, image.Columns = volume.geometry.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    _say_how_lossy(image, original)
    return image


def _say_how_lossy(image: Dataset, original: Dataset) -> None:
    """Hand on whether the source was compressed with loss, where it says so in the right form."""
    stated = _ascii(original, "LossyImageCompression")
    if stated not in {"00", "01"}:
        return
    image.LossyImageCompression = stated
    for keyword, form in (
        ("LossyImageCompressionRatio", _DECIMAL),
        ("LossyImageCompressionMethod", _CODE_STRING),
    ):
        values = [one.strip() for one in _ascii(original, keyword).split("\\")]
        if all(form.match(one.encode()) for one in values):
            setattr(image, keyword, values)


def _slice(common: Dataset, volume: Volume, index: int) -> Dataset:
    """Return the single-frame image of one slice."""
    source = volume.sources[index]
    image = Dataset()
    image.update(common)
    image.SOPClassUID = source.sop_class_uid
    image.SOPInstanceUID = source.sop_instance_uid
    image.update(_measures(volume))
    image.update(_orientation(volume))
    image.update(_position(volume, index))
    image.update(_rescale([source]))
    return image


def _instances(volume: Volume) -> list[list[SliceSource]]:
    """Return the frames that were analysed of each multi-frame instance, in slice order."""
    members: dict[str, list[SliceSource]] = {}
    for source in volume.sources:
        members.setdefault(source.sop_instance_uid, []).append(source)
    return list(members.values())


def _multi_frame(common: Dataset, members: Sequence[SliceSource]) -> Dataset:
    """Return a received multi-frame image: what is referenced, and how its values are rescaled."""
    first = members[0]
    image = Dataset()
    image.update(common)
    image.SOPClassUID = first.sop_class_uid
    image.SOPInstanceUID = first.sop_instance_uid
    image.NumberOfFrames = first.frame_count or max(one.frame_number or 1 for one in members)
    shared = Dataset()
    rescale = _rescale(members)
    if len(rescale):
        shared.PixelValueTransformationSequence = [rescale]
    image.SharedFunctionalGroupsSequence = [shared]
    return image


def _joined(common: Dataset, volume: Volume) -> Dataset:
    """Return the frames of all multi-frame images as those of one, in slice order.

    highdicom (0.28) takes one multi-frame image at most, every frame of it, with pixel measures
    and orientation shared.
    """
    joint = Dataset()
    joint.update(common)
    uids = dict.fromkeys(source.sop_instance_uid for source in volume.sources)
    joint.SOPClassUID = volume.sources[0].sop_class_uid
    joint.SOPInstanceUID = derive_uid("joined", *uids)
    joint.NumberOfFrames = len(volume.sources)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_measures(volume)]
    shared.PlaneOrientationSequence = [_orientation(volume)]
    joint.SharedFunctionalGroupsSequence = [shared]
    joint.PerFrameFunctionalGroupsSequence = []
    for index in range(len(volume.sources)):
        groups = Dataset()
        groups.PlanePositionSequence = [_position(volume, index)]
        joint.PerFrameFunctionalGroupsSequence.append(groups)
    return joint


def _measures(volume: Volume) -> Dataset:
    item = Dataset()
    item.PixelSpacing = [_decimal(one) for one in volume.geometry.pixel_spacing]
    item.SliceThickness = _decimal(volume.thickness_mm or volume.geometry.slice_spacing)
    return item


def _orientation(volume: Volume) -> Dataset:
    item = Dataset()
    geometry = volume.geometry
    cosines = (*geometry.row_cosines, *geometry.column_cosines)
    item.ImageOrientationPatient = [_decimal(one) for one in cosines]
    return item


def _position(volume: Volume, index: int) -> Dataset:
    item = Dataset()
    place = volume.geometry.slice_position(index)
    item.ImagePositionPatient = [_decimal(round(one, _DECIMALS)) for one in place]
    return item


def _rescale(members: Sequence[SliceSource]) -> Dataset:
    """Return how stored values become HU; empty where it is not known or not always the same."""
    item = Dataset()
    found = {one.rescale for one in members}
    (rescale,) = found if len(found) == 1 else (None,)
    if rescale is not None:
        item.RescaleSlope, item.RescaleIntercept = map(_decimal, rescale)
        item.RescaleType = "HU"
    return item


def _decimal(value: float) -> str:
    """Return a number as a Decimal String: 16 characters at most, no negative zero."""
    return format_number_as_ds(float(value) + 0.0)


def _ascii(dataset: Dataset, keyword: str) -> str:
    """Return a value with a question mark for what is not ASCII."""
    text = (raw_value(dataset, keyword) or b"").decode("ascii", "replace")
    return text.replace("\N{REPLACEMENT CHARACTER}", "?").strip(" \0")


def raw_value(dataset: Dataset, keyword: str) -> bytes | None:
    """Return the encoded value of an element; None where there is none.

    pydicom decodes nothing before it is asked for, but Specific Character Set itself.
    """
    tag: BaseTag = Tag(keyword)
    if tag not in dataset:
        return None
    element: Any = dataset.get_item(tag)
    value = element.value
    if isinstance(value, bytes | None):
        return value or b""
    parts = [value] if isinstance(value, str) else list(value)
    return "\\".join(str(part) for part in parts).encode("latin-1", "replace")


def take_over(original: Dataset, result: Dataset) -> None:
    """Write the patient and the study of the source into a result, byte for byte but for padding.

    Raw elements go over undecoded, so that no character set, however odd, can change them.
    """
    for keyword in TAKEN_OVER:
        tag = Tag(keyword)
        value = _taken_over(original, keyword)
        if value is not None:
            value = _padded(value, dictionary_VR(tag))
            result[tag] = RawDataElement(
                tag=tag,
                VR=dictionary_VR(tag),
                length=len(value),
                value=value,
                value_tell=0,
                is_implicit_VR=False,
                is_little_endian=True,
            )
        elif tag in result and keyword not in _EMPTY_ALLOWED:
            del result[tag]
        elif keyword in _EMPTY_ALLOWED:
            setattr(result, keyword, "")


def _taken_over(original: Dataset, keyword: str) -> bytes | None:
    value = raw_value(original, keyword)
    if keyword == "SpecificCharacterSet" and not _says_something(value or b""):
        return None  # must be absent where it says nothing (type 1C)
    form = _OPTIONAL.get(keyword)
    if value and form is not None and not form.match(value.strip(b" \0")):
        return None
    return value


def _says_something(character_set: bytes) -> bool:
    """Tell whether a Specific Character Set holds a term, and none that breaks its readers.

    Readers take what is no defined term (PS3.3 section C.12.1.1.2) for the name of a codec of
    theirs, of which some write no text at all; what names none they pass over.
    """
    terms = [term.strip(b" \0") for term in character_set.split(b"\\")]
    return any(terms) and all(map(_is_harmless, terms))


def _is_harmless(term: bytes) -> bool:
    try:
        codec = codecs.lookup(term.decode("ascii"))
    except (LookupError, ValueError):
        return True
    return codec.name.startswith(_TEXT_CODECS)


def _padded(value: bytes, vr: str) -> bytes:
    """Return a value with the padding of its VR and no other (PS3.5 section 6.2)."""
    padding = b"\0" if vr == "UI" else b" "
    value = value.rstrip(b"\0 " if vr == "UI" else b"\0")
    return value + padding * (len(value) % 2)


def same_patient_and_study(original: Dataset, result: Dataset) -> bool:
    """Tell whether a result that was read back names the patient and study of the source."""
    for keyword in TAKEN_OVER:
        before, after = _taken_over(original, keyword), raw_value(result, keyword)
        if (before or b"").rstrip(b"\0 ") != (after or b"").rstrip(b"\0 "):
            return False
    return True
