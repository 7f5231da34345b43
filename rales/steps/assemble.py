"""Declares receiving series complete: fixes their sets of instances and makes their jobs ready."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from pydicom.uid import UID

from chestct.errors import OutOfResources
from chestct.series import ReceivedInstance, Series
from chestct.states import JobState
from rales.runtime.clock import Moment
from rales.runtime.loglimit import LogLimiter
from rales.state.store import InstanceStore, Job, JobStore
from rales.state.store.transitions import StateConflict
from rales.steps.archive_counts import ArchiveCounts
from rales.steps.completeness import Complete, CompletionPolicy, Evidence, decide
from scp.contexts import MULTI_FRAME_CLASSES
from scp.traffic import Traffic

_LOG = logging.getLogger(__name__)
_AFTER_FAILURE = timedelta(seconds=10)


class AssemblyWorker:
    """One step of the assembly loop.

    Silence counts from ``moment().steady_since`` on: before that time nothing could arrive, or the
    clock was another one. So a series that a restart cut in half waits the quiet time for its
    sender to try again, and setting the clock completes no series. An error over one series delays
    no other.
    """

    def __init__(
        self,
        *,
        jobs: JobStore,
        instances: InstanceStore,
        policy: CompletionPolicy,
        moment: Callable[[], Moment] | None = None,
        traffic: Traffic | None = None,
        archive: ArchiveCounts | None = None,
    ) -> None:
        self._jobs = jobs
        self._instances = instances
        self._policy = policy
        self._moment = moment
        self._traffic = traffic or Traffic()
        self._limiter = LogLimiter(_LOG)
        self._archive = archive

    def step(self, now: datetime) -> datetime | None:
        """Move complete series to READY; return when the next series may be complete."""
        receiving = self._jobs.in_state(JobState.RECEIVING)
        if self._archive:
            self._archive.keep([job.id for job in receiving])
        waits = [wait for job in receiving if (wait := self._check_alone(job, now)) is not None]
        return min(waits, default=None)

    def _check_alone(self, job: Job, now: datetime) -> datetime | None:
        try:
            return self._check(job, now)
        except OutOfResources:
            raise
        except Exception as error:  # noqa: BLE001 - one series must not hold up the others
            self._limiter.exception(f"looking at series {job.series_uid}", error)
            self._jobs.note(job, f"cannot be judged ({type(error).__name__}): looked at again")
            return now + _AFTER_FAILURE

    def _check(self, job: Job, now: datetime) -> datetime | None:
        """Decide whether a series is complete; return when to look at it again."""
        instances = self._instances.of_series(job.series_uid)
        # Read both times after the images, and together: a clock set meanwhile proves nothing.
        moment = self._moment() if self._moment else None
        now = moment.now if moment else now
        since = moment.steady_since if moment else None
        decision = decide(self._evidence(job, instances, since), self._policy, now)
        if not isinstance(decision, Complete):
            # A series that was read early keeps its message until it waits for something else.
            if decision.reason != job.message and decision.at != job.hold_until:
                self._jobs.note(job, decision.reason)
            return decision.at
        if released := self._instances.released(job.series_uid):
            self._wait_for_released(job, released, len(instances))
            return None
        series = Series.of(instances)
        if not self._mark_ready(job, series, decision, now=now, since=since):
            return now
        _LOG.info(
            "series %s: %d instances, complete: %s",
            job.series_uid,
            len(series.instances),
            decision.reason,
        )
        if decision.shortfall:
            _LOG.warning("series %s: %s", job.series_uid, decision.shortfall)
        return None

    def _wait_for_released(self, job: Job, released: int, count: int) -> None:
        message = (
            f"waits for {released} of {count} images that retention released: "
            "have the whole series sent again"
        )
        if self._jobs.note(job, message):
            _LOG.warning("series %s %s", job.series_uid, message)

    def _mark_ready(
        self, job: Job, series: Series, decision: Complete, *, now: datetime, since: datetime | None
    ) -> bool:
        """Move a complete series to READY; False: images came or the clock was set meanwhile."""
        messages = (f"complete: {decision.reason}", decision.shortfall)
        try:
            with self._jobs.as_one():  # no change of the clock is followed within it
                if self._moment and self._moment().steady_since != since:
                    return False
                self._jobs.mark_ready(
                    job,
                    instances_digest=series.digest,
                    count=len(series.instances),
                    at=now,
                    message="; ".join(filter(None, messages)),
                    hold_until=decision.hold_until,
                    shortfall=decision.shortfall,
                )
        except StateConflict:
            return False
        return True

    def _evidence(
        self, job: Job, instances: list[ReceivedInstance], since: datetime | None
    ) -> Evidence:
        last = max(instance.received_at for instance in instances)
        ended = job.association_ended_at
        announced = {number for instance in instances if (number := instance.expected_instances)}
        classes = {UID(instance.sop_class_uid) for instance in instances}
        multi_frame = classes <= set(MULTI_FRAME_CLASSES)
        return Evidence(
            count=len(instances),
            expected=max(announced, default=None),
            # Several concatenations may announce different numbers.
            announcements_differ=len(announced) > 1 and not multi_frame,
            positions=tuple(instance.slice_position for instance in instances),
            last_received_at=max(last, since) if since else last,
            # After a restart nobody knows which associations were open before it.
            association_ended_at=None if ended and since and ended < since else ended,
            associations=job.associations,
            revised=job.revision > 1,
            busy=self._traffic.is_busy(job.study_uid),
            read_early=job.hold_until is not None,
            multi_frame=multi_frame,
            archive=self._archive.answer_on(job, len(instances)) if self._archive else None,
        )
