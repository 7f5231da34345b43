"""Delivers what is due: per destination, with back-off, until taken, refused or given up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from chestct.errors import OutOfResources
from chestct.results import ResultObject
from chestct.states import JobState
from dicom_out.network.outcome import Outcome
from dicom_out.network.recipients import Recipient
from rales.runtime.complaints import Complaints
from rales.state.results import load_objects, objects_for
from rales.state.store import DeliveryStore, JobStore
from rales.state.store.jobs import Job, StateConflict
from rales.steps.backoff import BackOff
from rales.steps.dispatch import DestinationQueue, Sender
from rales.steps.outbox import Outbox

__all__ = ["BackOff", "DeliveryWorker", "Sender"]

_LOG = logging.getLogger(__name__)


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
        self._clock = clock
        self._parked = threading.Event()
        self._complaints = Complaints(_LOG)
        self._outboxes = {
            name: Outbox(
                f"delivery to {name}",
                DestinationQueue(
                    destination,
                    jobs=jobs,
                    deliveries=deliveries,
                    sender=self._send,
                    back_off=back_off,
                    clock=clock,
                ),
                clock=clock,
                parked=self._parked,
            )
            for name, destination in destinations.items()
        }

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
        """Plan the deliveries of new results; withdraw and close what has ended."""
        for job_id in self._jobs.to_plan(at=now):
            self._plan_or_end(job_id, now)
        self._deliveries.withdraw_superseded(at=now)
        for one in self._deliveries.withdraw_unconfigured(self._destinations, at=now):
            _LOG.error(
                "the %s of job %d is withdrawn: no destination %r is configured any more",
                one.role,
                one.job_id,
                one.destination,
            )
        self._deliveries.finish_jobs(at=now)
        return self._jobs.next_to_plan()

    def send_due(self, name: str, now: datetime) -> datetime | None:
        """Send what is due at one destination; return when the next is."""
        due = self._outboxes[name].step(now)
        self._deliveries.finish_jobs(at=self._clock())
        return due

    def _send(self, objects: Sequence[ResultObject], destination: Recipient) -> Iterable[Outcome]:
        return self._sender(objects, destination)

    def _plan_or_end(self, job_id: int, now: datetime) -> None:
        """Plan a job; end it when what the state file says of its results cannot be read."""
        try:
            with self._jobs.as_one():
                self._plan(self._jobs.get(job_id), now)
        except (OutOfResources, StateConflict):
            raise
        except Exception as error:  # noqa: BLE001 - one job must not hold up the others
            self._complaints.say("planning a job", error)
            message = f"its results cannot be read ({type(error).__name__})"
            self._jobs.give_up(
                job_id, JobState.COMPOSED, at=now, reason="unreadable", message=message
            )

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
