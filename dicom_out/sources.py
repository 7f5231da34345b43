"""The source images as the writers need them, and what the results take over unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from chestct.errors import ResultInvalid
from chestct.series import Series
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
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "DimensionOrganizationType",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The source images of a result.

    Attributes:
        images: One data set per source instance without pixel data and without patient: in
            slice order for single-frame images, one for an Enhanced CT.
        frames: For each slice of the volume, its index among the frames of ``images``.
        original: The header of one source instance, untouched.
    """

    images: tuple[Dataset, ...]
    frames: tuple[int, ...]
    original: Dataset


def read_sources(series: Series, volume: Volume) -> Sources:
    """Read the headers of the images that the volume was made of.

    Raises:
        ResultInvalid: A source image is gone, or the volume mixes multi-frame instances.
    """
    paths = {instance.sop_instance_uid: instance.path for instance in series.instances}
    ordered = list(dict.fromkeys(source.sop_instance_uid for source in volume.sources))
    try:
        headers = [
            pydicom.dcmread(paths[uid], stop_before_pixels=True, specific_tags=list(_NEEDED))
            for uid in ordered
        ]
        original = pydicom.dcmread(paths[ordered[0]], stop_before_pixels=True)
    except (OSError, KeyError) as error:
        raise ResultInvalid("a source image is not in the spool any more") from error
    return Sources(
        images=tuple(_completed(header, volume) for header in headers),
        frames=_frames(volume.sources),
        original=original,
    )


def _frames(sources: tuple[SliceSource, ...]) -> tuple[int, ...]:
    if sources[0].frame_number is None:
        return tuple(range(len(sources)))
    if len({source.sop_instance_uid for source in sources}) > 1:
        raise ResultInvalid("a series of several multi-frame images is not supported")
    return tuple((source.frame_number or 1) - 1 for source in sources)


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
