"""What waits for one destination, and what becomes of each object there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby, takewhile
from typing import Protocol

from chestct.results import ResultObject
from chestct.states import DeliveryState
from dicom_out.network.outcome import Outcome, OutcomeKind
from dicom_out.network.recipients import Recipient
from rales.state.results import is_seg, load_objects
from rales.state.store import Delivery, DeliveryStore, JobStore
from rales.steps.backoff import BackOff

_LOG = logging.getLogger(__name__)

_DAMAGED_ATTEMPTS = 3
"""So often a result file is looked for that is missing or damaged: it does not heal."""


class Sender(Protocol):
    """Sends objects to a destination; really :func:`dicom_out.network.recipients.send_to`."""

    def __call__(
        self, objects: Sequence[ResultObject], destination: Recipient
    ) -> Iterable[Outcome]:
        """Yield one outcome per object, in order; never raises for a remote failure."""


class DestinationQueue:
    """The :class:`rales.steps.outbox.Queue` of the deliveries to one destination."""

    def __init__(
        self,
        destination: Recipient,
        *,
        jobs: JobStore,
        deliveries: DeliveryStore,
        sender: Sender,
        back_off: BackOff,
        clock: Callable[[], datetime],
    ) -> None:
        self._destination = destination
        self._jobs = jobs
        self._deliveries = deliveries
        self._sender = sender
        self._back_off = back_off
        self._clock = clock

    def due(self, *, at: datetime) -> Sequence[Sequence[Delivery]]:
        """Return what is due, the objects of a job together."""
        due = self._deliveries.due(at=at, destination=self._destination.name)
        return [list(group) for _, group in groupby(due, key=lambda one: one.job_id)]

    def next_due(self) -> datetime | None:
        """Return when the next object is due."""
        return self._deliveries.next_due(destination=self._destination.name)

    def admit(self, group: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the whole group; nothing where a newer revision took over."""
        return group if self._deliveries.may_send(group, at=self._clock()) else ()

    def attempt(self, group: Sequence[Delivery]) -> Iterable[Outcome]:
        """Send the objects of a job, up to the first that the job does not know."""
        by_role = {one.role: one for one in load_objects(self._jobs.get(group[0].job_id))}
        known = [by_role[one.role] for one in takewhile(lambda it: it.role in by_role, group)]
        if known:
            yield from self._sender(known, self._destination)
        else:
            message = f"the results of the job hold no {group[0].role}"
            yield Outcome(kind=OutcomeKind.DAMAGED, status=None, message=message)

    def failed(self, error: Exception) -> Outcome:
        """Return a failure for now; the text of an error may name a patient."""
        message = f"could not be sent: {type(error).__name__}"
        return Outcome(kind=OutcomeKind.FAILED, status=None, message=message)

    def is_down(self, result: Outcome) -> bool:
        """Tell whether there was no association."""
        return not result.reached

    def key(self, item: Delivery) -> tuple[int, str]:
        """Return job and role."""
        return item.job_id, item.role

    def record(self, item: Delivery, result: Outcome) -> None:
        """Write down what became of an object."""
        if result.kind is OutcomeKind.DELIVERED or (result.present and item.sent):
            self._taken(item, result)
            return
        instead = self._instead(item, result)
        attempts = item.attempts + 1
        if instead or result.kind is OutcomeKind.REFUSED:
            self._refuse(item, result.status, result.message, instead=instead)
        elif result.kind is OutcomeKind.DAMAGED and attempts >= _DAMAGED_ATTEMPTS:
            self._refuse(item, result.status, f"not sent: {result.message}")
        elif self._back_off.is_spent(item.created_at, self._clock()):
            self._refuse(item, result.status, f"given up: {result.message}")
        else:
            self._postpone(item, result, attempts)

    def abandon(self, item: Delivery, why: str) -> None:
        """End an object as refused."""
        self._refuse(item, None, f"given up: {why}")

    def _taken(self, item: Delivery, result: Outcome) -> None:
        """Record a delivery; where the destination commits to what it keeps, a first half of it."""
        said, now = result.message, self._clock()
        if result.kind is not OutcomeKind.DELIVERED:
            said = f"there already, from an attempt whose answer was lost: {said}"
        if self._destination.commitment:
            self._deliveries.stored(item, status=result.status, message=said, at=now)
        else:
            self._deliveries.settle(
                item, DeliveryState.DELIVERED, status=result.status, message=said, at=now
            )

    def _instead(self, item: Delivery, result: Outcome) -> Sequence[ResultObject]:
        """Return what is configured in place of a SEG that the destination will not have."""
        refuses = result.kind in {OutcomeKind.REFUSED, OutcomeKind.NOT_ACCEPTED} and result.reached
        if not (refuses and is_seg(item.role) and self._destination.fallback):
            return ()
        by_role = {one.role: one for one in load_objects(self._jobs.get(item.job_id))}
        return [by_role[extra] for extra in self._destination.fallback if extra in by_role]

    def _postpone(self, item: Delivery, result: Outcome, attempts: int) -> None:
        waits_for_them = result.kind is OutcomeKind.NOT_ACCEPTED
        pause = self._back_off.long_delay() if waits_for_them else self._back_off.delay(attempts)
        due_at = self._clock() + pause
        unanswered = result.kind is OutcomeKind.FAILED and result.status is None
        self._deliveries.postpone(
            item,
            due_at=due_at,
            status=result.status,
            message=result.message,
            may_be_there=result.reached and unanswered,
        )
        if waits_for_them and item.message == result.message:
            return  # said once
        _LOG.warning(
            "delivery of the %s of job %d to %s failed (attempt %d, again at %s): %s",
            item.role,
            item.job_id,
            item.destination,
            attempts,
            due_at.isoformat(timespec="seconds"),
            result.message,
        )

    def _refuse(
        self,
        item: Delivery,
        status: int | None,
        message: str,
        *,
        instead: Sequence[ResultObject] = (),
    ) -> None:
        """Record that an object will not be delivered; plan what is sent instead."""
        _LOG.error(
            "the %s of job %d will not be delivered to %s: %s%s",
            item.role,
            item.job_id,
            item.destination,
            message,
            "".join(f"; it gets the {one.role} instead" for one in instead),
        )
        self._deliveries.settle(
            item,
            DeliveryState.REPLACED if instead else DeliveryState.REFUSED,
            status=status,
            message=message,
            at=self._clock(),
            instead=[(one.role, one.sop_instance_uid) for one in instead],
        )
