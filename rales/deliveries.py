"""Delivers what is due: per destination, with back-off, until taken, refused or given up."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol

from chestct.results import ResultObject
from chestct.states import DeliveryState, JobState
from dicom_out.recipients import Recipient
from dicom_out.sender import Outcome, OutcomeKind
from rales.clock import nothing_skipped
from rales.results import is_seg, load_objects, objects_for
from rales.store import Delivery, DeliveryStore, JobStore
from rales.store.jobs import Job

_LOG = logging.getLogger(__name__)


class Sender(Protocol):
    """Sends objects to one destination; :func:`dicom_out.recipients.send_to` is the real one."""

    def __call__(
        self, objects: Sequence[ResultObject], destination: Recipient
    ) -> Sequence[Outcome]:
        """Return one outcome per object, in order; never raises for a remote failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Exponential: first, doubled each time up to longest; given up after a while.

    ``jitter`` is the part of a pause, 0 to 1, that chance may take away, so that what failed
    together is not tried again together. ``skipped_since`` says what the clock only skipped:
    nothing is given up for that.
    """

    first: timedelta
    longest: timedelta
    give_up_after: timedelta
    jitter: float = 0.0
    skipped_since: Callable[[datetime], timedelta] = nothing_skipped

    def is_spent(self, since: datetime, now: datetime) -> bool:
        """Tell whether what has been tried since ``since`` is to be given up."""
        return now - since - self.skipped_since(since) > self.give_up_after

    def delay(self, attempts: int) -> timedelta:
        """Return the pause after ``attempts`` failed attempts (1 or more)."""
        factor: float = 2.0 ** min(attempts - 1, 30)
        pause = min(self.first * factor, self.longest)
        return pause * (1.0 - self.jitter * random.random())  # noqa: S311 - no secret


class DeliveryWorker:
    """Plans, sends and closes deliveries.

    :meth:`plan` is the step of one loop and :meth:`send_due` that of one loop for each
    destination, so that a slow one keeps no other waiting.
    """

    def __init__(
        self,
        *,
        jobs: JobStore,
        deliveries: DeliveryStore,
        destinations: Mapping[str, Recipient],
        sender: Sender,
        back_off: BackOff,
        clock: Callable[[], datetime],
    ) -> None:
        self._jobs = jobs
        self._deliveries = deliveries
        self._destinations = destinations
        self._sender = sender
        self._back_off = back_off
        self._clock = clock
        self._parked = threading.Event()

    def park(self) -> None:
        """Begin no further sending; what is under way may end."""
        self._parked.set()

    def step(self, now: datetime) -> datetime | None:
        """Do everything in one thread: plan, send to each destination in turn, close."""
        self.plan(now)
        for name in self._destinations:
            self.send_due(name, now)
        self._deliveries.finish_jobs(at=self._clock())
        return self._deliveries.next_due()

    def plan(self, now: datetime) -> datetime | None:
        """Plan the deliveries of new results; withdraw, refuse and close what has ended."""
        for job in self._jobs.to_plan(at=now):
            with self._jobs.as_one():
                self._plan(job, now)
        self._deliveries.withdraw_superseded(at=now)
        for delivery in self._deliveries.due(at=now):
            if delivery.destination not in self._destinations:
                message = f"no destination {delivery.destination!r} is configured any more"
                self._refuse(delivery, None, message)
        self._deliveries.finish_jobs(at=now)
        return self._jobs.next_to_plan()

    def send_due(self, name: str, now: datetime) -> datetime | None:
        """Send what is due at one destination; return when the next is.

        When there is no association to be had, one attempt stands for all that is due: a
        destination that is down is not asked a hundred times in a row.
        """
        due = self._deliveries.due(at=now, destination=name)
        gone: Outcome | None = None
        for job_id, items in groupby(due, key=lambda one: one.job_id):
            group = list(items)
            if self._parked.is_set():
                break
            if not self._deliveries.may_send(group, at=self._clock()):
                continue
            if gone is not None:
                for delivery in group:
                    self._record(delivery, gone)
            else:
                outcomes = self._deliver(self._jobs.get(job_id), self._destinations[name], group)
                gone = next((one for one in outcomes if _is_down(one)), None)
        if due:
            self._deliveries.finish_jobs(at=self._clock())
        return self._deliveries.next_due(destination=name)

    def _plan(self, job: Job, now: datetime) -> None:
        if self._jobs.has_newer(job):
            self._jobs.move(
                job,
                JobState.SUPERSEDED,
                at=now,
                message="more instances arrived during the analysis: not delivered",
            )
            return
        objects = load_objects(job)
        planned = {
            name: [
                (item.role, item.sop_instance_uid)
                for item in objects_for(destination.segmentation, destination.extras, objects)
            ]
            for name, destination in self._destinations.items()
        }
        self._deliveries.begin(job, planned=planned, at=now)

    def _deliver(
        self, job: Job, destination: Recipient, group: Sequence[Delivery]
    ) -> Sequence[Outcome]:
        by_role = {item.role: item for item in load_objects(job)}
        objects = [by_role[delivery.role] for delivery in group]
        outcomes = self._sender(objects, destination)
        for delivery, outcome in zip(group, outcomes, strict=True):
            if destination.commitment and outcome.kind is OutcomeKind.DELIVERED:
                self._deliveries.stored(
                    delivery, status=outcome.status, message=outcome.message, at=self._clock()
                )
            elif _refuses_seg(delivery, outcome):
                instead = [by_role[extra] for extra in destination.fallback if extra in by_role]
                self._refuse(delivery, outcome.status, outcome.message, instead=instead)
            else:
                self._record(delivery, outcome)
        return outcomes

    def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        now = self._clock()
        if outcome.kind is OutcomeKind.DELIVERED:
            self._deliveries.settle(
                delivery,
                DeliveryState.DELIVERED,
                status=outcome.status,
                message=outcome.message,
                at=now,
            )
        elif outcome.kind is OutcomeKind.REFUSED:
            self._refuse(delivery, outcome.status, outcome.message)
        elif self._back_off.is_spent(delivery.created_at, now):
            self._refuse(delivery, outcome.status, f"given up: {outcome.message}")
        else:
            attempts = delivery.attempts + 1
            due_at = now + self._back_off.delay(attempts)
            self._deliveries.postpone(
                delivery,
                due_at=due_at,
                status=outcome.status,
                message=outcome.message,
                may_be_there=outcome.reached and outcome.status is None,
            )
            _LOG.warning(
                "delivery of the %s of job %d to %s failed (attempt %d, again at %s): %s",
                delivery.role,
                delivery.job_id,
                delivery.destination,
                attempts,
                due_at.isoformat(timespec="seconds"),
                outcome.message,
            )

    def _refuse(
        self,
        delivery: Delivery,
        status: int | None,
        message: str,
        *,
        instead: Sequence[ResultObject] = (),
    ) -> None:
        """Record that an object will not be delivered; plan what is sent instead."""
        _LOG.error(
            "the %s of job %d will not be delivered to %s: %s%s",
            delivery.role,
            delivery.job_id,
            delivery.destination,
            message,
            "".join(f"; it gets the {item.role} instead" for item in instead),
        )
        self._deliveries.settle(
            delivery,
            DeliveryState.REPLACED if instead else DeliveryState.REFUSED,
            status=status,
            message=message,
            at=self._clock(),
            instead=[(item.role, item.sop_instance_uid) for item in instead],
        )


def _refuses_seg(delivery: Delivery, outcome: Outcome) -> bool:
    """Tell whether the destination itself will not have a SEG, so that nothing shows there."""
    return is_seg(delivery.role) and outcome.kind is OutcomeKind.REFUSED and outcome.reached


def _is_down(outcome: Outcome) -> bool:
    return outcome.kind is OutcomeKind.FAILED and not outcome.reached
