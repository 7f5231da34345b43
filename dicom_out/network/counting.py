"""Asks an archive how many images of a series it has: C-FIND or QIDO-RS, series level.

The answer is Number of Series Related Instances (0020,1209), which an archive need not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import requests
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from chestct.uids import Uid
from dicom_out.network.allowance import Bounds, Conversations
from dicom_out.network.association import Conversation, associated
from dicom_out.network.destination import Destination
from dicom_out.network.query import STUDY_ROOT_FIND, ArchiveUnavailable, find
from dicom_out.network.recipients import Recipient
from dicom_out.network.web import WebDestination, client_of, outcome_of_error

_NUMBER = "NumberOfSeriesRelatedInstances"
_MOST_BYTES = 4 << 20
"""That an archive may answer; one that overlooks which series is asked for names all of a study."""
_MOST_IMAGES = 100_000
_NOT_FOUND = 404


class NoCount(Exception):
    """The archive answers, and not with a number of images of this series."""


def count_images(
    study_uid: Uid,
    series_uid: Uid,
    archive: Recipient,
    *,
    calling_ae: str,
    timeout_seconds: float,
    under_way: Conversations | None = None,
) -> int:
    """Return how many images of a series the archive has; 0 where it knows none.

    Raises:
        ArchiveUnavailable: It could not be asked, with the reason for a person.
        NoCount: It answers, and does not say.
    """
    bounds = Bounds(
        silence_seconds=timeout_seconds,
        whole_seconds=timeout_seconds,
        most_bytes=_MOST_BYTES,
        setting="completion.archive_timeout_seconds",
        under_way=under_way,
    )
    try:
        if isinstance(archive, WebDestination):
            found = _over_the_web(study_uid, series_uid, archive, bounds)
        else:
            found = _by_dimse(study_uid, series_uid, archive, calling_ae, bounds)
        return _number_of(found, series_uid)
    except (ArchiveUnavailable, NoCount):
        raise
    except Exception as error:  # whatever an archive sends must complete no series
        raise ArchiveUnavailable(f"its answer cannot be read ({type(error).__name__})") from error


def _context() -> PresentationContext:
    """Return what is proposed."""
    return build_context(STUDY_ROOT_FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])


def _by_dimse(
    study_uid: Uid, series_uid: Uid, archive: Destination, calling_ae: str, bounds: Bounds
) -> list[Dataset]:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = UID(study_uid)
    query.SeriesInstanceUID = UID(series_uid)
    setattr(query, _NUMBER, None)
    with associated(archive, [_context()], calling_ae, bounds) as conversation:
        try:
            return _found(conversation, query)
        except ArchiveUnavailable as error:
            raise ArchiveUnavailable(conversation.failed(str(error)).message) from error


def _found(conversation: Conversation, query: Dataset) -> list[Dataset]:
    if conversation.association is None:
        raise ArchiveUnavailable(conversation.failure.message)
    return list(find(conversation.association, query))


def _over_the_web(
    study_uid: Uid, series_uid: Uid, archive: WebDestination, bounds: Bounds
) -> list[Dataset]:
    try:
        with client_of(archive, bounds) as (client, _):
            found = client.search_for_series(
                study_uid, fields=[_NUMBER], search_filters={"SeriesInstanceUID": series_uid}
            )
    except requests.HTTPError as error:
        status = "no answer" if error.response is None else error.response.status_code
        if status == _NOT_FOUND:  # some say so of a study that they do not have
            raise NoCount(f"HTTP {status}") from error
        raise ArchiveUnavailable(f"it cannot be asked (HTTP {status})") from error
    except (OSError, ValueError) as error:
        raise ArchiveUnavailable(outcome_of_error(error, archive).message) from error
    return [Dataset.from_json(one) for one in found]


def _number_of(found: Iterable[Dataset], series_uid: Uid) -> int:
    """Return the one number that is said of the series; what is said of others is passed over."""
    numbers = {_number(one) for one in found if _text(one, "SeriesInstanceUID") == series_uid}
    if len(numbers) > 1:
        raise NoCount("it answers with several numbers of images")
    return numbers.pop() if numbers else 0


def _number(answer: Dataset) -> int:
    text = _text(answer, _NUMBER)
    if not text:
        raise NoCount("its answer has no number of images (0020,1209)")
    if not re.fullmatch("[0-9]{1,12}", text):
        raise NoCount("its number of images (0020,1209) is no number")
    if int(text) > _MOST_IMAGES:
        raise NoCount(f"its number of images (0020,1209) is above {_MOST_IMAGES}")
    return int(text)


def _text(answer: Dataset, keyword: str) -> str:
    """Return a value as it came, which pydicom would not take or complain of; or nothing."""
    element: Any = answer.get_item(keyword) if keyword in answer else None
    value = getattr(element, "value", None)
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return "" if value is None else str(value).strip(" \0")
