"""The patient and the examination of a notification, read from a received image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from chestct.errors import NotificationImpossible

_OID = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The patient and the examination.

    Attributes:
        issuer: Issuer of Patient ID; empty where the image has none.
        issuer_oid: Universal Entity ID of the issuer where it is an OID (PS3.3 table 10-18).
        acquired: Time of the study or, without a time, its date alone; None without a valid date.
    """

    patient_id: str
    issuer: str
    issuer_oid: str | None
    accession_number: str
    acquired: datetime | date | None
    series_number: int | None


def read_subject(image: Path) -> Subject:
    """Read the header of one received image.

    Raises:
        NotificationImpossible: It has no Patient ID, or a Universal Entity ID that is no OID.
        OSError: The file cannot be read.
        InvalidDicomError: The file is damaged.
    """
    header = pydicom.dcmread(image, stop_before_pixels=True)
    patient_id = _text(header, "PatientID")
    if not patient_id:
        raise NotificationImpossible("the images have no Patient ID")
    number = header.get("SeriesNumber")
    return Subject(
        patient_id=patient_id,
        issuer=_text(header, "IssuerOfPatientID"),
        issuer_oid=_issuer_oid(header),
        accession_number=_text(header, "AccessionNumber"),
        acquired=_acquired(header),
        series_number=int(number) if number is not None and int(number) >= 0 else None,
    )


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _issuer_oid(header: Dataset) -> str | None:
    for item in header.get("IssuerOfPatientIDQualifiersSequence") or []:
        if _text(item, "UniversalEntityIDType") == "ISO":
            oid = _text(item, "UniversalEntityID")
            if oid and not _OID.fullmatch(oid):
                raise NotificationImpossible("Universal Entity ID of the issuer is no OID")
            return oid or None
    return None


def _acquired(header: Dataset) -> datetime | date | None:
    """Return date and time of the study, as precise as the image gives them."""
    day, time = _text(header, "StudyDate"), _text(header, "StudyTime")
    try:
        acquired = DA(day) if day else None
    except ValueError:
        return None
    if acquired is None:
        return None
    try:
        return _zoned(datetime.combine(acquired, TM(time)), header) if time else _plain(acquired)
    except ValueError:
        return _plain(acquired)


def _zoned(local: datetime, header: Dataset) -> datetime:
    """Return ``local`` with the image's offset from UTC (PS3.3 C.12.1), or with this machine's."""
    offset = _text(header, "TimezoneOffsetFromUTC")
    if not offset:
        return local.astimezone()
    zone = datetime.strptime(offset, "%z").tzinfo
    return local.replace(tzinfo=zone)


def _plain(day: date) -> date:
    return date(day.year, day.month, day.day)
