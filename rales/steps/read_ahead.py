"""Has the images of a series read while it is received, in the process that will analyse it.

The receiving process never decodes. Between two analyses the analysis process is idle: it reads
ahead in calls so short that they delay no ready job. Only recorded images are read, which are
durable, and the analysis compares what was read with what was received.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from chestct.errors import AnalysisStopped
from chestct.series import ReceivedInstance
from chestct.states import JobState
from chestct.uids import Uid
from rales.analysis.pipeline import read_ahead
from rales.runtime.process import Worker
from rales.state.store import InstanceStore, Job, JobStore

_Answer = TypeVar("_Answer")
_LOG = logging.getLogger(__name__)
_INTERVAL = timedelta(seconds=0.25)
"""Between two looks at what was received: a look reads the rows of each series that has grown."""
_SECONDS = 0.1
"""The time of one call: a job that becomes ready meanwhile waits for its end."""
_MOST = 64
"""Images in one call."""
_STALE = timedelta(seconds=60)
"""A series that gets no image for this time is forgotten: it may never be complete."""


@dataclass(slots=True)
class _Progress:
    """How far a series is read; ``arrivals`` is :attr:`Job.arrivals` at the last look."""

    series_uid: Uid
    grown_at: datetime
    arrivals: int = -1
    read: set[Path] = field(default_factory=set)
    pending: list[ReceivedInstance] = field(default_factory=list)


class EarlyReading:
    """Finds what was received since the last step, and has it read."""

    def __init__(
        self, *, jobs: JobStore, instances: InstanceStore, process: Worker, budget: int
    ) -> None:
        """Keep at most about ``budget`` bytes of HU in the process; 0 reads nothing ahead."""
        self._jobs = jobs
        self._instances = instances
        self._process = process
        self._budget = budget
        self._receiving: dict[int, _Progress] = {}
        self._kept: frozenset[Uid] = frozenset()
        self._looked_at: datetime | None = None

    def step(self, now: datetime) -> datetime | None:
        """Have some images read; return when more may be there to read, None: nothing arrives."""
        if not self._budget:
            return None
        looked_at = self._looked_at
        if looked_at is None or not now - _INTERVAL < looked_at <= now:
            self._look(now)
            looked_at = now
        for progress in self._receiving.values():
            if progress.pending and progress.series_uid in self._kept:
                self._read(progress)
                return now
        return looked_at + _INTERVAL if self._kept else None

    def _look(self, now: datetime) -> None:
        """Note the images that are not read yet; have series forgotten that do not grow."""
        self._looked_at = now
        self._receiving = {
            job.id: self._grown(job, now) for job in self._jobs.in_state(JobState.RECEIVING)
        }
        # A ready job is claimed next: its series is kept until then.
        kept = self._kept & {job.series_uid for job in self._jobs.in_state(JobState.READY)}
        kept |= {
            progress.series_uid
            for progress in self._receiving.values()
            if now - progress.grown_at < _STALE
        }
        if self._kept - kept:
            self._call(keep_only, kept)
        self._kept = kept

    def _grown(self, job: Job, now: datetime) -> _Progress:
        progress = self._receiving.get(job.id) or _Progress(job.series_uid, now)
        if progress.arrivals != job.arrivals:
            progress.arrivals, progress.grown_at = job.arrivals, now
            progress.pending = [
                instance
                for instance in self._instances.of_series(job.series_uid)
                if instance.path not in progress.read
            ]
        return progress

    def _read(self, progress: _Progress) -> None:
        batch = tuple(progress.pending[:_MOST])
        done = self._call(read_some, progress.series_uid, batch, self._budget)
        done = len(batch) if done is None else done
        progress.read.update(instance.path for instance in batch[:done])
        del progress.pending[:done]

    def _call(self, function: Callable[..., _Answer], *arguments: object) -> _Answer | None:
        """Return the answer of the process; None if it fails: the analysis reads all the same."""
        try:
            return self._process.call(function, *arguments)
        except AnalysisStopped:
            return None
        except Exception as error:  # noqa: BLE001 - it must cost no job an attempt
            _LOG.warning("images are not read ahead: %s: %s", type(error).__name__, error)
            return None


def read_some(series_uid: Uid, batch: Sequence[ReceivedInstance], budget: int) -> int:
    """Read some images of a series ahead (runs in the process); return how many are done."""
    return read_ahead().read(series_uid, batch, seconds=_SECONDS, budget=budget)


def keep_only(series_uids: frozenset[Uid]) -> None:
    """Forget every other series that was read ahead (runs in the process)."""
    read_ahead().keep(series_uids)
