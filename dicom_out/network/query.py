"""Fetches the reports of a patient from an archive: C-FIND and C-GET, or QIDO-RS and WADO-RS.

An archive is asked by Patient ID and answers as it likes: whoever uses what it gives must look
whose it is. What is asked for is bounded: the newest studies within the look-back, the series
with modality SR that may be Rales' own.
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
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import _config, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.presentation import PresentationContext

from dicom_out.network.allowance import Bounds, Conversations
from dicom_out.network.association import Conversation, associated
from dicom_out.network.destination import Destination
from dicom_out.network.recipients import Recipient
from dicom_out.network.web import WebDestination, client_of, outcome_of_error
from dicom_out.title import TITLE
from pynetdicom_guard.reactor_gate import park_reactor

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")

_MOST_STUDIES = 20
_MOST_SERIES = 40
QUERY_BYTES = 64 << 20
"""That an archive may send in all. A report of Rales has some hundred kilobytes."""
_WILD = frozenset("*?\\")
_PENDING = frozenset({0xFF00, 0xFF01})
# pynetdicom decodes what it logs, names patients so, and drops an answer with one bad value.
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False


class ArchiveUnavailable(Exception):
    """The archive could not be asked, or did not answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Whose reports, and how far back.

    Attributes:
        header: The header of an image of the patient: Patient ID and its character set are used.
        until: The day of the present study.
    """

    header: Dataset
    until: date
    days: int

    @property
    def patient_id(self) -> str:
        """Patient ID, or empty where an archive would take it for a pattern."""
        value = self.header.get("PatientID")
        text = value.strip() if isinstance(value, str) else ""  # not so: several values
        return "" if _WILD & set(text) else text

    @property
    def dates(self) -> str:
        """Study Date as a range (PS3.4 C.2.2.2.5)."""
        return f"{self.until - timedelta(days=self.days):%Y%m%d}-{self.until:%Y%m%d}"


def fetch_reports(
    wanted: Wanted,
    archive: Recipient,
    *,
    calling_ae: str,
    timeout_seconds: float,
    under_way: Conversations | None = None,
) -> list[Dataset]:
    """Return the SRs of the patient that may be Rales' own, in no order.

    All of it may take ``timeout_seconds``.

    Raises:
        ArchiveUnavailable: With the reason, for a person.
    """
    if not wanted.patient_id:
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
            return _over_the_web(wanted, archive, bounds)
        return _by_dimse(wanted, archive, calling_ae, bounds)
    except ArchiveUnavailable:
        raise
    except Exception as error:  # whatever an archive sends must cost no result
        raise ArchiveUnavailable(f"its answer cannot be read ({type(error).__name__})") from error


def query_contexts() -> list[PresentationContext]:
    """Return what is proposed: query, retrieve, and the reports that come on the same line."""
    plain: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    return [
        build_context(uid, plain)
        for uid in (STUDY_ROOT_FIND, STUDY_ROOT_GET, Comprehensive3DSRStorage)
    ]


@dataclass(slots=True)
class _Basket:
    """Keeps what an archive stores during a C-GET, as long as it is little."""

    contents: list[bytes] = field(default_factory=list)

    def store(self, event: evt.Event) -> int:
        request: Any = event.request
        content: bytes = request.DataSet.getvalue()
        if len(self.contents) >= _MOST_SERIES:
            return 0xA702  # out of resources (PS3.4 table C.4-2)
        meta = create_file_meta(
            sop_class_uid=request.AffectedSOPClassUID,
            sop_instance_uid=request.AffectedSOPInstanceUID,
            transfer_syntax=event.context.transfer_syntax,
        )
        self.contents.append(b"\0" * 128 + b"DICM" + encode_file_meta(meta) + content)
        return 0x0000


def _by_dimse(
    wanted: Wanted, archive: Destination, calling_ae: str, bounds: Bounds
) -> list[Dataset]:
    basket = _Basket()
    with associated(
        archive,
        query_contexts(),
        calling_ae,
        bounds,
        handlers=[(evt.EVT_C_STORE, basket.store)],
        roles=[build_role(Comprehensive3DSRStorage, scp_role=True)],
    ) as conversation:
        try:
            _fill(conversation, wanted)
        except ArchiveUnavailable as error:
            raise ArchiveUnavailable(conversation.failed(str(error)).message) from error
    return list(_parsed(basket.contents))


def _fill(conversation: Conversation, wanted: Wanted) -> None:
    """Have what may be a report of ours stored on the association."""
    association = conversation.association
    if association is None:
        raise ArchiveUnavailable(conversation.failure.message)
    series = [
        pair
        for study_uid in _newest(find(association, _study_query(wanted)))
        for pair in _ours(find(association, _series_query(study_uid)))
    ]
    for study_uid, series_uid in series[:_MOST_SERIES]:
        _get(association, study_uid, series_uid)


def _study_query(wanted: Wanted) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    if charset := wanted.header.get("SpecificCharacterSet"):
        query.SpecificCharacterSet = charset
    query.PatientID = wanted.patient_id
    query.StudyDate = wanted.dates
    query.ModalitiesInStudy = "SR"
    query.StudyInstanceUID = ""
    return query


def _series_query(study_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_uid
    query.Modality = "SR"
    query.SeriesInstanceUID = ""
    query.SeriesDescription = ""
    return query


def find(association: Association, query: Dataset) -> Iterator[Dataset]:
    """Yield what is found by C-FIND; ArchiveUnavailable says that it was refused."""
    if not park_reactor(association):
        raise ArchiveUnavailable("the association ended")
    try:
        for status, found in association.send_c_find(query, STUDY_ROOT_FIND):
            if status.get("Status") in _PENDING and found is not None:
                yield found
            elif status.get("Status") != 0x0000:
                raise ArchiveUnavailable(f"C-FIND: {_said(status)}")
    except (ValueError, RuntimeError) as error:
        raise ArchiveUnavailable(f"C-FIND: {error}") from error


def _get(association: Association, study_uid: str, series_uid: str) -> None:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
    if not park_reactor(association):
        raise ArchiveUnavailable("the association ended")
    try:
        for status, _ in association.send_c_get(query, STUDY_ROOT_GET):
            # 0xB000: some objects of the series did not come, being no reports
            if status.get("Status") not in {0x0000, 0xB000, *_PENDING}:
                raise ArchiveUnavailable(f"C-GET: {_said(status)}")
    except (ValueError, RuntimeError) as error:
        raise ArchiveUnavailable(f"C-GET: {error}") from error


def _said(status: Dataset) -> str:
    return f"status 0x{status.Status:04X}" if "Status" in status else "no answer"


def _newest(studies: Iterable[Dataset]) -> list[str]:
    """Return the UIDs of the newest studies, the newest first; no more than these are kept."""
    newest = heapq.nlargest(_MOST_STUDIES, studies, key=lambda one: str(one.get("StudyDate", "")))
    uids = [str(one.get("StudyInstanceUID", "")) for one in newest]
    return [uid for uid in dict.fromkeys(uids) if uid]


def _ours(series: Iterable[Dataset]) -> list[tuple[str, str]]:
    """Return study and series of the reports that may be Rales' own, the first few of them."""
    found = (
        (str(one.StudyInstanceUID), str(one.SeriesInstanceUID))
        for one in series
        if {"StudyInstanceUID", "SeriesInstanceUID"} <= {str(e.keyword) for e in one}
        and str(one.get("Modality", "SR")) == "SR"
        and str(one.get("SeriesDescription") or TITLE).startswith(TITLE)
    )
    kept = list(islice(found, _MOST_SERIES))
    deque(found, maxlen=0)  # the query ends only when its last answer was read
    return kept


def _parsed(contents: Iterable[bytes]) -> Iterator[Dataset]:
    for content in contents:
        try:
            yield pydicom.dcmread(BytesIO(content))
        except Exception:  # noqa: BLE001, S112 - whatever cannot be read, however, is no report
            continue


def _over_the_web(wanted: Wanted, archive: WebDestination, bounds: Bounds) -> list[Dataset]:
    until = time.monotonic() + bounds.whole_seconds
    try:
        with client_of(archive, bounds) as (client, _):
            return list(_reports_of(client, wanted, until))
    except requests.HTTPError as error:  # what it says of itself has the URL, with the patient
        status = "no answer" if error.response is None else error.response.status_code
        raise ArchiveUnavailable(f"it cannot be asked (HTTP {status})") from error
    except (OSError, ValueError) as error:
        raise ArchiveUnavailable(outcome_of_error(error, archive).message) from error


def _reports_of(client: DICOMwebClient, wanted: Wanted, until: float) -> Iterator[Dataset]:
    studies = client.search_for_studies(
        search_filters={
            "PatientID": wanted.patient_id,
            "StudyDate": wanted.dates,
            "ModalitiesInStudy": "SR",
        },
        limit=_MOST_STUDIES,
    )
    series = [
        pair
        for study_uid in _newest(map(_from_json, studies))
        for pair in _ours(
            _with_study(
                client.search_for_series(
                    study_uid, fields=["SeriesDescription"], search_filters={"Modality": "SR"}
                ),
                study_uid,
            )
        )
    ]
    for study_uid, series_uid in series[:_MOST_SERIES]:
        if time.monotonic() > until:
            raise ArchiveUnavailable("it takes too long")
        yield from client.retrieve_series(study_uid, series_uid)


def _from_json(found: dict[str, Any]) -> Dataset:
    return Dataset.from_json(found)


def _with_study(series: Iterable[dict[str, Any]], study_uid: str) -> Iterator[Dataset]:
    for one in series:
        found = _from_json(one)
        found.StudyInstanceUID = study_uid
        yield found
