"""Complete by the settle time only: nobody is told of what may be a part before the quiet time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import FakeSender
from steps import step_all

from chestct.errors import RejectReason, SeriesRejected
from chestct.series import ReceivedInstance
from chestct.states import JobState
from rales.analysis.pipeline import AnalysisRequest, run
from rales.cli.scanning import scan
from rales.state.results import AnalysisReport
from rales.state.store import Database, DeliveryStore, Job
from rales.steps import analyse as worker_module
from rales.steps.assemble import AssemblyWorker
from rales.steps.backoff import BackOff
from rales.steps.completeness import CompletionPolicy
from rales.steps.deliver import DeliveryWorker
from scp.ports import AssociationEnd

from .conftest import NOON
from .test_deliveries import _DESTINATIONS
from .test_worker import Rig, _raise

pytestmark = pytest.mark.slow

Make = Callable[..., ReceivedInstance]

_WHOLE = 61  # slices of 3 mm
_REJECTION = SeriesRejected(RejectReason.MISSING_SLICES, "no diaphragm")


class EarlyRig(Rig):
    """A node without sockets: assembly, analysis and delivery by hand."""

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(database, folder)
        self.assembly = AssemblyWorker(
            jobs=self.jobs, instances=self.instances, policy=CompletionPolicy()
        )
        self.sender = FakeSender()
        self.deliveries = DeliveryStore(database)
        self.delivery = DeliveryWorker(
            jobs=self.jobs,
            deliveries=self.deliveries,
            destinations={"near": _DESTINATIONS["near"]},
            sender=self.sender,
            back_off=BackOff(
                first=timedelta(seconds=5),
                longest=timedelta(seconds=60),
                give_up_after=timedelta(hours=1),
            ),
            clock=self.clock,
        )

    def bring(self, *instances: ReceivedInstance) -> None:
        for one in instances:
            self.instances.record(one)
        series = frozenset({one.series_uid for one in instances})
        self.instances.association_ended(series, "CT1", AssociationEnd.RELEASED, self.clock.now)

    def step(self, seconds: float = 0.0) -> Job:
        """Let time pass and do what is due; return the newest revision."""
        now = self.clock.advance(seconds)
        self.assembly.step(now)
        self.worker().step(now)
        step_all(self.delivery, now)
        return self.jobs.all()[-1]


@pytest.fixture
def rig(database: Database, tmp_path: Path) -> EarlyRig:
    return EarlyRig(database, tmp_path)


def _whole(make: Make) -> list[ReceivedInstance]:
    return [make(number) for number in range(1, _WHOLE + 1)]


def test_an_early_rejection_is_decided_again_at_the_quiet_time(
    rig: EarlyRig, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "run", _raise(_REJECTION))
    rig.bring(*_whole(make_instance))
    job = rig.step(2)
    assert job.state is JobState.RECEIVING
    assert job.message == (
        "analysed early, without a result (missing-slices: no diaphragm);"
        " waits for more images until 12:00:30 UTC"
    )
    assert rig.step(27).state is JobState.RECEIVING
    assert rig.step(1).state is JobState.REJECTED
    after = [event.after for event in rig.jobs.events(job.id)]
    assert after.count("rejected") == 1


def test_the_rejection_of_an_announced_number_is_decided_again_at_the_quiet_time(
    rig: EarlyRig, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number may be that of a part: of an acquisition, or when it was exported last."""
    monkeypatch.setattr(worker_module, "run", _raise(_REJECTION))
    rig.bring(*(replace(make_instance(one), expected_instances=30) for one in range(1, 31)))
    job = rig.step()
    assert job.state is JobState.RECEIVING
    for _ in range(29):
        assert rig.step(1).state is JobState.RECEIVING
    assert [event.after for event in rig.jobs.events(job.id)].count("analysing") == 1
    rig.bring(make_instance(31, after=29.5))
    assert rig.step(25).state is JobState.RECEIVING
    assert rig.step(10).state is JobState.REJECTED
    (job,) = rig.jobs.all()
    assert job.instance_count == 31


def test_a_running_number_announces_nothing(rig: EarlyRig, make_instance: Make) -> None:
    """Some senders count as they go: each image says that it is the last."""
    for number in range(1, 10):
        rig.bring(replace(make_instance(number), expected_instances=number))
        rig.assembly.step(rig.clock.now)
    (first, *more) = rig.jobs.all()
    assert not more or [one.state for one in more] == [JobState.RECEIVING], "no revision each"
    assert first.state in {JobState.RECEIVING, JobState.SUPERSEDED}


def test_more_images_after_an_early_rejection_are_waited_for(
    rig: EarlyRig, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "run", _raise(_REJECTION))
    rig.bring(*_whole(make_instance))
    rig.step(2)
    rig.bring(make_instance(_WHOLE + 1, after=20))
    rig.step(28)
    (job,) = rig.jobs.all()
    assert job.state is JobState.RECEIVING
    assert rig.step(20).state is JobState.REJECTED
    assert rig.jobs.get(job.id).instance_count == _WHOLE + 1


def test_a_late_image_during_an_analysis_that_rejects_supersedes_it(
    rig: EarlyRig, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_: AnalysisRequest) -> AnalysisReport:
        rig.bring(make_instance(_WHOLE + 1, after=40))
        raise _REJECTION

    monkeypatch.setattr(worker_module, "run", late)
    rig.bring(*_whole(make_instance))
    rig.step(40)
    assert [job.state for job in rig.jobs.all()] == [JobState.SUPERSEDED, JobState.RECEIVING]


@pytest.fixture
def early(rig: EarlyRig, small_series: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Have a real series read early; its lungs reach the first slice or not, as is said."""

    def read(*, reaches: bool) -> Job:
        def said(request: AnalysisRequest) -> AnalysisReport:
            return replace(
                run(request), may_be_part="lung reaches the head end of the scan" if reaches else ""
            )

        monkeypatch.setattr(worker_module, "run", said)
        (series,) = scan(sorted(small_series.iterdir())).series
        job = rig.add(*(replace(one, received_at=NOON) for one in series.instances))
        with rig.jobs._database.transaction() as tx:
            tx.execute("UPDATE jobs SET hold_until = '2026-01-02T12:00:30.000000+00:00'")
        rig.step(2)
        return rig.jobs.get(job.id)

    return read


def test_lungs_that_end_inside_are_sent_at_once(rig: EarlyRig, early: Callable[..., Job]) -> None:
    assert early(reaches=False).state is JobState.DONE
    assert rig.sender.sent


def test_lungs_that_reach_an_end_wait_the_quiet_time(
    rig: EarlyRig, early: Callable[..., Job]
) -> None:
    job = early(reaches=True)
    assert job.state is JobState.COMPOSED
    assert job.message.endswith(
        "lung reaches the head end of the scan: waits for more images until 12:00:30 UTC"
    )
    assert rig.delivery.plan(rig.clock.now) == NOON + timedelta(seconds=30)
    assert rig.step(27.9).state is JobState.COMPOSED
    assert not rig.sender.sent
    assert rig.step(0.1).state is JobState.DONE
    assert rig.sender.sent


def test_a_late_image_supersedes_what_is_held(
    rig: EarlyRig, early: Callable[..., Job], make_instance: Make
) -> None:
    job = early(reaches=True)
    (one, *_) = rig.instances.of_series(job.series_uid)
    other = make_instance(99, series=job.series_uid, after=5)
    rig.bring(replace(other, patient_key=one.patient_key))
    rig.step(5)
    states = [one.state for one in rig.jobs.all()]
    assert states == [JobState.SUPERSEDED, JobState.RECEIVING]
    assert not rig.sender.sent
