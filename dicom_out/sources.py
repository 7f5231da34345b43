"""The source images as the writers need them, and what the results take over unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from chestct.errors import InputUnavailable, ResultInvalid
from chestct.series import Series
from chestct.uids import Uid, derive_uid
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
_NEEDED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Modality",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "InstanceNumber",
    "NumberOfFrames",
    "ImageType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_OF_ONE_IMAGE = frozenset(
    {
        "SOPInstanceUID",
        "NumberOfFrames",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
    }
)
"""What the frames of several images, taken together, do not have from one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The source images of a result.

    Attributes:
        images: One data set per source instance without pixel data and without patient, in the
            order of the slices.
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
        return None if len(used) == int(image.NumberOfFrames) else sorted(used)


def read_sources(series: Series, volume: Volume) -> Sources:
    """Read the headers of the images that the volume was made of.

    Raises:
        InputUnavailable: A source image is gone or cannot be read now.
        ResultInvalid: The volume mixes single-frame and multi-frame images.
    """
    paths = {instance.sop_instance_uid: instance.path for instance in series.instances}
    ordered = list(dict.fromkeys(source.sop_instance_uid for source in volume.sources))
    headers = [_header(uid, paths[uid], specific_tags=list(_NEEDED)) for uid in ordered]
    original = _header(ordered[0], paths[ordered[0]])
    images = tuple(_completed(header, volume) for header in headers)
    kinds = {source.frame_number is None for source in volume.sources}
    if len(kinds) > 1:
        raise ResultInvalid("a volume of single-frame and multi-frame images")
    return Sources(
        images=images,
        stack=images if kinds == {True} else (joined(images, volume),),
        slices=volume.sources,
        original=original,
    )


def _header(uid: Uid, path: Path, **options: Any) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, **options)
    except OSError as error:
        raise InputUnavailable.because_of(error, uid) from error


def joined(images: Sequence[Dataset], volume: Volume) -> Dataset:
    """Return the frames of multi-frame images as those of one, in slice order.

    highdicom (0.28) takes one multi-frame image at most, every frame of it, with pixel measures
    and orientation shared. Those of the first slice stand for all: slices that differ are
    refused before anything is analysed.
    """
    by_uid = {str(image.SOPInstanceUID): image for image in images}
    places = [
        (by_uid[source.sop_instance_uid], (source.frame_number or 1) - 1)
        for source in volume.sources
    ]
    joint = Dataset()
    for element in images[0]:
        if element.keyword not in _OF_ONE_IMAGE:
            joint[element.tag] = element
    joint.SOPInstanceUID = derive_uid("joined", *by_uid)
    joint.NumberOfFrames = len(places)
    measures = deepcopy(functional_group(*places[0], "PixelMeasuresSequence"))
    if not measures.get("SliceThickness"):
        measures.SliceThickness = f"{volume.geometry.slice_spacing:.6g}"
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [functional_group(*places[0], "PlaneOrientationSequence")]
    joint.SharedFunctionalGroupsSequence = [shared]
    joint.PerFrameFunctionalGroupsSequence = [_positioned(*place) for place in places]
    return joint


def _positioned(image: Dataset, frame: int) -> Dataset:
    groups = Dataset()
    groups.PlanePositionSequence = [functional_group(image, frame, "PlanePositionSequence")]
    return groups


def functional_group(image: Dataset, frame: int, keyword: str) -> Dataset:
    """Return the item of a functional group of a frame (from 0), shared or its own."""
    own = image.PerFrameFunctionalGroupsSequence[frame]
    groups = own if own.get(keyword) else image.SharedFunctionalGroupsSequence[0]
    item: Dataset = groups[keyword].value[0]
    return item


def _completed(header: Dataset, volume: Volume) -> Dataset:
    """Return a data set on which highdicom (0.28) does not stumble.

    It raises without Patient's Birth Date and with many a Specific Character Set: empty, with
    an empty first value (Japanese, Korean), or of a writer's own. Neither it nor what the
    patient is called is needed here: :func:`take_over` writes both as they came.
    """
    header.pop("SpecificCharacterSet", None)
    for keyword in _EMPTY_ALLOWED:
        setattr(header, keyword, "")
    header.PatientName = ""
    if not header.get("SliceThickness") and "PixelSpacing" in header:
        header.SliceThickness = f"{volume.geometry.slice_spacing:.6g}"
    if not header.get("LossyImageCompression"):  # highdicom would hand on that it is empty
        header.pop("LossyImageCompression", None)
    if "PositionReferenceIndicator" not in header:
        header.PositionReferenceIndicator = ""
    return header


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
    return "\\".join(str(part) for part in parts).encode("ascii")


def take_over(original: Dataset, result: Dataset) -> None:
    """Write the patient and the study of the source into a result, byte for byte.

    Raw elements go over undecoded, so that no character set, however odd, can change them.
    """
    for keyword in TAKEN_OVER:
        tag = Tag(keyword)
        value = raw_value(original, keyword)
        if value is not None:
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


def same_patient_and_study(original: Dataset, result: Dataset) -> bool:
    """Tell whether a result that was read back names the patient and study of the source."""
    for keyword in TAKEN_OVER:
        before, after = raw_value(original, keyword), raw_value(result, keyword)
        if (before or b"").rstrip(b"\0 ") != (after or b"").rstrip(b"\0 "):
            return False
    return True
