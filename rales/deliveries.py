"""Delivers what is due: per destination, with back-off, until taken, refused or given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol

from chestct.results import ResultObject
from chestct.states import DeliveryState, JobState
from dicom_out.sender import Destination, Outcome, OutcomeKind
from rales.results import load_objects
from rales.store import Delivery, DeliveryStore, JobStore
from rales.store.jobs import Job

_LOG = logging.getLogger(__name__)


class Sender(Protocol):
    """Sends objects to one destination; :func:`dicom_out.sender.send` is the real one."""

    def __call__(
        self, objects: Sequence[ResultObject], destination: Destination
    ) -> Sequence[Outcome]:
        """Return one outcome per object, in order; never raises for a remote failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Exponential: first, doubled each time up to longest; given up after a while."""

    first: timedelta
    longest: timedelta
    give_up_after: timedelta

    def delay(self, attempts: int) -> timedelta:
        """Return the pause after ``attempts`` failed attempts (1 or more)."""
        factor: float = 2.0 ** min(attempts - 1, 30)
        return min(self.first * factor, self.longest)


class DeliveryWorker:
    """One step of the delivery loop."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        deliveries: DeliveryStore,
        destinations: Mapping[str, Destination],
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

    def step(self, now: datetime) -> datetime | None:
        """Plan new deliveries, send what is due, close what is finished."""
        for job in self._jobs.in_state(JobState.COMPOSED):
            self._plan(job, now)
        due = self._deliveries.due(at=now)
        for (job_id, name), group in groupby(due, key=lambda one: (one.job_id, one.destination)):
            self._deliver(self._jobs.get(job_id), name, list(group))
        self._deliveries.finish_jobs(at=self._clock())
        return self._deliveries.next_due()

    def _plan(self, job: Job, now: datetime) -> None:
        if self._jobs.has_newer(job):
            self._jobs.move(
                job,
                JobState.SUPERSEDED,
                at=now,
                message="more instances arrived during the analysis: not delivered",
            )
            return
        objects = [(item.role, item.sop_instance_uid) for item in load_objects(job)]
        self._deliveries.begin(job, objects=objects, destinations=list(self._destinations), at=now)

    def _deliver(self, job: Job, name: str, group: Sequence[Delivery]) -> None:
        destination = self._destinations.get(name)
        if destination is None:
            for delivery in group:
                self._refuse(delivery, None, f"no destination {name!r} is configured any more")
            return
        by_role = {item.role: item for item in load_objects(job)}
        objects = [by_role[delivery.role] for delivery in group]
        outcomes = self._sender(objects, destination)
        for delivery, outcome in zip(group, outcomes, strict=True):
            if destination.commitment and outcome.kind is OutcomeKind.DELIVERED:
                self._deliveries.stored(
                    delivery, status=outcome.status, message=outcome.message, at=self._clock()
                )
            else:
                self._record(delivery, outcome)

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
        elif now - delivery.created_at > self._back_off.give_up_after:
            self._refuse(delivery, outcome.status, f"given up: {outcome.message}")
        else:
            attempts = delivery.attempts + 1
            due_at = now + self._back_off.delay(attempts)
            self._deliveries.postpone(
                delivery, due_at=due_at, status=outcome.status, message=outcome.message
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

    def _refuse(self, delivery: Delivery, status: int | None, message: str) -> None:
        _LOG.error(
            "the %s of job %d will not be delivered to %s: %s",
            delivery.role,
            delivery.job_id,
            delivery.destination,
            message,
        )
        self._deliveries.settle(
            delivery, DeliveryState.REFUSED, status=status, message=message, at=self._clock()
        )
