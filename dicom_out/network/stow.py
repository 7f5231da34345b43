"""STOW-RS (PS3.18 section 10.5): one request and one outcome per object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pydicom.dataset import Dataset

from chestct.errors import ResultDamaged
from chestct.results import ResultObject
from dicom_out.network.allowance import SLOWEST, Bounds, Conversations, CutOff, whole_seconds
from dicom_out.network.destination import WebDestination
from dicom_out.network.dicomweb import (
    DICOM_TYPES,
    DicomWebClient,
    ErrorStatus,
    data_set_of,
    dicomweb_client,
    outcome_of_error,
)
from dicom_out.network.http_client import Answer, RequestFailed
from dicom_out.network.outcome import Outcome, OutcomeKind, failed, outcome_of
from dicom_out.result_file import read_whole

_NOT_CONFIGURED = {
    401: "the service refuses these credentials (HTTP 401)",
    403: "the service forbids this request (HTTP 403)",
    404: "there is no STOW-RS service at this URL (HTTP 404)",
    405: "there is no STOW-RS service at this URL (HTTP 405)",
}
"""Errors in the configuration of this node or of the service: no object can be delivered."""
_REFUSED = {
    400: "refused, HTTP 400",
    409: "refused, HTTP 409",
    413: "the object is too large (HTTP 413)",
    422: "refused, HTTP 422",
}
"""Verdicts on the object."""
_NOT_ACCEPTED = {
    406: "the service does not answer in DICOM JSON (HTTP 406)",
    415: "the service does not accept DICOM files (HTTP 415)",
    501: "the service does not store objects (HTTP 501)",
}
_CONFLICT = 409
_FIRST_ERROR = 400
_PRESENT = frozenset({0x0110, 0x0111})
"""Failure Reasons that come with 409 for an object that the service has (dcm4chee: 0x0110)."""
_FAILURES = ("FailedSOPSequence", "OtherFailuresSequence")
"""Objects that were not stored, named and unnamed; the reason may be missing (PS3.18 table
I.2.1)."""
_ANSWER_BYTES = 4 << 20
"""Bytes that a service may answer to one request."""
_NO_QIDO = frozenset({404, 405, 501})


def store_each(
    objects: Sequence[ResultObject],
    destination: WebDestination,
    *,
    timeout_seconds: float,
    slowest: float = SLOWEST,
    under_way: Conversations | None = None,
) -> Iterator[Outcome]:
    """Send ``objects``, a request each; yield one outcome each, in order, once it is known.

    Never raises for what the service or the network does. After an object finds no service, or
    wrong credentials, the others are not tried. Each request has the time of
    :func:`dicom_out.network.allowance.whole_seconds`.
    """
    unreachable: Outcome | None = None
    for item in objects:
        outcome = unreachable or _store(item, destination, timeout_seconds, slowest, under_way)
        unreachable = None if outcome.reached else outcome
        yield outcome


def ask(destination: WebDestination, *, timeout_seconds: float) -> Outcome:
    """Ask whether the service answers, by a query for one study (QIDO-RS, PS3.18 section 10.6)."""

    def query(client: DicomWebClient) -> Outcome:
        message = "answers QIDO-RS"
        try:
            client.search_studies([("limit", "1")])
        except ErrorStatus as error:
            if error.status not in _NO_QIDO:
                return outcome_of_refusal(Dataset(), "", error.status)
            message = "answers, but not to QIDO-RS; STOW-RS was not tried"
        return Outcome(kind=OutcomeKind.DELIVERED, status=None, message=message)

    bounds = _bounds(timeout_seconds, whole_seconds(timeout_seconds, messages=1, content=0))
    return _with_client(destination, bounds, query)


def _bounds(
    silence_seconds: float,
    whole: float,
    slowest: float = SLOWEST,
    under_way: Conversations | None = None,
) -> Bounds:
    return Bounds(
        silence_seconds=silence_seconds,
        whole_seconds=whole,
        most_bytes=_ANSWER_BYTES,
        slowest=slowest,
        setting="delivery.timeout_seconds",
        under_way=under_way,
    )


def _store(
    item: ResultObject,
    destination: WebDestination,
    timeout_seconds: float,
    slowest: float,
    under_way: Conversations | None,
) -> Outcome:
    try:
        file = read_whole(item)
    except ResultDamaged as error:
        return Outcome(kind=OutcomeKind.DAMAGED, status=None, message=str(error))
    except OSError as error:
        return failed(f"could not be sent: {error}")

    def post(client: DicomWebClient) -> Outcome:
        answer = client.store(file)
        if answer.status >= _FIRST_ERROR:
            return outcome_of_refusal(_readable(answer), item.sop_instance_uid, answer.status)
        return outcome_of_answer(data_set_of(answer), item.sop_instance_uid, answer)

    whole = whole_seconds(timeout_seconds, messages=1, content=len(file), slowest=slowest)
    return _with_client(destination, _bounds(timeout_seconds, whole, slowest, under_way), post)


def outcome_of_answer(report: Dataset, sop_instance_uid: str, answer: Answer) -> Outcome:
    """Classify a successful answer to STOW-RS (PS3.18 section 10.5.3).

    A page that is not DICOM, such as the form of a login, is no success: the object is not stored.
    """
    http = f"HTTP {answer.status}"
    kind = answer.media_type
    if answer.content and kind not in DICOM_TYPES:
        return failed(f"{http} with {kind or 'content'} that is not DICOM: is the URL right?")
    reason = _reason(report, "FailedSOPSequence", "FailureReason", sop_instance_uid)
    if reason is not None:
        return outcome_of(reason)
    if report.get("ReferencedSOPSequence"):
        if not _names(report, "ReferencedSOPSequence", sop_instance_uid):
            return failed(f"{http} names other objects than the one that was sent")
        warning = _reason(report, "ReferencedSOPSequence", "WarningReason", sop_instance_uid)
        if warning:
            return Outcome(
                kind=OutcomeKind.DELIVERED,
                status=warning,
                message=f"stored, {http}, warning 0x{warning:04X}",
            )
    elif any(report.get(keyword) for keyword in _FAILURES):
        return failed(f"{http} names a failure and no stored object")
    return Outcome(kind=OutcomeKind.DELIVERED, status=0x0000, message=f"stored, {http}")


def outcome_of_refusal(report: Dataset, sop_instance_uid: str, http_status: int) -> Outcome:
    """Classify an answer with an HTTP status of 400 or above.

    The reason that the service gives for the object counts before the HTTP status.
    """
    reason = _reason(report, "FailedSOPSequence", "FailureReason", sop_instance_uid)
    if reason is not None:
        outcome = outcome_of(reason)
        present = outcome.present or (http_status == _CONFLICT and reason in _PRESENT)
        return replace(outcome, present=present)
    if http_status in _NOT_CONFIGURED:
        return failed(_NOT_CONFIGURED[http_status], reached=False)
    if http_status in _NOT_ACCEPTED:
        message = _NOT_ACCEPTED[http_status]
        return Outcome(kind=OutcomeKind.NOT_ACCEPTED, status=None, message=message)
    if http_status in _REFUSED:
        # Some services answer a conflict without a reason when they have the object.
        present = http_status == _CONFLICT and not any(map(report.get, _FAILURES))
        message = _REFUSED[http_status]
        return Outcome(kind=OutcomeKind.REFUSED, status=None, message=message, present=present)
    return failed(f"the service cannot store the object now (HTTP {http_status})")


def _with_client(
    destination: WebDestination, bounds: Bounds, action: Callable[[DicomWebClient], Outcome]
) -> Outcome:
    """Run ``action`` with a client of its own; turn every failure into an outcome."""
    try:
        with dicomweb_client(destination, bounds) as client:
            return action(client)
    except (CutOff, RequestFailed, ValueError) as error:
        return outcome_of_error(error, destination)
    except Exception as error:  # noqa: BLE001 - pydicom raises anything over an odd answer
        return failed(f"its answer cannot be read ({type(error).__name__})")


def _readable(answer: Answer) -> Dataset:
    """Return the DICOM JSON of a refusal; an empty data set if it cannot be read."""
    try:
        return Dataset.from_json(json.loads(answer.content))
    except (ValueError, TypeError, AttributeError, KeyError):
        return Dataset()


def _reason(report: Dataset, sequence: str, keyword: str, sop_instance_uid: str) -> int | None:
    """Return the reason for an object; without a UID, the reason of the first item."""
    for item in report.get(sequence) or ():
        if not sop_instance_uid or item.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            reason = item.get(keyword)
            return None if reason is None else int(reason)
    return None


def _names(report: Dataset, sequence: str, sop_instance_uid: str) -> bool:
    return any(
        item.get("ReferencedSOPInstanceUID") == sop_instance_uid for item in report.get(sequence)
    )
