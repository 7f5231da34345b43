"""When a series was taken, of whom, and how: what a later study is compared by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from chestct.uids import digest
from dicom_out.sources import raw_value

_PLACES = (
    ("AcquisitionDateTime", ""),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
"""Date and time of the images, the nearest to them first (PS3.3 C.7.6.16.2.2, C.7.3.1, C.7.2.1)."""
_DATE = re.compile(r"\d{8}(\d{2}(\d{2}(\d{2})?)?)?")
_TAGS = [
    "SpecificCharacterSet",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "ConvolutionKernel",
    *(keyword for place in _PLACES for keyword in place if keyword),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """What the header of an image says.

    Attributes:
        acquired: Local time of the scanner.
        is_identified: Whether it has a Patient ID.
        person: A digest of birth date and sex; empty when one of them is missing.
    """

    acquired: datetime
    is_identified: bool
    person: str
    kernel: str


def read_acquisition(path: Path) -> Acquisition | None:
    """Read the header at ``path``; None when it has no date that can be read.

    Raises:
        OSError: The file is gone.
    """
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    acquired = _acquired(header)
    if acquired is None:
        return None
    birth, sex = _text(header, "PatientBirthDate"), _text(header, "PatientSex")
    return Acquisition(
        acquired=acquired,
        is_identified=bool(_text(header, "PatientID")),
        person=digest((birth, sex)) if birth and sex else "",
        kernel=_text(header, "ConvolutionKernel"),
    )


def _acquired(header: Dataset) -> datetime | None:
    for date, time in _PLACES:
        text = _text(header, date) + (_text(header, time).split(".")[0] if time else "")
        found = _DATE.match(text.split(".")[0])
        if found:
            try:
                return datetime.strptime(found[0].ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - local to the scanner, as the header has it
            except ValueError:
                continue
    return None


def _text(header: Dataset, keyword: str) -> str:
    return (raw_value(header, keyword) or b"").decode("latin-1").strip(" \0")
