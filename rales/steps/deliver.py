"""Plans the deliveries of each composed job, sends them, and ends the job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from chestct.errors import OutOfResources
from chestct.states import JobState
from dicom_out.network.destination import Recipient
from dicom_out.network.outcome import Outcome
from rales.runtime.loglimit import LogLimiter
from rales.state.results import load_objects, objects_for
from rales.state.store import Delivery, DeliveryStore, JobStore
from rales.state.store.job import Job
from rales.state.store.transitions import StateConflict
from rales.steps.backoff import BackOff
from rales.steps.dispatch import DestinationQueue, Sender
from rales.steps.outbox import OutboxWorker, Step

_LOG = logging.getLogger(__name__)


class DeliveryWorker(OutboxWorker[Delivery, Outcome]):
    """The steps of the planning loop and of one sending loop for each destination.

    A slow destination delays no other destination.
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
        self._clock = clock
        self._limiter = LogLimiter(_LOG)
        queues = {
            name: DestinationQueue(
                destination,
                jobs=jobs,
                deliveries=deliveries,
                sender=sender,
                back_off=back_off,
                clock=clock,
            )
            for name, destination in destinations.items()
        }
        super().__init__("delivery", queues, clock)

    def steps(self) -> dict[str, Step]:
        """Return the step of each loop, by the name of the loop."""
        return {"planning": self.plan} | super().steps()

    def plan(self, now: datetime) -> datetime | None:
        """Plan the deliveries of new results, withdraw obsolete ones, end finished jobs."""
        for job_id in self._jobs.to_plan(at=now):
            self._plan_or_end(job_id, now)
        self._deliveries.withdraw_superseded(at=now)
        for delivery in self._deliveries.withdraw_unconfigured(self._destinations, at=now):
            _LOG.error(
                "the %s of job %d is withdrawn: no destination %r is configured any more",
                delivery.role,
                delivery.job_id,
                delivery.destination,
            )
        self._deliveries.finish_jobs(at=now)
        return self._jobs.next_to_plan()

    def send_due(self, target: str, now: datetime) -> datetime | None:
        """Send the due objects of one destination; return when the next object is due."""
        due = super().send_due(target, now)
        self._deliveries.finish_jobs(at=self._clock())
        return due

    def _plan_or_end(self, job_id: int, now: datetime) -> None:
        """Plan the deliveries of a job; end the job if its results cannot be read."""
        try:
            with self._jobs.as_one():
                self._plan(self._jobs.get(job_id), now)
        except (OutOfResources, StateConflict):
            raise
        except Exception as error:  # noqa: BLE001 - one job must not hold up the others
            self._limiter.exception("planning a job", error)
            message = f"its results cannot be read from the state file ({type(error).__name__})"
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
                for item in objects_for(destination.profile, destination.extras, objects)
            ]
            for name, destination in self._destinations.items()
        }
        self._deliveries.begin(job, planned=planned, at=now)
