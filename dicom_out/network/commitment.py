"""The storage commitment SCU: asks a destination to commit to objects, and reads its reports.

Push Model (PS3.4 annex J). The N-ACTION names the objects under a Transaction UID. The destination
answers with an N-EVENT-REPORT: on the same association while it stands, or minutes or hours later
on an association that it requests. :class:`ReportHandler` serves both.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from chestct.errors import OutOfResources, ReportInvalid
from chestct.results import CommitmentReport, ResultObject
from chestct.uids import Uid
from dicom_out.network.allowance import Bounds, Conversations, whole_seconds
from dicom_out.network.association import Conversation, associated
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind
from dicom_out.reference import sop_reference
from pynetdicom_guard.reactor_gate import park_reactor

_LOG = logging.getLogger(__name__)

PUSH_MODEL = UID("1.2.840.10008.1.20.1")
"""Storage Commitment Push Model SOP Class."""
PUSH_MODEL_INSTANCE = UID("1.2.840.10008.1.20.1.1")
"""The well-known SOP Instance of that class (PS3.4 section J.3.5)."""
SYNTAXES: tuple[str | UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

_REQUEST_STORAGE_COMMITMENT = 1
"""Action Type ID (PS3.4 table J.3-1)."""
_EVENT_TYPES = (1, 2)
"""Request successful; failures exist (PS3.4 table J.3-2)."""
COMMITMENT_BYTES = 4 << 20
"""Bytes that a destination may send in one association; a report has 200 for each object."""
LINGER_SECONDS = 5.0
"""How long the association stays open for a report on it."""
_POLL_SECONDS = 0.1
_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object there",
    0x0119: "SOP Class and Instance do not match",
    0x0122: "SOP Class not supported",
    0x0131: "Transaction UID used before",
    0x0213: "resources exhausted",
}
_FINAL = frozenset({0x0119, 0x0122})


class ReportStatus(IntEnum):
    """Statuses that answer an N-EVENT-REPORT (PS3.7 section 10.1.1.1.8)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    INVALID_ARGUMENT_VALUE = 0x0115
    RESOURCE_LIMITATION = 0x0213


def explain(reason: int) -> str:
    """Return a Failure Reason in words (PS3.3 section C.14.1.1)."""
    return f"{_REASONS.get(reason, 'not committed')} (0x{reason:04X})"


def known_reasons() -> tuple[int, ...]:
    """Return the Failure Reasons that :func:`explain` has words for."""
    return tuple(_REASONS)


def is_final(reason: int) -> bool:
    """Return whether sending the same object again cannot change the answer."""
    return reason in _FINAL


def parse_report(event_type: int | None, information: Dataset) -> CommitmentReport:
    """Read the Event Information of an N-EVENT-REPORT (PS3.4 table J.3-2).

    An object in both sequences counts as failed.

    Raises:
        ReportInvalid: It is not a report.
    """
    if event_type not in _EVENT_TYPES:
        raise ReportInvalid(f"Event Type ID is {event_type}; it must be one of {_EVENT_TYPES}")
    try:
        failed = {
            Uid(str(item.ReferencedSOPInstanceUID)): int(
                item.get("FailureReason") or ReportStatus.PROCESSING_FAILURE
            )
            for item in _items(information, "FailedSOPSequence")
        }
        committed = frozenset(
            Uid(str(item.ReferencedSOPInstanceUID))
            for item in _items(information, "ReferencedSOPSequence")
        )
        return CommitmentReport(
            transaction_uid=Uid(str(information.TransactionUID)),
            committed=committed - failed.keys(),
            failed=failed,
        )
    except (AttributeError, ValueError, TypeError) as error:
        raise ReportInvalid("the report lacks a UID or has a malformed UID") from error


def _items(information: Dataset, keyword: str) -> Iterator[Dataset]:
    yield from information.get(keyword) or ()


class ReportHandler:
    """Handles EVT_N_EVENT_REPORT, on either side of an association.

    ``sink`` records a report and returns whether its transaction is known.
    """

    def __init__(self, sink: Callable[[CommitmentReport], bool]) -> None:
        self._sink = sink

    def __call__(self, event: Event) -> tuple[int, None]:
        """Answer an N-EVENT-REPORT; success only when the report is recorded."""
        return int(self._status(event)), None

    def _status(self, event: Event) -> ReportStatus:
        try:
            report = parse_report(event.event_type, event.event_information)
            if self._sink(report):
                return ReportStatus.SUCCESS
            _LOG.warning("refused a storage commitment report: its transaction is unknown")
        except ReportInvalid as error:
            _LOG.warning("refused a storage commitment report: %s", error)
        except OutOfResources as error:
            _LOG.warning("a storage commitment report cannot be recorded now: %s", error)
            return ReportStatus.RESOURCE_LIMITATION
        except Exception:  # noqa: BLE001 - no exception may leak into the protocol machine
            _LOG.exception("unexpected error in a storage commitment report")
            return ReportStatus.PROCESSING_FAILURE
        return ReportStatus.INVALID_ARGUMENT_VALUE


def push_model_context() -> PresentationContext:
    """Return the context to propose for a request."""
    return build_context(PUSH_MODEL, list(SYNTAXES))


def request_commitment(
    objects: Sequence[ResultObject],
    destination: Destination,
    *,
    transaction_uid: Uid,
    calling_ae: str,
    timeout_seconds: float,
    on_report: ReportHandler,
    answered: threading.Event,
    under_way: Conversations | None = None,
) -> Outcome:
    """Ask ``destination`` to commit to ``objects``; return the outcome of the request.

    DELIVERED means that the destination will report. The association stays open some seconds for a
    report on it, until ``answered``. Never raises for what the destination or the network does.
    """
    handlers = [(evt.EVT_N_EVENT_REPORT, on_report)]
    bounds = Bounds(
        silence_seconds=timeout_seconds,
        whole_seconds=whole_seconds(timeout_seconds, messages=1, content=0) + LINGER_SECONDS,
        most_bytes=COMMITMENT_BYTES,
        setting="delivery.timeout_seconds",
        under_way=under_way,
    )
    contexts = [push_model_context()]
    with associated(destination, contexts, calling_ae, bounds, handlers=handlers) as conversation:
        if conversation.association is None:
            return conversation.failure
        outcome = _ask(
            conversation, conversation.association, _information(objects, transaction_uid)
        )
        if outcome.kind is OutcomeKind.DELIVERED:
            _linger(conversation.association, answered)
        return outcome


def _information(objects: Sequence[ResultObject], transaction_uid: Uid) -> Dataset:
    """Return the Action Information (PS3.4 table J.3-1)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [
        sop_reference(item.sop_class_uid, item.sop_instance_uid) for item in objects
    ]
    return information


def _ask(conversation: Conversation, association: Association, information: Dataset) -> Outcome:
    if not park_reactor(association):
        return conversation.failed("no answer to N-ACTION")
    try:
        response: Any
        response, _ = association.send_n_action(
            information, _REQUEST_STORAGE_COMMITMENT, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
    except (RuntimeError, ValueError, AttributeError) as error:
        return conversation.failed(f"N-ACTION could not be sent: {error}")
    if "Status" not in response:
        return conversation.failed("no answer to N-ACTION")
    status = int(response.Status)
    if status:
        return Outcome(
            kind=OutcomeKind.FAILED, status=status, message=f"N-ACTION status 0x{status:04X}"
        )
    return Outcome(kind=OutcomeKind.DELIVERED, status=0, message="commitment requested")


def _linger(association: Association, answered: threading.Event) -> None:
    deadline = time.monotonic() + LINGER_SECONDS
    while association.is_established and time.monotonic() < deadline:
        if answered.wait(_POLL_SECONDS):
            return
