"""Fetches the reports of a patient from an archive: C-FIND and C-GET, or QIDO-RS and WADO-RS.

The archive is asked by Patient ID and may answer with the reports of others: the caller must
check whose each report is. The request is limited: the newest studies within the look-back, and
the series with modality SR that may be Rales' own.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from io import BytesIO
from itertools import islice
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import build_context, build_role, evt
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.presentation import PresentationContext

from chestct.uids import Uid
from dicom_out.network.allowance import Bounds, Conversations, CutOff
from dicom_out.network.association import Conversation, associated
from dicom_out.network.destination import Destination, Recipient, WebDestination
from dicom_out.network.dicomweb import DicomWebClient, ErrorStatus, dicomweb_client
from dicom_out.network.http_client import RequestFailed
from dicom_out.network.query import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    ArchiveUnavailable,
    find,
    get_series,
    unavailable,
)
from dicom_out.title import REPORT_CLASSES, may_be_report

_MAXIMUM_STUDIES = 20
_MAXIMUM_SERIES = 40
QUERY_BYTES = 64 << 20
"""Bytes that an archive may send in all. A report of Rales has some hundred kilobytes."""
_WILD_CARDS = frozenset("*?\\")
_OUT_OF_RESOURCES = 0xA702
"""PS3.4 table C.4-2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """Whose reports to fetch, and how far back.

    Attributes:
        header: The header of an image of the patient: its Patient ID and character set are used.
        until: The day of the present study.
        days: How many days before it a study may be.
    """

    header: Dataset
    until: date
    days: int

    @property
    def patient_id(self) -> str:
        """Patient ID; empty where it has several values, or would be a pattern to an archive."""
        value = self.header.get("PatientID")
        text = value.strip() if isinstance(value, str) else ""
        return "" if _WILD_CARDS & set(text) else text

    @property
    def dates(self) -> str:
        """Study Date as a range (PS3.4 section C.2.2.2.5)."""
        return f"{self.until - timedelta(days=self.days):%Y%m%d}-{self.until:%Y%m%d}"


def fetch_reports(
    query: ReportQuery,
    archive: Recipient,
    *,
    calling_ae: str,
    timeout_seconds: float,
    under_way: Conversations | None = None,
) -> list[Dataset]:
    """Return the SRs of the patient that may be Rales' own, in no order.

    The whole conversation may take ``timeout_seconds``.

    Raises:
        ArchiveUnavailable: With the reason, for a person.
    """
    if not query.patient_id:
        return []
    bounds = Bounds(
        silence_seconds=timeout_seconds,
        whole_seconds=timeout_seconds,
        most_bytes=QUERY_BYTES,
        setting="priors.timeout_seconds",
        under_way=under_way,
    )
    try:
        if isinstance(archive, WebDestination):
            return _fetch_by_dicomweb(query, archive, bounds)
        return _fetch_by_dimse(query, archive, calling_ae, bounds)
    except ArchiveUnavailable:
        raise
    except Exception as error:  # an odd answer of the archive must cost no result
        raise ArchiveUnavailable(f"its answer cannot be read ({type(error).__name__})") from error


def query_contexts() -> list[PresentationContext]:
    """Return the proposed contexts: query, retrieve, and the reports on the same association."""
    syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    return [
        build_context(uid, syntaxes) for uid in (STUDY_ROOT_FIND, STUDY_ROOT_GET, *REPORT_CLASSES)
    ]


@dataclass(slots=True)
class _ReportStore:
    """Keeps the first files that an archive stores during a C-GET."""

    files: list[bytes] = field(default_factory=list)

    def store(self, event: evt.Event) -> int:
        request: Any = event.request
        content: bytes = request.DataSet.getvalue()
        if len(self.files) >= _MAXIMUM_SERIES:
            return _OUT_OF_RESOURCES
        meta = create_file_meta(
            sop_class_uid=request.AffectedSOPClassUID,
            sop_instance_uid=request.AffectedSOPInstanceUID,
            transfer_syntax=event.context.transfer_syntax,
        )
        self.files.append(b"\0" * 128 + b"DICM" + encode_file_meta(meta) + content)
        return 0x0000


def _fetch_by_dimse(
    query: ReportQuery, archive: Destination, calling_ae: str, bounds: Bounds
) -> list[Dataset]:
    reports = _ReportStore()
    with associated(
        archive,
        query_contexts(),
        calling_ae,
        bounds,
        handlers=[(evt.EVT_C_STORE, reports.store)],
        roles=[build_role(uid, scp_role=True) for uid in REPORT_CLASSES],
    ) as conversation:
        try:
            _get_reports(conversation, query)
        except ArchiveUnavailable as error:
            raise ArchiveUnavailable(conversation.failed(str(error)).message) from error
    return list(_readable(reports.files))


def _get_reports(conversation: Conversation, query: ReportQuery) -> None:
    """Have the series that may be Rales' own stored on the association."""
    association = conversation.association
    if association is None:
        raise ArchiveUnavailable(conversation.failure.message)
    series = [
        uids
        for study_uid in _newest(find(association, _study_query(query)))
        for uids in _own_series(find(association, _series_query(study_uid)))
    ]
    for study_uid, series_uid in series[:_MAXIMUM_SERIES]:
        get_series(association, study_uid, series_uid)


def _study_query(query: ReportQuery) -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    if charset := query.header.get("SpecificCharacterSet"):
        keys.SpecificCharacterSet = charset
    keys.PatientID = query.patient_id
    keys.StudyDate = query.dates
    keys.ModalitiesInStudy = "SR"
    keys.StudyInstanceUID = ""
    return keys


def _series_query(study_uid: str) -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = "SERIES"
    keys.StudyInstanceUID = study_uid
    keys.Modality = "SR"
    keys.SeriesInstanceUID = ""
    keys.SeriesDescription = ""
    return keys


def _newest(studies: Iterable[Dataset]) -> list[str]:
    """Return the UIDs of the newest studies, the newest first; no more than these are kept."""
    newest = heapq.nlargest(
        _MAXIMUM_STUDIES, studies, key=lambda study: str(study.get("StudyDate", ""))
    )
    uids = [str(study.get("StudyInstanceUID", "")) for study in newest]
    return [uid for uid in dict.fromkeys(uids) if uid]


def _own_series(series: Iterable[Dataset]) -> list[tuple[str, str]]:
    """Return study and series UID of the first series that may be Rales' own."""
    own = (
        (str(match.StudyInstanceUID), str(match.SeriesInstanceUID))
        for match in series
        if {"StudyInstanceUID", "SeriesInstanceUID"} <= {str(e.keyword) for e in match}
        and str(match.get("Modality", "SR")) == "SR"
        and may_be_report(str(match.get("SeriesDescription") or ""))
    )
    kept = list(islice(own, _MAXIMUM_SERIES))
    deque(own, maxlen=0)  # the query ends only when its last answer was read
    return kept


def _readable(files: Iterable[bytes]) -> Iterator[Dataset]:
    for file in files:
        try:
            yield pydicom.dcmread(BytesIO(file))
        except Exception:  # noqa: BLE001, S112 - what cannot be read is no report
            continue


def _fetch_by_dicomweb(
    query: ReportQuery, archive: WebDestination, bounds: Bounds
) -> list[Dataset]:
    until = time.monotonic() + bounds.whole_seconds
    try:
        with dicomweb_client(archive, bounds) as client:
            return [pydicom.dcmread(BytesIO(file)) for file in _report_files(client, query, until)]
    except (CutOff, RequestFailed, ErrorStatus, ValueError) as error:
        raise unavailable(error, archive) from error


def _report_files(client: DicomWebClient, query: ReportQuery, until: float) -> Iterator[bytes]:
    studies = client.search_studies(
        [
            ("PatientID", query.patient_id),
            ("StudyDate", query.dates),
            ("ModalitiesInStudy", "SR"),
            ("limit", str(_MAXIMUM_STUDIES)),
        ]
    )
    series_query = [("includefield", "SeriesDescription"), ("Modality", "SR")]
    series: list[tuple[str, str]] = []
    for study_uid in _newest(studies):
        matches = client.search_series(Uid(study_uid), series_query)
        for match in matches:
            match.StudyInstanceUID = study_uid
        series += _own_series(matches)
    for study_uid, series_uid in series[:_MAXIMUM_SERIES]:
        if time.monotonic() > until:
            raise ArchiveUnavailable("it takes too long")
        yield from client.retrieve_series(Uid(study_uid), Uid(series_uid))
