"""When a series was taken, of whom, and how: what a later study is compared by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicom_out.objects.raw import latin_value

_PLACES = (
    ("AcquisitionDateTime", ""),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
"""Date and time of the images, the nearest to them first (PS3.3 C.7.6.16.2.2, C.7.3.1, C.7.2.1)."""
_DATE = re.compile(r"\d{8}(\d{2}(\d{2}(\d{2})?)?)?")
_DAY = 8
_TAGS = [
    "SpecificCharacterSet",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "ConvolutionKernel",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *(keyword for place in _PLACES for keyword in place if keyword),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """What the header of an image says.

    Attributes:
        acquired: Local time of the scanner; midnight without ``has_time``.
        is_identified: Whether it has a Patient ID.
        birth_date, sex: As they stand there, or empty.
    """

    acquired: datetime
    has_time: bool
    is_identified: bool
    birth_date: str
    sex: str
    kernel: str


def read_acquisition(path: Path) -> Acquisition | None:
    """Read the header at ``path``; None when it has no date that can be read.

    Raises:
        OSError: The file is gone.
    """
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    found = _acquired(header)
    if found is None:
        return None
    acquired, has_time = found
    return Acquisition(
        acquired=acquired,
        has_time=has_time,
        is_identified=bool(latin_value(header, "PatientID")),
        birth_date=latin_value(header, "PatientBirthDate"),
        sex=latin_value(header, "PatientSex"),
        kernel=latin_value(header, "ConvolutionKernel") or _kernel_of_frames(header),
    )


def read_study_time(header: Dataset) -> tuple[datetime, bool] | None:
    """Return Study Date and Time, and whether there is a time; None without a readable date.

    It is all that a report keeps of when its images were taken.
    """
    return _read(header, "StudyDate", "StudyTime")


def _kernel_of_frames(header: Dataset) -> str:
    """Return the kernel of the first frame of a multi-frame image (PS3.3 C.8.15.3.7)."""
    if "PerFrameFunctionalGroupsSequence" not in header:
        return ""
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        try:
            (first, *_) = header[keyword].value
            (reconstruction, *_) = first["CTReconstructionSequence"].value
        except (KeyError, ValueError, TypeError):  # it need not say
            continue
        return latin_value(reconstruction, "ConvolutionKernel")
    return ""


def _acquired(header: Dataset) -> tuple[datetime, bool] | None:
    """Return the first place with date and time, or else the first with a date."""
    found = [place for date, time in _PLACES if (place := _read(header, date, time)) is not None]
    return next((place for place in found if place[1]), found[0] if found else None)


def _read(header: Dataset, date: str, time: str) -> tuple[datetime, bool] | None:
    """Return a date, and whether it has a time; None when it cannot be read."""
    text = latin_value(header, date).split(".")[0]
    if time:
        text = text[:_DAY] + latin_value(header, time).split(".")[0]
    digits = _DATE.match(text)
    if digits is None:
        return None
    try:
        at = datetime.strptime(digits[0].ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - local to the scanner, as the header has it
    except ValueError:
        return None
    return at, len(digits[0]) > _DAY
