"""Decides which receiving series are complete and fixes their instance sets."""

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
from rales.state.store import InstanceStore, JobStore
from rales.state.store.job import Job
from rales.state.store.transitions import StateConflict
from rales.steps.archive_counts import ArchiveCounts
from rales.steps.completeness import Complete, CompletionPolicy, Evidence, decide
from scp.contexts import MULTI_FRAME_CLASSES
from scp.traffic import Traffic

_LOG = logging.getLogger(__name__)
_AFTER_FAILURE = timedelta(seconds=10)


class AssemblyWorker:
    """One step of the assembly loop.

    Before ``moment().steady_since`` nothing could arrive, or the clock was another one, so no
    silence is counted: a series that a restart cut in half gets its quiet time for the sender to
    try again, and a clock that is set completes no series. What goes wrong with one series
    keeps no other waiting.
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
        """Move complete series to READY; return when the next one may be complete."""
        receiving = self._jobs.in_state(JobState.RECEIVING)
        if self._archive:
            self._archive.keep([job.id for job in receiving])
        waits = [wait for job in receiving if (wait := self._look_at_alone(job, now)) is not None]
        return min(waits, default=None)

    def _look_at_alone(self, job: Job, now: datetime) -> datetime | None:
        try:
            return self._look_at(job, now)
        except OutOfResources:
            raise
        except Exception as error:  # noqa: BLE001 - one series must not hold up the others
            self._limiter.exception(f"looking at series {job.series_uid}", error)
            self._jobs.note(job, f"cannot be judged ({type(error).__name__}): looked at again")
            return now + _AFTER_FAILURE

    def _look_at(self, job: Job, now: datetime) -> datetime | None:
        instances = self._instances.of_series(job.series_uid)
        # Read after the images, and both at once: a clock that is set meanwhile proves nothing.
        moment = self._moment() if self._moment else None
        now = moment.now if moment else now
        since = moment.steady_since if moment else None
        decision = decide(self._evidence(job, instances, since), self._policy, now)
        if not isinstance(decision, Complete):
            # What was read early says so itself, until it is to wait for something else.
            if decision.reason != job.message and decision.at != job.hold_until:
                self._jobs.note(job, decision.reason)
            return decision.at
        if missing := self._instances.released(job.series_uid):
            waits = (
                f"waits for {missing} of {len(instances)} images that retention released: "
                "have the whole series sent again"
            )
            if self._jobs.note(job, waits):
                _LOG.warning("series %s %s", job.series_uid, waits)
            return None
        series = Series.of(instances)
        try:
            with self._jobs.as_one():  # no clock is followed within it
                if self._moment and self._moment().steady_since != since:
                    return now  # the clock was set since: it is looked at again
                self._jobs.mark_ready(
                    job,
                    instances_digest=series.digest,
                    count=len(series.instances),
                    at=now,
                    message="; ".join(
                        filter(None, (f"complete: {decision.reason}", decision.shortfall))
                    ),
                    hold_until=decision.hold_until,
                    shortfall=decision.shortfall,
                )
        except StateConflict:
            return now  # more came since the job was read: it is looked at again
        _LOG.info(
            "series %s: %d instances, complete: %s",
            job.series_uid,
            len(series.instances),
            decision.reason,
        )
        if decision.shortfall:
            _LOG.warning("series %s: %s", job.series_uid, decision.shortfall)
        return None

    def _evidence(
        self, job: Job, instances: list[ReceivedInstance], since: datetime | None
    ) -> Evidence:
        last = max(one.received_at for one in instances)
        # What others were bringing of the study before a restart is not known any more.
        ended = job.association_ended_at
        announced = {one.expected_instances for one in instances if one.expected_instances}
        multi_frame = all(UID(one.sop_class_uid) in MULTI_FRAME_CLASSES for one in instances)
        return Evidence(
            count=len(instances),
            expected=max(announced, default=None),
            # Several concatenations may well differ.
            announcements_differ=len(announced) > 1 and not multi_frame,
            positions=tuple(one.slice_position for one in instances),
            last_received_at=max(last, since) if since else last,
            association_ended_at=None if ended and since and ended < since else ended,
            associations=job.associations,
            revised=job.revision > 1,
            busy=self._traffic.is_busy(job.study_uid),
            read_early=job.hold_until is not None,
            multi_frame=multi_frame,
            archive=self._archive.answer_on(job, len(instances)) if self._archive else None,
        )
