from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import InlineWorker
from state_rig import StateRig

from chestct.errors import AnalysisHung, ModelError, OutOfResources, RejectReason, SeriesRejected
from chestct.method import Method
from chestct.results import Extra
from chestct.series import ReceivedInstance
from chestct.states import JobState
from inference.loading.rules import EligibilityRules
from rales.analysis.pipeline import AnalysisRequest, run
from rales.analysis.settings import AnalysisSettings
from rales.cli.scanning import scan
from rales.state.results import AnalysisReport, load_objects
from rales.state.store import Database, Job, JobStore
from rales.steps import analyse as worker_module
from rales.steps.analyse import AnalysisWorker

from .conftest import NOON

pytestmark = pytest.mark.slow

Make = Callable[..., ReceivedInstance]

_SETTINGS = AnalysisSettings(
    rules=EligibilityRules(),
    method=Method(),
    minimum_lesion_ml=None,
    models_dir=None,
    providers=("CPU",),
    threads=1,
    station_name="RALES",
)


class Rig(StateRig):
    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(database)
        self.folder = folder
        self.woken = 0

    def add(self, *instances: ReceivedInstance) -> Job:
        for instance in instances:
            self.instances.record(instance)
        return self.mark_ready(instances[0].series_uid)

    def worker(self) -> AnalysisWorker:
        return AnalysisWorker(
            jobs=self.jobs,
            instances=self.instances,
            settings=_SETTINGS,
            results_dir=self.folder / "results",
            attempts=2,
            process=InlineWorker(),
            clock=self.clock,
            on_composed=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def rig(database: Database, tmp_path: Path) -> Rig:
    return Rig(database, tmp_path)


def _raise(error: Exception) -> Callable[[AnalysisRequest], AnalysisReport]:
    def run(request: AnalysisRequest) -> AnalysisReport:
        raise error

    return run


def test_a_ready_series_becomes_results(rig: Rig, small_series: Path) -> None:
    (series,) = scan(sorted(small_series.iterdir())).series
    job = rig.add(*series.instances)
    rig.worker().step(NOON)
    done = rig.jobs.get(job.id)
    assert done.state is JobState.COMPOSED
    assert [item.role for item in load_objects(done)] == ["seg", "sr"]
    assert all(item.path.exists() for item in load_objects(done))
    assert rig.woken == 1
    assert done.result is not None
    assert done.result["provider"] == "CPU"


def test_a_picture_that_cannot_be_made_is_said_of_the_series(
    rig: Rig, small_series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_page(request: AnalysisRequest) -> AnalysisReport:
        return replace(run(request), left_out=(Extra.ENCAPSULATED_PDF,))

    monkeypatch.setattr(worker_module, "run", without_page)
    (series,) = scan(sorted(small_series.iterdir())).series
    job = rig.add(*series.instances)
    rig.worker().step(NOON)
    done = rig.jobs.get(job.id)
    assert done.state is JobState.COMPOSED
    assert done.message.endswith("; could not be written: encapsulated-pdf")
    assert done.result is not None
    assert done.result["left_out"] == ["encapsulated-pdf"]


def test_nothing_ready_is_nothing_done(rig: Rig) -> None:
    assert rig.worker().step(NOON) is None


def test_a_rejection_ends_with_its_reason(
    rig: Rig, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rig.add(make_instance())
    rejection = SeriesRejected(RejectReason.MISSING_SLICES, "2 slices are missing, at 3.0, 6.0 mm")
    monkeypatch.setattr(worker_module, "run", _raise(rejection))
    rig.worker().step(NOON)
    ended = rig.jobs.get(job.id)
    assert (ended.state, ended.reason) == (JobState.REJECTED, "missing-slices")
    assert "at 3.0, 6.0 mm" in ended.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out-of-memory"),
        (AnalysisHung("no answer"), "analysis-hung"),
        (ModelError("not to be read now"), "ModelError"),
        (KeyError("odd"), "KeyError"),
    ],
)
def test_a_failure_is_tried_again_until_the_attempts_are_spent(
    rig: Rig, make_instance: Make, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    job = rig.add(make_instance())
    monkeypatch.setattr(worker_module, "run", _raise(error))
    worker = rig.worker()
    worker.step(NOON)
    assert rig.jobs.get(job.id).state is JobState.READY
    assert rig.jobs.next_due() == NOON + timedelta(seconds=10)
    worker.step(rig.clock.advance(10))
    ended = rig.jobs.get(job.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, reason)


def test_a_full_disk_is_waited_for_however_long_it_lasts(
    rig: Rig, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rig.add(make_instance())
    full = OutOfResources("the results cannot be written: No space left on device")
    monkeypatch.setattr(worker_module, "run", _raise(full))
    worker = rig.worker()
    worker.step(NOON)
    for _ in range(10):
        waiting = rig.jobs.get(job.id)
        assert (waiting.state, waiting.attempts) == (JobState.READY, 0)
        assert "No space left on device" in waiting.message
        worker.step(rig.clock.advance(300))
    rejection = SeriesRejected(RejectReason.NO_LUNGS, "no chest")
    monkeypatch.setattr(worker_module, "run", _raise(rejection))
    worker.step(rig.clock.advance(300))
    assert rig.jobs.get(job.id).state is JobState.REJECTED


def test_a_rejection_says_how_many_images_came_under_one_uid(
    rig: Rig, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> AnalysisReport:
        raise SeriesRejected(RejectReason.TOO_FEW_SLICES, "1 slices, at least 20 are needed")

    monkeypatch.setattr(worker_module, "run", refuse)
    images = [make_instance(1, content=f"{number:02d}") for number in range(64)]
    job = rig.add(*images)
    rig.worker().step(NOON)
    ended = rig.jobs.get(job.id)
    assert ended.state is JobState.REJECTED
    assert "at least 20 are needed; 64 images came under one SOP Instance UID" in ended.message
    assert images[0].sop_instance_uid in ended.message


def test_a_late_instance_takes_the_job_over(rig: Rig, make_instance: Make) -> None:
    job = rig.add(make_instance(1))
    claimed = rig.jobs.claim(at=NOON)
    assert claimed is not None
    rig.instances.record(make_instance(2))
    rig.jobs.put_back(claimed, at=NOON, message="as after a stop")
    rig.worker().step(NOON)
    assert rig.jobs.get(job.id).state is JobState.SUPERSEDED
    (newest,) = rig.jobs.in_state(JobState.RECEIVING)
    assert newest.revision == 2


def test_an_outcome_that_cannot_be_recorded_is_recorded_later(
    rig: Rig, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rig.add(make_instance())
    rejection = SeriesRejected(RejectReason.NO_LUNGS, "no chest")

    def run(request: AnalysisRequest) -> AnalysisReport:
        rig.jobs._database.rows("PRAGMA query_only=ON")  # the disk is full from here on
        raise rejection

    monkeypatch.setattr(worker_module, "run", run)
    worker = rig.worker()
    with pytest.raises(OutOfResources):
        worker.step(NOON)
    assert rig.jobs.get(job.id).state is JobState.ANALYSING
    rig.jobs._database.rows("PRAGMA query_only=OFF")
    worker.step(rig.clock.advance(1))
    assert rig.jobs.get(job.id).state is JobState.REJECTED


def test_an_outcome_that_cannot_be_recorded_ends_its_job_and_no_other(
    rig: Rig,
    make_instance: Callable[..., ReceivedInstance],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, next_one = (rig.add(make_instance(1, series=series)) for series in ("1.2.3", "1.2.4"))
    refusal = SeriesRejected(RejectReason.NOT_CT, "no")
    monkeypatch.setattr(worker_module, "run", _raise(refusal))
    real = JobStore.move

    def move(self: JobStore, job: Job, *args: Any, **keys: Any) -> None:
        if job.id == bad.id:
            "\ud800".encode()
        real(self, job, *args, **keys)

    monkeypatch.setattr(JobStore, "move", move)
    worker = rig.worker()
    for _ in range(2):
        worker.step(NOON)
    ended = rig.jobs.get(bad.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "unrecordable")
    assert "UnicodeEncodeError" in ended.message
    assert rig.jobs.get(next_one.id).state is not JobState.ANALYSING
    assert rig.jobs.get(next_one.id).state is not JobState.READY
