"""Has destinations commit to keep what they stored, and sends again what they do not have.

A delivery to a destination with ``commitment = true`` is delivered when the destination
said so in a storage commitment report. Until then its job is delivering, so that nothing of
it is released. What is not committed, or not answered for too long, is sent again under the
same UIDs and asked for again, until it is given up as any delivery is.
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
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind
from dicom_out.network.recipients import Recipient
from rales.state.results import load_objects
from rales.state.store import CommitmentStore, Delivery, JobStore
from rales.steps.backoff import BackOff
from rales.steps.outbox import Outbox

_LOG = logging.getLogger(__name__)


class Requester(Protocol):
    """Sends one N-ACTION; really :func:`dicom_out.network.commitment.request_commitment`."""

    def __call__(
        self,
        objects: Sequence[ResultObject],
        destination: Destination,
        *,
        transaction_uid: Uid,
        on_report: ReportHandler,
        answered: threading.Event,
    ) -> Outcome:
        """Return what became of the request; never raises for a remote failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What became of asking for one object: of the request, or of the wait for its report."""

    outcome: Outcome
    transaction_uid: Uid | None = None
    overdue: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Writes down what becomes of objects that wait for a commitment."""

    commitments: CommitmentStore
    back_off: BackOff
    clock: Callable[[], datetime]

    def settle_without(self, delivery: Delivery) -> None:
        """End the wait of an object at a destination that is not asked any more."""
        message = "stored; no commitment is asked of this destination any more"
        self.commitments.settle(delivery, DeliveryState.DELIVERED, message=message, at=self.clock())

    def not_asked(self, asked: Delivery, outcome: Outcome) -> None:
        """Record a request that did not get through."""
        now = self.clock()
        message = f"commitment cannot be requested: {outcome.message}"
        no_service = outcome.kind is OutcomeKind.NOT_ACCEPTED and outcome.reached
        if no_service or outcome.kind is OutcomeKind.REFUSED:
            self.refuse(asked, f"{message}. destinations.commitment = false does without it")
        elif self._is_given_up(asked, now):
            self.refuse(asked, f"given up: {message}")
        else:
            due_at = now + self.back_off.delay(max(1, asked.attempts))
            self.commitments.ask_again(asked, asked.transaction_uid, due_at=due_at, message=message)
            _warn(asked, message)

    def send_again(self, delivery: Delivery, message: str) -> None:
        """Have an object that was not committed sent once more, or give it up."""
        now = self.clock()
        if self._is_given_up(delivery, now):
            self.refuse(delivery, f"given up: {message}")
            return
        due_at = now + self.back_off.delay(max(1, delivery.attempts))
        self.commitments.send_again(delivery, due_at=due_at, message=f"{message}; sent again")
        _warn(delivery, f"{message}; it is sent again")

    def refuse(self, delivery: Delivery, message: str) -> None:
        """End the wait: the destination does not commit to the object."""
        self.commitments.settle(delivery, DeliveryState.REFUSED, message=message, at=self.clock())
        _LOG.error(
            "the %s of job %d is not committed by %s: %s",
            delivery.role,
            delivery.job_id,
            delivery.destination,
            message,
        )

    def _is_given_up(self, delivery: Delivery, now: datetime) -> bool:
        return self.back_off.is_spent(delivery.created_at, now)


class CommitmentQueue:
    """The :class:`rales.steps.outbox.Queue` of what one destination is to commit to.

    ``request`` asks it for objects of one job and returns what it said, with the transaction.
    """

    def __init__(
        self,
        destination: Recipient,
        *,
        ledger: Ledger,
        request: Callable[[Destination, Sequence[Delivery]], Asked],
        timeout: timedelta,
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._request = request
        self._timeout = timeout

    def due(self, *, at: datetime) -> Sequence[Sequence[Delivery]]:
        """Return what is to be asked for, the objects of a job together, and what is overdue.

        Where no commitment is asked for any more, whatever waits.
        """
        due = self._ledger.commitments.due(
            at=at if self._destination.commitment else None, destination=self._destination.name
        )
        return [
            list(group)
            for _, group in groupby(due, key=lambda one: (one.job_id, one.transaction_uid))
        ]

    def next_due(self) -> datetime | None:
        """Return when the next object is due."""
        return self._ledger.commitments.next_due(destination=self._destination.name)

    def admit(self, group: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the group, unless no commitment is asked of this destination any more."""
        if self._destination.commitment:
            return group
        for delivery in group:
            self._ledger.settle_without(delivery)
        return ()

    def attempt(self, group: Sequence[Delivery]) -> Iterator[Asked]:
        """Ask for a group; what was asked for already was not answered in time."""
        if group[0].transaction_uid is not None:
            message = f"no commitment report within {self._timeout}"
            outcome = Outcome(kind=OutcomeKind.FAILED, status=None, message=message)
            asked = Asked(outcome=outcome, overdue=True)
        else:
            assert isinstance(self._destination, Destination)
            asked = self._request(self._destination, group)
        yield from (asked for _ in group)

    def failed(self, error: Exception) -> Asked:
        """Return a failure for now."""
        message = f"it raised {type(error).__name__}"
        return Asked(outcome=Outcome(kind=OutcomeKind.FAILED, status=None, message=message))

    def is_down(self, result: Asked) -> bool:
        """Tell whether there was no association."""
        return not result.outcome.reached

    def record(self, item: Delivery, result: Asked) -> None:
        """Write down what became of asking for an object."""
        if result.overdue or item.transaction_uid is not None:
            self._ledger.send_again(item, result.outcome.message)
        elif result.outcome.kind is not OutcomeKind.DELIVERED:
            asked = replace(item, transaction_uid=result.transaction_uid)
            self._ledger.not_asked(asked, result.outcome)

    def abandon(self, item: Delivery, why: str) -> None:
        """End the wait of an object."""
        self._ledger.refuse(item, f"given up: {why}")

    def key(self, item: Delivery) -> tuple[int, str]:
        """Return job and role."""
        return item.job_id, item.role


class CommitmentWorker:
    """The steps of the commitment loops, one for each destination, and where the reports come in.

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
        self._parked = threading.Event()
        self._answered: dict[Uid, threading.Event] = {}
        self.on_report = ReportHandler(self.take)
        self._outboxes = {
            name: Outbox(
                f"commitment of {name}",
                CommitmentQueue(one, ledger=self._ledger, request=self._request, timeout=timeout),
                clock=clock,
                parked=self._parked,
            )
            for name, one in destinations.items()
        }

    def park(self) -> None:
        """Begin no further request; what is under way may end."""
        self._parked.set()

    def step(self, now: datetime) -> datetime | None:
        """Do everything in one thread."""
        for outbox in self._outboxes.values():
            outbox.step(now)
        return self._commitments.next_due()

    def ask_due(self, name: str, now: datetime) -> datetime | None:
        """Ask one destination for what is due, and send again what was not answered in time."""
        return self._outboxes[name].step(now)

    def take(self, report: CommitmentReport) -> bool:
        """Record a report; tell whether its transaction is known.

        Raises:
            OutOfResources: It cannot be recorded now.
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

    def _request(self, destination: Destination, deliveries: Sequence[Delivery]) -> Asked:
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
        return Asked(outcome=outcome, transaction_uid=transaction_uid)


def _warn(delivery: Delivery, message: str) -> None:
    _LOG.warning(
        "the %s of job %d at %s: %s",
        delivery.role,
        delivery.job_id,
        delivery.destination,
        message,
    )
