"""Reads when and how a series was acquired, for the comparison with a later study."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicom_out.objects.patient_study import valid_text
from dicom_out.objects.raw import latin_value

_TIMES = (
    ("AcquisitionDateTime", ""),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
"""Dates and times, the closest to the acquisition first (PS3.3 C.7.6.16.2.2, C.7.3.1, C.7.2.1)."""
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
    *(keyword for pair in _TIMES for keyword in pair if keyword),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """The header values that a comparison needs.

    Attributes:
        acquired: Local time of the scanner; midnight if ``has_time`` is false.
        is_identified: Whether the header has a Patient ID.
        birth_date, sex, kernel: The values of the header, or empty; in the form of results.
    """

    acquired: datetime
    has_time: bool
    is_identified: bool
    birth_date: str
    sex: str
    kernel: str


def read_acquisition(path: Path) -> Acquisition | None:
    """Read the header at ``path``; None when it has no valid date.

    Raises:
        OSError: The file cannot be read.
    """
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    time = _acquired(header)
    if time is None:
        return None
    acquired, has_time = time
    return Acquisition(
        acquired=acquired,
        has_time=has_time,
        is_identified=bool(latin_value(header, "PatientID")),
        birth_date=valid_text(header, "PatientBirthDate"),
        sex=valid_text(header, "PatientSex"),
        kernel=latin_value(header, "ConvolutionKernel") or _kernel_of_frames(header),
    )


def read_study_time(header: Dataset) -> datetime | None:
    """Return Study Date and Time, midnight without a valid time; None without a valid date."""
    time = _read(header, "StudyDate", "StudyTime")
    return time[0] if time else None


def _kernel_of_frames(header: Dataset) -> str:
    """Return the kernel of the first frame of a multi-frame image (PS3.3 C.8.15.3.7)."""
    if "PerFrameFunctionalGroupsSequence" not in header:
        return ""
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        try:
            (first, *_) = header[keyword].value
            (reconstruction, *_) = first["CTReconstructionSequence"].value
        except (KeyError, ValueError, TypeError):  # the sequence is optional
            continue
        return latin_value(reconstruction, "ConvolutionKernel")
    return ""


def _acquired(header: Dataset) -> tuple[datetime, bool] | None:
    """Return the first date that has a time, or else the first date."""
    pairs = [pair for date, time in _TIMES if (pair := _read(header, date, time)) is not None]
    return next((pair for pair in pairs if pair[1]), pairs[0] if pairs else None)


def _read(header: Dataset, date: str, time: str) -> tuple[datetime, bool] | None:
    """Return a date, and whether it has a time; None when it is not valid."""
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
