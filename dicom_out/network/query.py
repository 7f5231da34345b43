"""Queries of an archive: C-FIND and C-GET, and the error that every query raises."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.association import Association

from dicom_out.network.allowance import CutOff
from dicom_out.network.destination import WebDestination
from dicom_out.network.dicomweb import ErrorStatus, outcome_of_error
from dicom_out.network.http_client import RequestFailed
from pynetdicom_guard.reactor_gate import park_reactor

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")

_PENDING = frozenset({0xFF00, 0xFF01})
_SUCCESS = 0x0000
_SOME_FAILED = 0xB000
"""Some objects of the series did not come, for they are no reports (PS3.4 table C.4-3)."""
# pynetdicom would decode what it logs, name patients, and drop an answer with one bad value.
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False


class ArchiveUnavailable(Exception):
    """The archive cannot be asked, or does not answer in time."""


def find(association: Association, query: Dataset) -> Iterator[Dataset]:
    """Yield the matches of a C-FIND.

    Raises:
        ArchiveUnavailable: The archive refuses, or the association ends.
    """
    if not park_reactor(association):
        raise ArchiveUnavailable("the association ended")
    try:
        for status, match in association.send_c_find(query, STUDY_ROOT_FIND):
            if status.get("Status") in _PENDING and match is not None:
                yield match
            elif status.get("Status") != _SUCCESS:
                raise ArchiveUnavailable(f"C-FIND: {_status_text(status)}")
    except (ValueError, RuntimeError) as error:
        raise ArchiveUnavailable(f"C-FIND: {error}") from error


def get_series(association: Association, study_uid: str, series_uid: str) -> None:
    """Have the objects of a series sent on the association by C-GET.

    Raises:
        ArchiveUnavailable: The archive refuses, or the association ends.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
    if not park_reactor(association):
        raise ArchiveUnavailable("the association ended")
    try:
        for status, _ in association.send_c_get(query, STUDY_ROOT_GET):
            if status.get("Status") not in {_SUCCESS, _SOME_FAILED, *_PENDING}:
                raise ArchiveUnavailable(f"C-GET: {_status_text(status)}")
    except (ValueError, RuntimeError) as error:
        raise ArchiveUnavailable(f"C-GET: {error}") from error


def unavailable(
    error: CutOff | RequestFailed | ErrorStatus | ValueError, archive: WebDestination
) -> ArchiveUnavailable:
    """Return why a DICOMweb archive cannot be asked, without the URL that names the patient."""
    if isinstance(error, ErrorStatus):
        return ArchiveUnavailable(f"it cannot be asked ({error})")
    return ArchiveUnavailable(outcome_of_error(error, archive).message)


def _status_text(status: Dataset) -> str:
    return f"status 0x{status.Status:04X}" if "Status" in status else "no answer"
