from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from fakes import ManualClock
from latest import latest_of_series

from chestct.errors import ConfigError, OutOfResources
from chestct.series import ReceivedInstance, Series
from chestct.states import DeliveryState, JobState
from chestct.uids import Uid
from rales.runtime.clock import Moment
from rales.state.store import Database, Delivery, DeliveryStore, InstanceStore, Job, JobStore
from rales.state.store.outbox import Attempt
from rales.state.store.transitions import StateConflict
from rales.steps.assemble import AssemblyWorker
from rales.steps.completeness import CompletionPolicy
from rales.steps.retry import retry
from scp.ports import AssociationEnd, Recorded

from .conftest import NOON

Make = Callable[..., ReceivedInstance]


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def instances(database: Database) -> InstanceStore:
    return InstanceStore(database, on_change=lambda: None)


def _due(deliveries: DeliveryStore, at: datetime) -> list[Delivery]:
    return [one for name in ("a", "b", "c") for one in deliveries.due(name, at=at)]


def _attempt(state: DeliveryState, at: datetime, status: int, message: str = "") -> Attempt:
    return Attempt(state=state, status=status, message=message, at=at)


def _ready(jobs: JobStore, instances: InstanceStore, series: str = "1.2.3") -> Job:
    job = latest_of_series(jobs, series)
    assert job is not None
    snapshot = Series.of(instances.of_series(Uid(series)))
    jobs.mark_ready(
        job, instances_digest=snapshot.digest, count=len(snapshot.instances), at=NOON, message="all"
    )
    return jobs.get(job.id)


def _composed(jobs: JobStore, instances: InstanceStore) -> Job:
    _ready(jobs, instances)
    claimed = jobs.claim(at=NOON)
    assert claimed is not None
    jobs.composed(claimed, key="k", result={"objects": []}, at=NOON, message="2 %")
    return jobs.get(claimed.id)


def test_the_first_instance_opens_a_job(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    assert instances.record(make_instance()) is Recorded.NEW
    job = latest_of_series(jobs, "1.2.3")
    assert job is not None
    assert (job.state, job.revision, job.association_ended_at) == (JobState.RECEIVING, 1, None)


def test_the_same_bytes_again_change_nothing(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    instances.record(make_instance())
    _ready(jobs, instances)
    assert instances.record(make_instance(after=60)) is Recorded.REPEATED
    assert [job.state for job in jobs.all()] == [JobState.READY]


def test_other_bytes_under_the_same_uid_replace_and_keep_the_old_ones(
    database: Database, instances: InstanceStore, make_instance: Make
) -> None:
    instances.record(make_instance(content="a"))
    assert instances.record(make_instance(content="b")) is Recorded.REPLACED
    assert [one.content_digest for one in instances.of_series(Uid("1.2.3"))] == ["1.2.3-1-b"]
    assert len(database.rows("SELECT * FROM instances")) == 2
    assert instances.record(make_instance(content="a")) is Recorded.REPLACED
    assert [one.content_digest for one in instances.of_series(Uid("1.2.3"))] == ["1.2.3-1-a"]


def test_a_recorded_instance_comes_back_as_it_was(
    instances: InstanceStore, make_instance: Make
) -> None:
    instance = make_instance(7)
    instances.record(instance)
    assert instances.of_series(instance.series_uid) == [instance]


def test_a_late_instance_supersedes_a_job_that_still_waits(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    instances.record(make_instance(1))
    _ready(jobs, instances)
    instances.record(make_instance(2))
    assert [(job.revision, job.state) for job in jobs.all()] == [
        (1, JobState.SUPERSEDED),
        (2, JobState.RECEIVING),
    ]
    assert jobs.claim(at=NOON) is None


def test_a_late_instance_after_the_analysis_makes_a_revision(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    instances.record(make_instance(1))
    job = _composed(jobs, instances)
    instances.record(make_instance(2))
    assert jobs.has_newer(job)
    assert [one.revision for one in jobs.all()] == [1, 2]


def test_the_end_of_an_association_is_noted_for_receiving_jobs(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    instances.record(make_instance())
    series = frozenset({Uid("1.2.3")})
    instances.association_ended(series, "CT1", AssociationEnd.RELEASED, NOON)
    job = latest_of_series(jobs, "1.2.3")
    assert job is not None
    assert job.association_ended_at == NOON


def test_only_one_claims_a_job(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    instances.record(make_instance())
    _ready(jobs, instances)
    first = jobs.claim(at=NOON)
    assert first is not None
    assert (first.state, first.attempts) == (JobState.ANALYSING, 1)
    assert jobs.claim(at=NOON) is None


def test_a_change_from_another_state_than_expected_changes_nothing(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    instances.record(make_instance())
    job = _ready(jobs, instances)
    jobs.claim(at=NOON)
    with pytest.raises(StateConflict):
        jobs.move(job, JobState.ANALYSING, at=NOON, message="again")
    with pytest.raises(StateConflict):
        jobs.move(job, JobState.DONE, at=NOON, message="not legal")
    assert jobs.get(job.id).state is JobState.ANALYSING
    assert [event.after for event in jobs.events(job.id)] == ["receiving", "ready", "analysing"]


def test_a_postponed_job_waits_for_its_time(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    instances.record(make_instance())
    _ready(jobs, instances)
    job = jobs.claim(at=NOON)
    assert job is not None
    later = NOON + timedelta(seconds=10)
    jobs.postpone(job, due_at=later, at=NOON, message="the process died")
    assert jobs.claim(at=NOON) is None
    assert jobs.next_due() == later
    assert jobs.claim(at=later) is not None


def test_a_restart_takes_an_interrupted_analysis_up_until_its_attempts_are_spent(
    instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    instances.record(make_instance())
    _ready(jobs, instances)
    jobs.claim(at=NOON)
    assert jobs.recover(interruptions=2, at=NOON) == 1
    assert jobs.claim(at=NOON) is not None
    jobs.recover(interruptions=2, at=NOON)
    (job,) = jobs.all()
    assert (job.state, job.reason) == (JobState.FAILED, "interrupted")
    assert retry(jobs, job, at=NOON) is JobState.READY
    assert jobs.get(job.id).attempts == 0


@pytest.mark.parametrize("how", [AssociationEnd.ABORTED, None])
def test_half_a_series_after_an_abort_or_a_restart_does_not_count_as_released(
    database: Database, how: AssociationEnd | None, make_instance: Make
) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    for number in (1, 2, 3):
        instances.record(make_instance(number))
    if how is None:
        jobs.recover(interruptions=3, at=NOON)
    else:
        instances.association_ended(frozenset({Uid("1.2.3")}), "CT1", how, NOON)
    restarted = NOON + timedelta(seconds=100)
    clock = ManualClock(restarted)
    assembly = AssemblyWorker(
        jobs=jobs,
        instances=instances,
        policy=CompletionPolicy(settle_seconds=2, quiet_seconds=30),
        moment=lambda: Moment(now=clock.now, steady_since=restarted),
    )
    assert assembly.step(restarted) == restarted + timedelta(seconds=30)
    assert assembly.step(clock.advance(29)) is not None
    (job,) = jobs.all()
    assert job.state is JobState.RECEIVING
    assert assembly.step(clock.advance(1)) is None
    assert jobs.get(job.id).state is JobState.READY


def test_deliveries_are_planned_sent_and_closed(
    database: Database, instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    deliveries = DeliveryStore(database)
    instances.record(make_instance())
    job = _composed(jobs, instances)
    objects = [("seg", Uid("1.5")), ("sr", Uid("1.6"))]
    deliveries.begin(job, planned={"a": objects, "b": objects}, at=NOON)
    due = _due(deliveries, NOON)
    assert [(one.destination, one.role) for one in due] == [
        ("a", "seg"),
        ("a", "sr"),
        ("b", "seg"),
        ("b", "sr"),
    ]
    for one in due[:3]:
        deliveries.record(one, _attempt(DeliveryState.DELIVERED, NOON, 0, "ok"))
    later = NOON + timedelta(seconds=5)
    again = replace(_attempt(DeliveryState.PENDING, NOON, 0xA700, "full"), due_at=later)
    deliveries.record(due[3], again)
    assert deliveries.finish_jobs(at=NOON) == []
    assert _due(deliveries, NOON) == []
    assert deliveries.next_due("b") == later
    (last,) = _due(deliveries, later)
    assert (last.attempts, last.status) == (1, 0xA700)
    deliveries.record(last, _attempt(DeliveryState.REFUSED, later, 0xA900, "no"))
    assert deliveries.finish_jobs(at=later) == [job.id]
    ended = jobs.get(job.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "delivery-refused")
    assert retry(jobs, ended, at=later) is JobState.COMPOSED
    planned = {"a": objects, "b": objects, "c": objects[1:]}
    deliveries.begin(jobs.get(job.id), planned=planned, at=later)
    assert [one.destination for one in _due(deliveries, later)] == ["b", "c"]


def test_the_predecessor_is_the_last_revision_that_was_delivered(
    database: Database, instances: InstanceStore, jobs: JobStore, make_instance: Make
) -> None:
    deliveries = DeliveryStore(database)
    instances.record(make_instance(1))
    first = _composed(jobs, instances)
    deliveries.begin(first, planned={"a": [("sr", Uid("1.6"))]}, at=NOON)
    for one in _due(deliveries, NOON):
        deliveries.record(one, _attempt(DeliveryState.DELIVERED, NOON, 0, "ok"))
    instances.record(make_instance(2))
    second = latest_of_series(jobs, "1.2.3")
    assert second is not None
    before = jobs.predecessor(second)
    assert before is not None
    assert before.id == first.id
    with pytest.raises(StateConflict, match="newer revision"):
        retry(jobs, jobs.get(first.id), at=NOON)


@pytest.mark.parametrize("refused", ["seg", "sr"])
def test_a_report_that_was_taken_is_a_prior_though_the_seg_was_refused(
    refused: str,
    database: Database,
    instances: InstanceStore,
    jobs: JobStore,
    make_instance: Make,
) -> None:
    deliveries = DeliveryStore(database)
    instances.record(make_instance())
    job = _composed(jobs, instances)
    objects = [("seg", Uid("1.5")), ("sr", Uid("1.6"))]
    deliveries.begin(job, planned={"a": objects}, at=NOON)
    for one in _due(deliveries, NOON):
        end = DeliveryState.REFUSED if one.role == refused else DeliveryState.DELIVERED
        deliveries.record(one, _attempt(end, NOON, 0))
    deliveries.finish_jobs(at=NOON)
    assert jobs.get(job.id).state is JobState.FAILED
    found = jobs.results_of_patient("p", but_study="1.9")
    assert [one.id for one in found] == ([job.id] if refused == "seg" else [])


def test_state_survives_reopening(
    tmp_path: Path, database: Database, instances: InstanceStore, make_instance: Make
) -> None:
    instances.record(make_instance())
    database.close()
    again = Database(tmp_path / "state.sqlite")
    assert latest_of_series(JobStore(again), "1.2.3") is not None
    again.close()


def test_a_state_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    opened = Database(tmp_path / "new.sqlite")
    with opened.transaction() as tx:
        tx.execute("PRAGMA user_version=99")
    opened.close()
    with pytest.raises(ConfigError, match="newer Rales"):
        Database(tmp_path / "new.sqlite")


def test_a_state_file_that_cannot_be_written_is_out_of_resources(
    database: Database, instances: InstanceStore, make_instance: Make
) -> None:
    instances.record(make_instance(1))
    database.rows("PRAGMA query_only=ON")
    with pytest.raises(OutOfResources):
        instances.record(make_instance(2))
    database.rows("PRAGMA query_only=OFF")
    assert instances.record(make_instance(2)) is Recorded.NEW
