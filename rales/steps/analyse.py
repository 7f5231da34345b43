"""Takes ready jobs one by one through the analysis, in a process of its own.

The receiving process never computes. The analysis runs in a spawned process that keeps
the models loaded (:mod:`rales.runtime.process`). When it dies, hangs or runs out of memory, the job
loses one attempt, waits behind the others, and in the end is set aside: the node goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

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
from chestct.evolution import PriorResult
from chestct.series import Series, contested_uids
from chestct.states import JobState
from chestct.text import printable
from chestct.verdict import verdict
from rales.analysis.archive import FindPriorReports, PriorReports
from rales.analysis.pipeline import AnalysisRequest, InferenceFacts, run, warm_up
from rales.analysis.priors import prior_from_job
from rales.analysis.settings import AnalysisSettings
from rales.runtime.process import Worker
from rales.state.results import AnalysisReport, created_before, sr_references
from rales.state.store import InstanceStore, JobStore
from rales.state.store.job import Job
from rales.state.store.transitions import StateConflict

_LOG = logging.getLogger(__name__)

_FIRST_RETRY = timedelta(seconds=10)
_ROOM_PAUSE = timedelta(seconds=300)
"""Between attempts on a full disk, each of which is a whole analysis."""
_LONGEST = 500
"""Characters of the message of a job; an exception may quote a header."""

_REASONS: dict[type[Exception], str] = {
    AnalysisCrashed: "analysis-crashed",
    AnalysisHung: "analysis-hung",
    MemoryError: "out-of-memory",
}
"""What people see beside a series that was set aside; other errors go by their own name."""


class AnalysisWorker:
    """One step of an analysis loop: claim a job, have it analysed, record the outcome."""

    def __init__(
        self,
        *,
        name: str = "analysis",
        on_alive: Callable[[], object] = lambda: None,
        jobs: JobStore,
        instances: InstanceStore,
        settings: AnalysisSettings,
        results_dir: Path,
        attempts: int,
        process: Worker,
        clock: Callable[[], datetime],
        on_composed: Callable[[], None],
        find_prior_reports: FindPriorReports | None = None,
    ) -> None:
        self.name = name
        self.on_alive = on_alive
        self._jobs = jobs
        self._instances = instances
        self._settings = settings
        self._results_dir = results_dir
        self._attempts = attempts
        self._process = process
        self._clock = clock
        self._on_composed = on_composed
        self._find_prior_reports = find_prior_reports
        self._unrecorded: Callable[[], None] | None = None

    def warm_up(self) -> InferenceFacts:
        """Start the process and load the models now rather than with the first series.

        Raises:
            ModelError: The models cannot be used.
            AnalysisCrashed: The process died over it.
        """
        return self._process.call(warm_up, self._settings)

    def park(self) -> None:
        """End the analysis under way, from another thread; the job waits for the next start."""
        self._process.stop()

    def close(self) -> None:
        """End the analysis process."""
        self._process.close()

    def step(self, now: datetime) -> datetime | None:
        """Analyse the next ready job; return at once when there is none.

        An outcome that the state file does not take (a full disk) is kept and recorded with
        the next step: no job is left analysing for ever.
        """
        if self._unrecorded is None:
            job = self._jobs.claim(at=now)
            if job is None:
                return self._jobs.next_due()
            self._unrecorded = partial(self._record, job, self._work(job))
        self._unrecorded()
        self._unrecorded = None
        return self._clock()

    def _record(self, job: Job, outcome: Callable[[], None]) -> None:
        """Record an outcome; one that cannot be written down ends its job and no other.

        Raises:
            OutOfResources: The state file takes nothing now.
        """
        try:
            outcome()
        except OutOfResources:
            raise
        except Exception as error:  # noqa: BLE001 - it must cost this job alone
            _LOG.exception("job %d: its outcome cannot be recorded", job.id)
            message = f"its outcome cannot be recorded ({type(error).__name__})"
            try:
                self._jobs.give_up(
                    job.id,
                    JobState.ANALYSING,
                    at=self._clock(),
                    reason="unrecordable",
                    message=message,
                )
            except StateConflict:
                _LOG.warning("job %d: somebody else moved it meanwhile", job.id)

    def _work(self, job: Job) -> Callable[[], None]:
        """Analyse one job; return what records its outcome."""
        try:
            series = Series.of(self._instances.of_series(job.series_uid))
            if series.digest != job.instances_digest:
                return partial(self._give_way, job)
            report = self._analyse(job, series)
        except Exception as error:  # noqa: BLE001 - an unforeseen error costs an attempt, no more
            return self._after(job, error)
        return partial(self._compose, job, report)

    def _after(self, job: Job, error: Exception) -> Callable[[], None]:
        """Return what records that an analysis raised."""
        match error:
            case AnalysisStopped():
                return partial(self._put_back, job)
            case InputUnavailable():
                return partial(self._wait_for_images, job, error)
            case OutOfResources():
                return partial(self._wait_for_room, job, error)
            # The node began with models that worked: memory is short, or they are being changed.
            case PermanentError() if not isinstance(error, ModelError):
                return partial(self._end_for_good, job, error)
        if not isinstance(error, RalesError | OSError | MemoryError):
            _LOG.error("job %d: the analysis raised", job.id, exc_info=error)
        reason = _REASONS.get(type(error), type(error).__name__)
        return partial(self._fail_or_retry, job, reason, _said(error) or reason)

    def _give_way(self, job: Job) -> None:
        message = "the images are others than when it was complete"
        self._jobs.give_way(job, at=self._clock(), message=message)
        self._on_composed()

    def _analyse(self, job: Job, series: Series) -> AnalysisReport:
        predecessor = self._jobs.predecessor(job)
        found = self._priors(job, series)
        request = AnalysisRequest(
            series=series,
            settings=self._settings,
            folder=self._results_dir / f"{job.id:08d}",
            created=created_before(job) or self._clock(),
            predecessors=sr_references(predecessor) if predecessor else {},
            priors=found.results,
            priors_trouble=found.trouble,
            shortfall=job.shortfall,
            keys_in_use=self._jobs.keys_in_use(job),
        )
        return self._process.call(run, request)

    def _priors(self, job: Job, series: Series) -> PriorReports:
        """Return the results of other studies of the patient; none of a mixed series.

        What this node made itself counts before what the archive has of it.
        """
        patients = {instance.patient_key for instance in series.instances}
        if len(patients) > 1:
            return PriorReports()
        jobs = self._jobs.results_of_patient(patients.pop(), but_study=job.study_uid)
        own = [prior for one in jobs if (prior := _prior(one)) is not None]
        if self._find_prior_reports is None:
            return PriorReports(results=tuple(own))
        known = {prior.report.sop_instance_uid for prior in own}
        found = self._find_prior_reports(series)
        others = [one for one in found.results if one.report.sop_instance_uid not in known]
        return replace(found, results=(*own, *others))

    def _compose(self, job: Job, report: AnalysisReport) -> None:
        message = verdict(report.findings)
        if report.left_out:
            message += f"; could not be made: {', '.join(report.left_out)}"
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

    def _put_back(self, job: Job) -> None:
        self._jobs.put_back(job, at=self._clock(), message="the node stops: waits for its start")

    def _wait_for_images(self, job: Job, error: InputUnavailable) -> None:
        now, spent = self._clock(), job.attempts >= self._attempts
        hint = f"after {job.attempts} attempts: have the series sent again, or use rales retry"
        message = f"{error}; {hint if spent else 'will be tried again'}"
        due_at = None if spent else now + self._pause(job)
        state = self._instances.unavailable(
            job, error.images, due_at=due_at, at=now, message=message
        )
        _LOG.error("series %s: %s (%s)", job.series_uid, message, state)

    def _wait_for_room(self, job: Job, error: OutOfResources) -> None:
        """Put a job back that this machine has no room for: that says nothing of its series."""
        now = self._clock()
        message = f"{error}; mend that: it goes on by itself, tried every {_ROOM_PAUSE.seconds} s"
        self._jobs.put_back(job, due_at=now + _ROOM_PAUSE, at=now, message=message)
        _LOG.error("series %s: %s", job.series_uid, message)

    def _fail_or_retry(self, job: Job, reason: str, message: str) -> None:
        message = printable(message, _LONGEST)
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
        lacks = f"{job.shortfall}; " if job.shortfall else ""
        message = printable(f"{lacks}{message}", _LONGEST)
        after = self._jobs.end(job, state, at=self._clock(), message=message, reason=reason)
        if after is state:
            _LOG.warning("series %s: %s (%s): %s", job.series_uid, state, reason, message)
        else:
            _LOG.info("series %s: %s (%s): %s", job.series_uid, after, reason, message)
            self._on_composed()


def _said(error: Exception) -> str:
    """Return the text of an error that is our own or the system's; others may quote a header."""
    if isinstance(error, RalesError | OSError | MemoryError):
        return str(error)
    return f"the analysis raised {type(error).__name__}"


def _prior(job: Job) -> PriorResult | None:
    """Return an earlier result; None where the state file does not hold it whole."""
    try:
        return prior_from_job(job)
    except Exception:  # noqa: BLE001 - another series must not fail for it
        _LOG.exception("the result of job %d cannot be read: it is compared with nothing", job.id)
        return None
