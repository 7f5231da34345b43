"""Who and when: the lines that identify the examination of a page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from chestct.identity import decoded_text
from chestct.text import printable
from dicom_out.objects.raw import raw_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The examination, and the patient if the page names the patient.

    Attributes:
        examination: Date of the study, series, accession number, as far as the images have them.
        patient: Name, Patient ID, birth date and sex; empty if the page names no patient.
    """

    examination: str
    patient: str = ""


def heading_of(header: Dataset, *, name_patient: bool) -> Heading:
    """Return the heading from the header of a source image."""
    number, description = _text(header, "SeriesNumber"), _text(header, "SeriesDescription")
    series = f"series {number}" if number else "series without a number"
    parts = [
        _when(header) or "no study date",
        f"{series}: {description}" if description else series,
        _labelled("accession", _text(header, "AccessionNumber")) or "no accession number",
    ]
    return Heading(
        examination="  ·  ".join(parts), patient=_patient(header) if name_patient else ""
    )


def _patient(header: Dataset) -> str:
    name, *_ = _text(header, "PatientName").split("=")
    family, _, given = name.partition("^")
    parts = (
        ", ".join(" ".join(part.split("^")).strip() for part in (family, given) if part),
        _labelled("ID", _text(header, "PatientID")),
        _labelled("born", _date(_text(header, "PatientBirthDate"))),
        _text(header, "PatientSex"),
    )
    return "  ·  ".join(part for part in parts if part) or "the images name no patient"


def _when(header: Dataset) -> str:
    """Return date and time of the study; empty without a date."""
    day, time = _date(_text(header, "StudyDate")), _text(header, "StudyTime")
    clock = f" {time[:2]}:{time[2:4]}" if time[:4].isdigit() and len(time) >= len("hhmm") else ""
    return f"study of {day}{clock}" if day else ""


def _date(value: str) -> str:
    """Return a date as YYYY-MM-DD; another value unchanged."""
    try:
        return f"{datetime.strptime(value, '%Y%m%d'):%Y-%m-%d}"  # noqa: DTZ007 - a date alone
    except ValueError:
        return value


def _labelled(label: str, value: str) -> str:
    return f"{label} {value}" if value else ""


def _text(header: Dataset, keyword: str) -> str:
    """Return a value as printable text; empty when it is absent."""
    value = raw_value(header, keyword) or b""
    character_set = raw_value(header, "SpecificCharacterSet") or b""
    return printable(decoded_text(value, character_set).strip(" \0"))
