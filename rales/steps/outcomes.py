"""Records the outcome of an analysis: a result, a verdict, a repetition or a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from chestct.errors import (
    AnalysisCrashed,
    AnalysisHung,
    AnalysisStopped,
    InputUnavailable,
    ModelError,
    OutOfResources,
    PermanentError,
    RalesError,
    SeriesRejected,
)
from chestct.series import contested_uids
from chestct.states import JobState
from chestct.text import printable
from chestct.verdict import verdict
from rales.state.results import AnalysisReport
from rales.state.store import InstanceStore, Job, JobStore

_LOG = logging.getLogger(__name__)

_FIRST_RETRY = timedelta(seconds=10)
_DISK_FULL_PAUSE = timedelta(seconds=300)
"""Between attempts on a full disk, each of which is a whole analysis."""
_LONGEST_MESSAGE = 500
"""Characters of the message of a job; an exception may quote a header."""

_REASONS: dict[type[Exception], str] = {
    AnalysisCrashed: "analysis-crashed",
    AnalysisHung: "analysis-hung",
    MemoryError: "out-of-memory",
}
"""The reason of a failed job, for these errors; for any other error it is the error's name."""

Record = Callable[[], None]
"""Records one outcome in the state file."""


class OutcomeRecorder:
    """Decides the next state of a job after an analysis, and records it.

    Args:
        attempts: Fail a job after this many attempts.
        on_composed: Called when a job may be planned, received or analysed now.
    """

    def __init__(
        self,
        *,
        jobs: JobStore,
        instances: InstanceStore,
        attempts: int,
        clock: Callable[[], datetime],
        on_composed: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._instances = instances
        self._attempts = attempts
        self._clock = clock
        self._on_composed = on_composed

    def of_report(self, job: Job, report: AnalysisReport) -> Record:
        """Return the function that records a result."""
        return partial(self._compose, job, report)

    def of_changed_images(self, job: Job) -> Record:
        """Return the function that records that the images differ from the complete series."""
        return partial(self._give_way, job)

    def of_error(self, job: Job, error: Exception) -> Record:
        """Return the function that records that the analysis raised ``error``."""
        match error:
            case AnalysisStopped():
                return partial(self._put_back, job)
            case InputUnavailable():
                return partial(self._wait_for_images, job, error)
            case OutOfResources():
                return partial(self._wait_for_disk, job, error)
            # The models worked at the start: memory is short, or somebody is changing the files.
            case PermanentError() if not isinstance(error, ModelError):
                return partial(self._end_for_good, job, error)
        if not isinstance(error, RalesError | OSError | MemoryError):
            _LOG.error("job %d: the analysis raised", job.id, exc_info=error)
        reason = _REASONS.get(type(error), type(error).__name__)
        return partial(self._fail_or_retry, job, reason, _text_of(error) or reason)

    def _compose(self, job: Job, report: AnalysisReport) -> None:
        message = verdict(report.findings)
        if report.left_out:
            message += f"; could not be written: {', '.join(report.left_out)}"
        hold = bool(report.may_be_part) and job.is_held(self._clock())
        if hold:
            message += (
                f"; {report.may_be_part}: waits for more images until {job.hold_until:%H:%M:%S} UTC"
            )
        self._jobs.composed(
            job,
            key=report.results.key.value,
            result=report.to_dict(),
            at=self._clock(),
            message=message,
            hold=hold,
        )
        _LOG.info(
            "series %s: analysed in %.1f s on %s",
            job.series_uid,
            sum(report.seconds.values()),
            report.provider,
        )
        self._on_composed()

    def _give_way(self, job: Job) -> None:
        message = "the images differ from those of the complete series"
        self._jobs.give_way(job, at=self._clock(), message=message)
        self._on_composed()

    def _put_back(self, job: Job) -> None:
        message = "the node stops; the next start analyses the series"
        self._jobs.put_back(job, at=self._clock(), message=message)

    def _wait_for_images(self, job: Job, error: InputUnavailable) -> None:
        now, spent = self._clock(), job.attempts >= self._attempts
        hint = f"after {job.attempts} attempts: have the series sent again, or use rales retry"
        message = f"{error}; {hint if spent else 'will be tried again'}"
        due_at = None if spent else now + self._pause(job)
        state = self._instances.unavailable(
            job, error.images, due_at=due_at, at=now, message=message
        )
        _LOG.error("series %s: %s (%s)", job.series_uid, message, state)

    def _wait_for_disk(self, job: Job, error: OutOfResources) -> None:
        """Put back a job that this machine has no room for: that says nothing of its series."""
        now = self._clock()
        message = (
            f"{error}; free space: the analysis is repeated every {_DISK_FULL_PAUSE.seconds} s"
        )
        self._jobs.put_back(job, due_at=now + _DISK_FULL_PAUSE, at=now, message=message)
        _LOG.error("series %s: %s", job.series_uid, message)

    def _fail_or_retry(self, job: Job, reason: str, message: str) -> None:
        message = printable(message, _LONGEST_MESSAGE)
        if job.attempts >= self._attempts:
            self._end(job, JobState.FAILED, reason, f"{message} ({job.attempts} attempts)")
            return
        now = self._clock()
        self._jobs.postpone(
            job, due_at=now + self._pause(job), at=now, message=f"{message}; will be tried again"
        )
        _LOG.warning("series %s: %s; will be tried again", job.series_uid, message)

    @staticmethod
    def _pause(job: Job) -> timedelta:
        return _FIRST_RETRY * 2.0 ** (job.attempts - 1)

    def _end_for_good(self, job: Job, error: PermanentError) -> None:
        if isinstance(error, SeriesRejected):
            contested = contested_uids(self._instances.contested(job.series_uid))
            message = f"{error}; {contested}" if contested else str(error)
            self._end(job, JobState.REJECTED, str(error.reason), message)
        else:
            self._end(job, JobState.FAILED, type(error).__name__, str(error))

    def _end(self, job: Job, state: JobState, reason: str, message: str) -> None:
        shortfall = f"{job.shortfall}; " if job.shortfall else ""
        message = printable(f"{shortfall}{message}", _LONGEST_MESSAGE)
        after = self._jobs.end(job, state, at=self._clock(), message=message, reason=reason)
        if after is state:
            _LOG.warning("series %s: %s (%s): %s", job.series_uid, state, reason, message)
        else:
            _LOG.info("series %s: %s (%s): %s", job.series_uid, after, reason, message)
            self._on_composed()


def _text_of(error: Exception) -> str:
    """Return the text of an error of Rales or the system; the text of others may quote a header."""
    if isinstance(error, RalesError | OSError | MemoryError):
        return str(error)
    return f"the analysis raised {type(error).__name__}"
