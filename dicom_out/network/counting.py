"""Asks an archive how many images of a series it has: C-FIND or QIDO-RS, series level.

The answer is Number of Series Related Instances (0020,1209), which an archive need not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context

from chestct.uids import Uid
from dicom_out.network.allowance import Bounds, Conversations, CutOff
from dicom_out.network.association import associated
from dicom_out.network.destination import Destination, Recipient, WebDestination
from dicom_out.network.dicomweb import ErrorStatus, dicomweb_client
from dicom_out.network.http_client import RequestFailed
from dicom_out.network.query import STUDY_ROOT_FIND, ArchiveUnavailable, find, unavailable

_NUMBER = "NumberOfSeriesRelatedInstances"
_ANSWER_BYTES = 4 << 20
"""Bytes that an archive may answer. An archive that ignores the Series Instance UID answers with
every series of the study."""
_MAXIMUM_IMAGES = 100_000
_NOT_FOUND = 404


class NoCount(Exception):
    """The archive answers, but without a number of images of this series."""


def count_images(
    study_uid: Uid,
    series_uid: Uid,
    archive: Recipient,
    *,
    calling_ae: str,
    timeout_seconds: float,
    under_way: Conversations | None = None,
) -> int:
    """Return how many images of a series the archive has; 0 where it does not know the series.

    Raises:
        ArchiveUnavailable: The archive cannot be asked; with the reason, for a person.
        NoCount: The archive answers without a number.
    """
    bounds = Bounds(
        silence_seconds=timeout_seconds,
        whole_seconds=timeout_seconds,
        most_bytes=_ANSWER_BYTES,
        setting="completion.archive_timeout_seconds",
        under_way=under_way,
    )
    try:
        if isinstance(archive, WebDestination):
            matches = _find_by_dicomweb(study_uid, series_uid, archive, bounds)
        else:
            matches = _find_by_dimse(study_uid, series_uid, archive, calling_ae, bounds)
        return _number_of(matches, series_uid)
    except (ArchiveUnavailable, NoCount):
        raise
    except Exception as error:  # an odd answer of the archive must complete no series
        raise ArchiveUnavailable(f"its answer cannot be read ({type(error).__name__})") from error


def _find_by_dimse(
    study_uid: Uid, series_uid: Uid, archive: Destination, calling_ae: str, bounds: Bounds
) -> list[Dataset]:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = UID(study_uid)
    query.SeriesInstanceUID = UID(series_uid)
    setattr(query, _NUMBER, None)
    context = build_context(STUDY_ROOT_FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    with associated(archive, [context], calling_ae, bounds) as conversation:
        if conversation.association is None:
            raise ArchiveUnavailable(conversation.failure.message)
        try:
            return list(find(conversation.association, query))
        except ArchiveUnavailable as error:
            raise ArchiveUnavailable(conversation.failed(str(error)).message) from error


def _find_by_dicomweb(
    study_uid: Uid, series_uid: Uid, archive: WebDestination, bounds: Bounds
) -> list[Dataset]:
    query = [("includefield", _NUMBER), ("SeriesInstanceUID", series_uid)]
    try:
        with dicomweb_client(archive, bounds) as client:
            return client.search_series(study_uid, query)
    except (CutOff, RequestFailed, ErrorStatus, ValueError) as error:
        # Some archives answer 404 about a study that they do not have.
        if isinstance(error, ErrorStatus) and error.status == _NOT_FOUND:
            raise NoCount(str(error)) from error
        raise unavailable(error, archive) from error


def _number_of(matches: Iterable[Dataset], series_uid: Uid) -> int:
    """Return the number of images of the series; matches for other series are ignored."""
    numbers = {
        _number(match) for match in matches if _text(match, "SeriesInstanceUID") == series_uid
    }
    if len(numbers) > 1:
        raise NoCount("it answers with different numbers of images for the series")
    return numbers.pop() if numbers else 0


def _number(match: Dataset) -> int:
    text = _text(match, _NUMBER)
    if not text:
        raise NoCount("its answer has no number of images (0020,1209)")
    if not re.fullmatch("[0-9]{1,12}", text):
        raise NoCount("its number of images (0020,1209) is no number")
    if int(text) > _MAXIMUM_IMAGES:
        raise NoCount(f"its number of images (0020,1209) is above {_MAXIMUM_IMAGES}")
    return int(text)


def _text(match: Dataset, keyword: str) -> str:
    """Return a value as the archive wrote it, valid or not; empty where there is none."""
    element: Any = match.get_item(keyword) if keyword in match else None
    value = getattr(element, "value", None)
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return "" if value is None else str(value).strip(" \0")
