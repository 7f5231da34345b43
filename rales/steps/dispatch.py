"""The queue of one destination: sends the due objects and records each result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby, takewhile
from typing import Protocol

from chestct.results import ResultObject
from chestct.states import DeliveryState
from dicom_out.network.destination import Recipient
from dicom_out.network.outcome import Outcome, OutcomeKind
from rales.state.results import is_seg, load_objects
from rales.state.store import Delivery, DeliveryStore, JobStore
from rales.state.store.outbox import Attempt
from rales.steps.backoff import LONGEST, BackOff

_LOG = logging.getLogger(__name__)

_DAMAGED_ATTEMPTS = 3
"""Give up on an object after this many attempts that found its file missing or damaged."""


class Sender(Protocol):
    """Sends objects to a destination: :func:`dicom_out.network.recipients.send_to`, or a fake."""

    def __call__(
        self, objects: Sequence[ResultObject], destination: Recipient
    ) -> Iterable[Outcome]:
        """Yield one outcome for each object, in order; never raise for a remote failure."""


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
        """Return the due objects, those of a job together."""
        due = self._deliveries.due(self._destination.name, at=at)
        return [list(group) for _, group in groupby(due, key=lambda delivery: delivery.job_id)]

    def next_due(self) -> datetime | None:
        """Return when the next object is due."""
        return self._deliveries.next_due(self._destination.name)

    def admit(self, group: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the whole group, or nothing when a newer revision took over."""
        return group if self._deliveries.may_send(group, at=self._clock()) else ()

    def attempt(self, group: Sequence[Delivery]) -> Iterable[Outcome]:
        """Send the objects of a job, up to the first that its results lack."""
        by_role = {item.role: item for item in load_objects(self._jobs.get(group[0].job_id))}
        roles = (delivery.role for delivery in group)
        known = [by_role[role] for role in takewhile(by_role.__contains__, roles)]
        if known:
            yield from self._sender(known, self._destination)
        else:
            message = f"the results of job {group[0].job_id} hold no {group[0].role}"
            yield Outcome(kind=OutcomeKind.DAMAGED, status=None, message=message)

    def failed(self, error: Exception) -> Outcome:
        """Return a temporary failure without the error's text, which may name a patient."""
        message = f"could not be sent: {type(error).__name__}"
        return Outcome(kind=OutcomeKind.FAILED, status=None, message=message)

    def is_down(self, result: Outcome) -> bool:
        """Return whether the destination was not reached."""
        return not result.reached

    def key(self, item: Delivery) -> tuple[int, str]:
        """Return the job and the role of an object."""
        return item.job_id, item.role

    def record(self, item: Delivery, result: Outcome) -> None:
        """Record the result of an attempt at an object."""
        if result.kind is OutcomeKind.DELIVERED or (result.present and item.sent):
            self._take(item, result)
            return
        instead = self._fallback(item, result)
        attempts = item.attempts + 1
        waits_for_people = result.kind is OutcomeKind.NOT_ACCEPTED
        due_at = self._back_off.next_attempt(
            LONGEST if waits_for_people else attempts, since=item.created_at, now=self._clock()
        )
        if instead or result.kind is OutcomeKind.REFUSED:
            self._refuse(item, result.status, result.message, instead=instead)
        elif result.kind is OutcomeKind.DAMAGED and attempts >= _DAMAGED_ATTEMPTS:
            self._refuse(item, result.status, f"not sent: {result.message}")
        elif due_at is None:
            self._refuse(item, result.status, f"given up: {result.message}")
        else:
            self._postpone(item, result, due_at)

    def abandon(self, item: Delivery, why: str) -> None:
        """End an object as refused."""
        self._refuse(item, None, f"given up: {why}")

    def _take(self, item: Delivery, result: Outcome) -> None:
        """Record a delivery. A destination that commits to its objects has stored it only."""
        message, now = result.message, self._clock()
        if result.kind is not OutcomeKind.DELIVERED:
            message = f"stored already, by an earlier attempt whose answer was lost: {message}"
        commits = self._destination.commitment
        attempt = Attempt(
            state=DeliveryState.STORED if commits else DeliveryState.DELIVERED,
            status=result.status,
            message=message,
            at=now,
            due_at=now if commits else None,
        )
        self._deliveries.record(item, attempt)

    def _fallback(self, item: Delivery, result: Outcome) -> Sequence[ResultObject]:
        """Return the configured replacements of a SEG that the destination does not accept."""
        refuses = result.kind in {OutcomeKind.REFUSED, OutcomeKind.NOT_ACCEPTED} and result.reached
        if not (refuses and is_seg(item.role) and self._destination.fallback):
            return ()
        by_role = {extra.role: extra for extra in load_objects(self._jobs.get(item.job_id))}
        return [by_role[role] for role in self._destination.fallback if role in by_role]

    def _postpone(self, item: Delivery, result: Outcome, due_at: datetime) -> None:
        unanswered = result.kind is OutcomeKind.FAILED and result.status is None
        self._deliveries.record(
            item,
            Attempt(
                state=DeliveryState.PENDING,
                status=result.status,
                message=result.message,
                at=self._clock(),
                due_at=due_at,
            ),
            stored_nothing=not (result.reached and unanswered),
        )
        if result.kind is OutcomeKind.NOT_ACCEPTED and item.message == result.message:
            return  # logged before
        _LOG.warning(
            "delivery of the %s of job %d to %s failed (attempt %d, again at %s): %s",
            item.role,
            item.job_id,
            item.destination,
            item.attempts + 1,
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
        """Record that an object will not be delivered; plan the objects to send instead."""
        _LOG.error(
            "the %s of job %d will not be delivered to %s: %s%s",
            item.role,
            item.job_id,
            item.destination,
            message,
            "".join(f"; it gets the {extra.role} instead" for extra in instead),
        )
        self._deliveries.record(
            item,
            Attempt(
                state=DeliveryState.REPLACED if instead else DeliveryState.REFUSED,
                status=status,
                message=message,
                at=self._clock(),
            ),
            instead=[(extra.role, extra.sop_instance_uid) for extra in instead],
        )
