"""The STOW-RS user agent (PS3.18 section 10.5): one outcome per object, as the storage SCU has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset

from chestct.errors import ResultDamaged
from chestct.results import ResultObject
from dicom_out.network.allowance import SLOWEST, Bounds, Conversations, whole_seconds
from dicom_out.network.outcome import Outcome, OutcomeKind, failed, outcome_of
from dicom_out.network.web import Answers, WebDestination, client_of, outcome_of_error
from dicom_out.result_file import read_whole

_NOT_THERE = {
    401: "it does not take these credentials (HTTP 401)",
    403: "it forbids this (HTTP 403)",
    404: "there is no STOW-RS service at this URL (HTTP 404)",
    405: "there is no STOW-RS service at this URL (HTTP 405)",
}
"""What a person has to mend, at this end or at that: no object fares better until then."""
_FOR_GOOD = {
    400: "refused, HTTP 400",
    409: "refused, HTTP 409",
    413: "it is too large (HTTP 413)",
    422: "refused, HTTP 422",
}
"""Verdicts on the object."""
_NOT_ACCEPTED = {
    406: "what it answers is no DICOM JSON (HTTP 406)",
    415: "DICOM files are not accepted there (HTTP 415)",
    501: "it does not store (HTTP 501)",
}
_CONFLICT = 409
_PRESENT = frozenset({0x0110, 0x0111})
"""Failure Reasons that come with 409 for an object that is there already (dcm4chee: 0x0110)."""
_FAILURES = ("FailedSOPSequence", "OtherFailuresSequence")
"""What failed, named and unnamed; the reason may be missing (PS3.18 table I.2.1)."""
_MOST_BYTES = 4 << 20
"""That a service may say of an object that it was sent."""
_NO_QUERY = frozenset({404, 405, 501})


def store(
    objects: Sequence[ResultObject], destination: WebDestination, *, timeout_seconds: float
) -> tuple[Outcome, ...]:
    """Send ``objects``, a request each; return one outcome each, in order."""
    return tuple(store_each(objects, destination, timeout_seconds=timeout_seconds))


def store_each(
    objects: Sequence[ResultObject],
    destination: WebDestination,
    *,
    timeout_seconds: float,
    slowest: float = SLOWEST,
    under_way: Conversations | None = None,
) -> Iterator[Outcome]:
    """Send ``objects``, a request each; yield one outcome each, in order, once it is known.

    Never raises for what the service or the network does. When one object finds that nobody
    is there, or that the credentials are wrong, the others are not tried. Each request has
    the time that :func:`dicom_out.network.allowance.whole_seconds` says.
    """
    gone: Outcome | None = None
    for item in objects:
        outcome = gone or _store(item, destination, timeout_seconds, slowest, under_way)
        gone = None if outcome.reached else outcome
        yield outcome


def ask(destination: WebDestination, *, timeout_seconds: float) -> Outcome:
    """Ask whether the service answers, by a query for one study (QIDO-RS, PS3.18 section 10.6)."""

    def query(client: DICOMwebClient, answers: Answers) -> Outcome:
        message = "answers QIDO-RS"
        try:
            client.search_for_studies(limit=1)
        except requests.HTTPError:
            status = answers[-1].status_code
            if status not in _NO_QUERY:
                return outcome_of_refusal(Dataset(), "", status)
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
        most_bytes=_MOST_BYTES,
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

    def post(client: DICOMwebClient, answers: Answers) -> Outcome:
        uid = item.sop_instance_uid
        try:
            told = _post(client, file)
        except requests.HTTPError:
            return outcome_of_refusal(_told_with(answers[-1]), uid, answers[-1].status_code)
        return outcome_of_answer(told, uid, answers[-1])

    whole = whole_seconds(timeout_seconds, messages=1, content=len(file), slowest=slowest)
    return _with_client(destination, _bounds(timeout_seconds, whole, slowest, under_way), post)


def _post(client: Any, file: bytes) -> Dataset:
    """Post a file as it is; the client's ``store_instances`` would decode and encode it."""
    url = f"{client.base_url}/studies"
    told: Dataset = client._http_post_multipart_application_dicom(url, [file])  # noqa: SLF001
    return told


def outcome_of_answer(told: Dataset, sop_instance_uid: str, answer: requests.Response) -> Outcome:
    """Classify a successful answer to STOW-RS (PS3.18 section 10.5.3).

    A page that is no DICOM, such as the form of a login, is no success: the object is not there.
    """
    http = f"HTTP {answer.status_code}"
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if answer.content and kind not in {
        "application/dicom+json",
        "application/json",
        "application/dicom+xml",
        "application/xml",
    }:
        return failed(f"{http} with {kind or 'something'} that is no DICOM: is the URL right?")
    reason = _reason(told, "FailedSOPSequence", "FailureReason", sop_instance_uid)
    if reason is not None:
        return outcome_of(reason)
    if told.get("ReferencedSOPSequence"):
        if not _named(told, "ReferencedSOPSequence", sop_instance_uid):
            return failed(f"{http} speaks of other objects than the one that was sent")
        warning = _reason(told, "ReferencedSOPSequence", "WarningReason", sop_instance_uid)
        if warning:
            return Outcome(
                kind=OutcomeKind.DELIVERED,
                status=warning,
                message=f"stored, {http}, warning 0x{warning:04X}",
            )
    elif any(told.get(keyword) for keyword in _FAILURES):
        return failed(f"{http} speaks of a failure, and of nothing stored")
    return Outcome(kind=OutcomeKind.DELIVERED, status=0x0000, message=f"stored, {http}")


def outcome_of_refusal(told: Dataset, sop_instance_uid: str, http_status: int) -> Outcome:
    """Classify an answer with an HTTP status of 400 or above.

    What the service says of the object counts before the HTTP status.
    """
    reason = _reason(told, "FailedSOPSequence", "FailureReason", sop_instance_uid)
    if reason is not None:
        outcome = outcome_of(reason)
        present = outcome.present or (http_status == _CONFLICT and reason in _PRESENT)
        return replace(outcome, present=present)
    if http_status in _NOT_THERE:
        return failed(_NOT_THERE[http_status], reached=False)
    if http_status in _NOT_ACCEPTED:
        why = _NOT_ACCEPTED[http_status]
        return Outcome(kind=OutcomeKind.NOT_ACCEPTED, status=None, message=why)
    if http_status in _FOR_GOOD:
        # A conflict without a word of a failure: that is how some say that they have it.
        present = http_status == _CONFLICT and not any(told.get(one) for one in _FAILURES)
        why = _FOR_GOOD[http_status]
        return Outcome(kind=OutcomeKind.REFUSED, status=None, message=why, present=present)
    return failed(f"it cannot just now (HTTP {http_status})")


def _with_client(
    destination: WebDestination,
    bounds: Bounds,
    action: Callable[[DICOMwebClient, Answers], Outcome],
) -> Outcome:
    """Do something with a client of its own; turn every failure into an outcome."""
    try:
        with client_of(destination, bounds) as (client, answers):
            return action(client, answers)
    except (OSError, ValueError) as error:  # requests' own are OSErrors
        return outcome_of_error(error, destination)
    except Exception as error:  # noqa: BLE001 - dicomweb-client raises anything over an odd answer
        return failed(f"its answer cannot be read ({type(error).__name__})")


def _told_with(answer: requests.Response) -> Dataset:
    """Return what a refusal says in DICOM; empty where it says nothing that can be read."""
    try:
        return Dataset.from_json(answer.json())
    except (ValueError, TypeError, AttributeError, KeyError):
        return Dataset()


def _reason(told: Dataset, sequence: str, keyword: str, sop_instance_uid: str) -> int | None:
    """Return what is said of an object; of the only one when no object is named."""
    for item in told.get(sequence) or ():
        if not sop_instance_uid or item.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            reason = item.get(keyword)
            return None if reason is None else int(reason)
    return None


def _named(told: Dataset, sequence: str, sop_instance_uid: str) -> bool:
    return any(
        item.get("ReferencedSOPInstanceUID") == sop_instance_uid for item in told.get(sequence)
    )
