"""Requests storage commitment from destinations, and sends uncommitted objects again.

With ``commitment = true``, a delivery counts as delivered when a storage commitment report says
so. Until then its job is delivering, and retention releases nothing of it. If the destination does
not commit to an object, or does not answer in time, Rales sends the object again under the same UID
and requests again, until it gives the object up like any delivery.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol
from uuid import uuid4

from chestct.results import CommitmentReport, ResultObject
from chestct.states import DeliveryState
from chestct.uids import OwnUid, Uid
from dicom_out.network.commitment import ReportHandler, explain, is_final
from dicom_out.network.destination import Destination, Recipient
from dicom_out.network.outcome import Outcome, OutcomeKind
from rales.state.results import load_objects
from rales.state.store import CommitmentStore, Delivery, JobStore
from rales.state.store.outbox import Attempt
from rales.steps.backoff import BackOff
from rales.steps.outbox import OutboxWorker

_LOG = logging.getLogger(__name__)


class Requester(Protocol):
    """Sends one N-ACTION: :func:`dicom_out.network.commitment.request_commitment`, or a fake."""

    def __call__(
        self,
        objects: Sequence[ResultObject],
        destination: Destination,
        *,
        transaction_uid: Uid,
        on_report: ReportHandler,
        answered: threading.Event,
    ) -> Outcome:
        """Return the outcome of the request; never raise for a remote failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a request for one object, or of the wait for its report."""

    outcome: Outcome
    transaction_uid: Uid | None = None
    overdue: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Records the results of commitment requests and reports."""

    commitments: CommitmentStore
    back_off: BackOff
    clock: Callable[[], datetime]

    def settle_without(self, delivery: Delivery) -> None:
        """End the wait of an object whose destination is configured without commitment now."""
        message = "stored; no commitment is requested from this destination any more"
        self._record(delivery, DeliveryState.DELIVERED, message)

    def request_failed(self, delivery: Delivery, outcome: Outcome) -> None:
        """Record a request that the destination did not accept: repeat it or give it up."""
        message = f"commitment cannot be requested: {outcome.message}"
        no_service = outcome.kind is OutcomeKind.NOT_ACCEPTED and outcome.reached
        if no_service or outcome.kind is OutcomeKind.REFUSED:
            self.refuse(delivery, f"{message}. destinations.commitment = false does without it")
        elif (due_at := self._next_attempt(delivery)) is None:
            self.refuse(delivery, f"given up: {message}")
        else:
            self._record(delivery, DeliveryState.STORED, message, due_at=due_at, counted=True)
            _warn(delivery, message)

    def send_again(self, delivery: Delivery, message: str) -> None:
        """Send an object again that was not committed, or give it up."""
        if (due_at := self._next_attempt(delivery)) is None:
            self.refuse(delivery, f"given up: {message}")
            return
        self._record(delivery, DeliveryState.PENDING, f"{message}; sent again", due_at=due_at)
        _warn(delivery, f"{message}; it is sent again")

    def refuse(self, delivery: Delivery, message: str) -> None:
        """End the wait: the destination does not commit to the object."""
        self._record(delivery, DeliveryState.REFUSED, message)
        _LOG.error(
            "the %s of job %d is not committed by %s: %s",
            delivery.role,
            delivery.job_id,
            delivery.destination,
            message,
        )

    def _next_attempt(self, delivery: Delivery) -> datetime | None:
        attempts = max(1, delivery.attempts)
        return self.back_off.next_attempt(attempts, since=delivery.created_at, now=self.clock())

    def _record(
        self,
        delivery: Delivery,
        state: DeliveryState,
        message: str,
        *,
        due_at: datetime | None = None,
        counted: bool = False,
    ) -> None:
        self.commitments.record(
            delivery,
            Attempt(
                state=state,
                message=message,
                at=self.clock(),
                due_at=due_at,
                status=delivery.status,
                counted=counted,
            ),
        )


class CommitmentQueue:
    """The :class:`rales.steps.outbox.Queue` of one destination that commits to its objects.

    ``request`` requests commitment to objects of one job.
    """

    def __init__(
        self,
        destination: Recipient,
        *,
        ledger: Ledger,
        request: Callable[[Destination, Sequence[Delivery]], Answer],
        timeout: timedelta,
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._request = request
        self._timeout = timeout

    def due(self, *, at: datetime) -> Sequence[Sequence[Delivery]]:
        """Return the objects to request, those of a job together, and the overdue ones.

        When the destination is configured without commitment now, return every object that waits.
        """
        due = self._ledger.commitments.due(
            self._destination.name, at=at if self._destination.commitment else None
        )
        return [
            list(group)
            for _, group in groupby(due, key=lambda item: (item.job_id, item.transaction_uid))
        ]

    def next_due(self) -> datetime | None:
        """Return when the next object is due."""
        return self._ledger.commitments.next_due(self._destination.name)

    def admit(self, group: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the group, unless the destination is configured without commitment now."""
        if self._destination.commitment:
            return group
        for delivery in group:
            self._ledger.settle_without(delivery)
        return ()

    def attempt(self, group: Sequence[Delivery]) -> Iterator[Answer]:
        """Request commitment to a group; a group that was requested before is overdue."""
        if group[0].transaction_uid is not None:
            message = f"no commitment report within {self._timeout}"
            outcome = Outcome(kind=OutcomeKind.FAILED, status=None, message=message)
            answer = Answer(outcome=outcome, overdue=True)
        else:
            assert isinstance(self._destination, Destination)
            answer = self._request(self._destination, group)
        yield from (answer for _ in group)

    def failed(self, error: Exception) -> Answer:
        """Return a temporary failure."""
        message = f"it raised {type(error).__name__}"
        return Answer(outcome=Outcome(kind=OutcomeKind.FAILED, status=None, message=message))

    def is_down(self, result: Answer) -> bool:
        """Return whether the destination was not reached."""
        return not result.outcome.reached

    def record(self, item: Delivery, result: Answer) -> None:
        """Record the result of a request, or that its report is overdue."""
        if result.overdue or item.transaction_uid is not None:
            self._ledger.send_again(item, result.outcome.message)
        elif result.outcome.kind is not OutcomeKind.DELIVERED:
            requested = replace(item, transaction_uid=result.transaction_uid)
            self._ledger.request_failed(requested, result.outcome)

    def abandon(self, item: Delivery, why: str) -> None:
        """End the wait of an object."""
        self._ledger.refuse(item, f"given up: {why}")

    def key(self, item: Delivery) -> tuple[int, str]:
        """Return the job and the role of an object."""
        return item.job_id, item.role


class CommitmentWorker(OutboxWorker[Delivery, Answer]):
    """The commitment loops, one for each destination, and the handler of the reports.

    ``on_report`` handles EVT_N_EVENT_REPORT of the receiver and of our own associations.
    """

    def __init__(
        self,
        *,
        jobs: JobStore,
        commitments: CommitmentStore,
        destinations: Mapping[str, Recipient],
        requester: Requester,
        back_off: BackOff,
        timeout: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._jobs = jobs
        self._commitments = commitments
        self._requester = requester
        self._timeout = timeout
        self._clock = clock
        self._ledger = Ledger(commitments=commitments, back_off=back_off, clock=clock)
        self._answered: dict[Uid, threading.Event] = {}
        self.on_report = ReportHandler(self.take)
        queues = {
            name: CommitmentQueue(
                destination, ledger=self._ledger, request=self._request, timeout=timeout
            )
            for name, destination in destinations.items()
        }
        super().__init__("commitment", queues, clock)

    def take(self, report: CommitmentReport) -> bool:
        """Record a report; return whether this node made a request with its Transaction UID.

        Raises:
            OutOfResources: The report cannot be recorded now.
        """
        failed = self._commitments.report(report, at=self._clock())
        if failed is None:
            return False
        _LOG.info(
            "storage commitment: %d objects committed, %d not",
            len(report.committed),
            len(report.failed),
        )
        for delivery, reason in failed:
            if is_final(reason):
                self._ledger.refuse(delivery, f"not committed: {explain(reason)}")
            else:
                self._ledger.send_again(delivery, f"not committed: {explain(reason)}")
        answered = self._answered.get(report.transaction_uid)
        if answered is not None:
            answered.set()
        return True

    def _request(self, destination: Destination, deliveries: Sequence[Delivery]) -> Answer:
        by_role = {item.role: item for item in load_objects(self._jobs.get(deliveries[0].job_id))}
        objects = [by_role[delivery.role] for delivery in deliveries]
        transaction_uid = OwnUid(f"2.25.{uuid4().int}")
        now = self._clock()
        self._commitments.request(deliveries, transaction_uid, at=now, until=now + self._timeout)
        answered = self._answered.setdefault(transaction_uid, threading.Event())
        try:
            outcome = self._requester(
                objects,
                destination,
                transaction_uid=transaction_uid,
                on_report=self.on_report,
                answered=answered,
            )
        finally:
            del self._answered[transaction_uid]
        return Answer(outcome=outcome, transaction_uid=transaction_uid)


def _warn(delivery: Delivery, message: str) -> None:
    _LOG.warning(
        "the %s of job %d at %s: %s",
        delivery.role,
        delivery.job_id,
        delivery.destination,
        message,
    )
