"""Takes ready jobs one by one through the analysis, in a process of its own.

The receiving process never computes. The analysis runs in a spawned process that keeps the models
loaded (:mod:`rales.runtime.process`). When that process dies, hangs or runs out of memory, the job
loses one attempt and waits behind the others; after its last attempt it fails. The node goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from chestct.errors import OutOfResources
from chestct.evolution import PriorResult
from chestct.series import Series
from chestct.states import JobState
from rales.analysis.archive import FindPriorReports, PriorReports
from rales.analysis.pipeline import AnalysisRequest, InferenceFacts, run, warm_up
from rales.analysis.priors import prior_from_job
from rales.analysis.settings import AnalysisSettings
from rales.runtime.process import Worker
from rales.state.results import AnalysisReport, created_before, sr_references
from rales.state.store import InstanceStore, Job, JobStore
from rales.state.store.transitions import StateConflict
from rales.steps.outcomes import OutcomeRecorder, Record
from rales.steps.read_ahead import EarlyReading

_LOG = logging.getLogger(__name__)


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
        read_ahead_bytes: int = 0,
    ) -> None:
        self.name = name
        self.on_alive = on_alive
        self._jobs = jobs
        self._instances = instances
        self._settings = settings
        self._results_dir = results_dir
        self._process = process
        self._clock = clock
        self._outcomes = OutcomeRecorder(
            jobs=jobs,
            instances=instances,
            attempts=attempts,
            clock=clock,
            on_composed=on_composed,
        )
        self._find_prior_reports = find_prior_reports
        self._early = EarlyReading(
            jobs=jobs, instances=instances, process=process, budget=read_ahead_bytes
        )
        self._unrecorded: Record | None = None

    def warm_up(self) -> InferenceFacts:
        """Start the process and load the models now, not with the first series.

        Raises:
            ModelError: The models cannot be used.
            AnalysisCrashed: The process died while it loaded them.
        """
        return self._process.call(warm_up, self._settings)

    def park(self) -> None:
        """End the analysis under way, from another thread; the job waits for the next start."""
        self._process.stop()

    def close(self) -> None:
        """End the analysis process."""
        self._process.close()

    def step(self, now: datetime) -> datetime | None:
        """Analyse the next ready job; without one, read a few images ahead.

        When the state file does not take the outcome (a full disk), the next step records it: no
        job stays ANALYSING for ever.
        """
        if self._unrecorded is None:
            job = self._jobs.claim(at=now)
            if job is None:
                return _earliest(self._early.step(now), self._jobs.next_due())
            self._unrecorded = partial(self._record, job, self._outcome(job))
        self._unrecorded()
        self._unrecorded = None
        return self._clock()

    def _record(self, job: Job, record: Record) -> None:
        """Record an outcome; if that fails, end this job and no other.

        Raises:
            OutOfResources: The state file cannot be written now.
        """
        try:
            record()
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
                _LOG.warning("job %d: its state changed meanwhile", job.id)

    def _outcome(self, job: Job) -> Record:
        """Analyse one job; return the function that records the outcome."""
        try:
            series = Series.of(self._instances.of_series(job.series_uid))
            if series.digest != job.instances_digest:
                return self._outcomes.of_changed_images(job)
            report = self._analyse(job, series)
        except Exception as error:  # noqa: BLE001 - an unforeseen error costs an attempt, no more
            return self._outcomes.of_error(job, error)
        return self._outcomes.of_report(job, report)

    def _analyse(self, job: Job, series: Series) -> AnalysisReport:
        predecessor = self._jobs.predecessor(job)
        found = self._priors(job, series)
        request = AnalysisRequest(
            series=series,
            settings=self._settings,
            folder=self._results_dir / f"{job.id:08d}",
            created=created_before(job) or self._clock(),
            revision=job.revision,
            predecessors=sr_references(predecessor) if predecessor else {},
            priors=found.results,
            priors_trouble=found.trouble,
            shortfall=job.shortfall,
            keys_in_use=self._jobs.keys_in_use(job),
        )
        return self._process.call(run, request)

    def _priors(self, job: Job, series: Series) -> PriorReports:
        """Return the prior results of the patient; none for a series of several patients.

        A result that this node computed takes precedence over the archive's copy of it.
        """
        patients = {instance.patient_key for instance in series.instances}
        if len(patients) > 1:
            return PriorReports()
        jobs = self._jobs.results_of_patient(patients.pop(), but_study=job.study_uid)
        own = [prior for earlier in jobs if (prior := _prior(earlier)) is not None]
        if self._find_prior_reports is None:
            return PriorReports(results=tuple(own))
        known = {
            report.sop_instance_uid
            for prior in own
            for report in (prior.report, *prior.other_reports.values())
        }
        found = self._find_prior_reports(series)
        others = [prior for prior in found.results if prior.report.sop_instance_uid not in known]
        return replace(found, results=(*own, *others))


def _earliest(*times: datetime | None) -> datetime | None:
    """Return the earliest time; None if there is none."""
    return min(filter(None, times), default=None)


def _prior(job: Job) -> PriorResult | None:
    """Return the result of an earlier job as a prior; None if it cannot be read."""
    try:
        return prior_from_job(job)
    except Exception:  # noqa: BLE001 - another series must not fail for it
        _LOG.exception("the result of job %d cannot be read; it is not used as a prior", job.id)
        return None
