"""A slice that comes while a series is being closed is in a result, or is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from fakes import FakeSender
from latest import latest_of_series
from steps import step_all

from chestct.series import ReceivedInstance, Series
from chestct.states import JobState
from chestct.uids import Uid
from rales.runtime.clock import utc_now
from rales.state.store import Database, DeliveryStore, InstanceStore, Job, JobStore
from rales.state.store.transitions import StateConflict
from rales.steps.assemble import AssemblyWorker
from rales.steps.completeness import CompletionPolicy
from rales.steps.retry import retry
from scp.ports import Recorded

from .conftest import NOON
from .test_deliveries import Rig as DeliveryRig
from .test_worker import Rig

Make = Callable[..., ReceivedInstance]

_SERIES = 60
_QUIET = 0.05
_POLICY = CompletionPolicy(settle_seconds=_QUIET, quiet_seconds=_QUIET)


class _Interrupted(InstanceStore):
    """Has something happen right after the instances of a series were read."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, on_change=lambda: None)
        self.then: Iterator[Callable[[], object]] = iter(())

    def of_series(self, series_uid: Uid) -> list[ReceivedInstance]:
        found = super().of_series(series_uid)
        for action in self.then:
            # as from the thread of an association: outside any transaction of this one
            thread = threading.Thread(target=action)
            thread.start()
            thread.join()
            break
        return found


def _covers_everything(jobs: JobStore, instances: InstanceStore, series: str) -> bool:
    job = latest_of_series(jobs, series)
    assert job is not None
    if job.state is JobState.RECEIVING:
        return False
    return job.instances_digest == Series.of(instances.of_series(job.series_uid)).digest


@pytest.mark.parametrize("content", ["a", "b"], ids=["one-more", "replaced"])
def test_a_slice_between_reading_and_marking_is_not_left_out(
    database: Database, make_instance: Make, content: str
) -> None:
    jobs, instances = JobStore(database), _Interrupted(database)
    instances.record(make_instance(1))
    late = make_instance(2 if content == "a" else 1, content=content)
    instances.then = iter([lambda: instances.record(late)])
    worker = AssemblyWorker(jobs=jobs, instances=instances, policy=_POLICY)
    now = NOON + timedelta(seconds=1)
    worker.step(now)
    worker.step(now)
    assert [job.state for job in jobs.all()] == [JobState.READY]
    assert _covers_everything(jobs, instances, "1.2.3")


class _Loops:
    """Does steps again and again, each in a thread of its own."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.stop = threading.Event()
        self.wrong: list[Exception] = []
        self._threads = [threading.Thread(target=self._repeat, args=(one,)) for one in steps]

    def __enter__(self) -> Self:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for one in self._threads:
            one.join()

    def _repeat(self, step: Callable[[], object]) -> None:
        try:
            while not self.stop.wait(0.001):
                step()
        except Exception as error:  # noqa: BLE001 - to be seen by the test
            self.wrong.append(error)


def test_late_slices_of_many_series_are_all_in_a_result(
    database: Database, make_instance: Make, tmp_path: Path
) -> None:
    """The late ones come 10 ms before to 20 ms after their series is complete."""
    rig = Rig(database, tmp_path)
    assembly = AssemblyWorker(jobs=rig.jobs, instances=rig.instances, policy=_POLICY)

    def bring(number: int) -> None:
        series = f"1.2.{number + 10}"
        at = utc_now()
        for slice_number in (1, 2):
            rig.instances.record(_at(make_instance(slice_number, series=series), at))
        late = _QUIET - 0.010 + 0.030 * number / _SERIES
        loops.stop.wait(max(0.0, late - (utc_now() - at).total_seconds()))
        rig.instances.record(_at(make_instance(3, series=series), utc_now()))

    def claim_and_end() -> None:
        job = rig.jobs.claim(at=utc_now())
        if job is not None:
            rig.jobs.move(job, JobState.FAILED, at=utc_now(), message="enough")

    bringers = [threading.Thread(target=bring, args=(number,)) for number in range(_SERIES)]
    left = [f"1.2.{number + 10}" for number in range(_SERIES)]
    patience = utc_now() + timedelta(seconds=30)
    with _Loops(lambda: assembly.step(utc_now()), claim_and_end) as loops:
        for one in bringers:
            one.start()
        for one in bringers:
            one.join()
        while left and utc_now() < patience:
            left = [one for one in left if not _covers_everything(rig.jobs, rig.instances, one)]
    assert not loops.wrong
    assert not left
    superseded = [job for job in rig.jobs.all() if job.state is JobState.SUPERSEDED]
    assert all(rig.jobs.has_newer(job) for job in superseded)


def _at(instance: ReceivedInstance, at: datetime) -> ReceivedInstance:
    return replace(instance, received_at=at)


def test_nothing_is_superseded_by_nothing(database: Database, make_instance: Make) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    instances.record(make_instance())
    (job,) = jobs.all()
    _mark(jobs, instances, job)
    with pytest.raises(StateConflict, match="no later revision"):
        jobs.move(jobs.get(job.id), JobState.SUPERSEDED, at=NOON, message="taken over")
    assert jobs.get(job.id).state is JobState.READY


def test_what_was_decided_on_fewer_images_is_not_done(
    database: Database, make_instance: Make
) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    instances.record(make_instance(1))
    (job,) = jobs.all()
    instances.record(make_instance(2))
    with pytest.raises(StateConflict, match="more images came"):
        _mark(jobs, instances, job)
    (job,) = jobs.all()
    assert job.state is JobState.RECEIVING


def test_a_job_whose_images_are_others_is_collected_again(
    database: Database, make_instance: Make, tmp_path: Path
) -> None:
    rig = Rig(database, tmp_path)
    job = rig.add(make_instance(1))
    with database.transaction() as tx:
        tx.execute("UPDATE jobs SET instances_digest = 'of fewer instances'")
    rig.worker().step(NOON)
    assert rig.jobs.get(job.id).state is JobState.RECEIVING
    assembly = AssemblyWorker(jobs=rig.jobs, instances=rig.instances, policy=_POLICY)
    assembly.step(NOON + timedelta(seconds=1))
    assert _covers_everything(rig.jobs, rig.instances, "1.2.3")


def test_a_series_that_an_older_version_lost_is_taken_up_at_the_start(
    database: Database, make_instance: Make
) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    instances.record(make_instance(1))
    with database.transaction() as tx:
        tx.execute("UPDATE jobs SET state = 'superseded'")
    assert jobs.recover(interruptions=3, at=NOON) == 1
    assert [job.state for job in jobs.all()] == [JobState.SUPERSEDED, JobState.RECEIVING]
    AssemblyWorker(jobs=jobs, instances=instances, policy=_POLICY).step(NOON + timedelta(minutes=1))
    assert _covers_everything(jobs, instances, "1.2.3")


def test_a_retry_gives_way_to_a_newer_revision(database: Database, make_instance: Make) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    instances.record(make_instance(1))
    (job,) = jobs.all()
    _mark(jobs, instances, job)
    claimed = jobs.claim(at=NOON)
    assert claimed is not None
    jobs.move(claimed, JobState.FAILED, at=NOON, message="")
    failed = jobs.get(job.id)
    instances.record(make_instance(2))
    with pytest.raises(StateConflict, match="newer revision"):
        retry(jobs, failed, at=NOON)


def test_a_retry_does_not_close_or_restart_what_is_under_way(
    database: Database, make_instance: Make
) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    instances.record(make_instance(1))
    (job,) = jobs.all()
    with pytest.raises(StateConflict, match="still in progress"):
        retry(jobs, job, at=NOON)
    _mark(jobs, instances, job)
    claimed = jobs.claim(at=NOON)
    assert claimed is not None
    with pytest.raises(StateConflict, match="still in progress"):
        retry(jobs, claimed, at=NOON)
    assert jobs.get(job.id).state is JobState.ANALYSING


def test_a_newer_revision_that_begins_during_the_planning_withdraws_all(
    database: Database, make_instance: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = DeliveryRig(database, make_instance, tmp_path)
    begin = DeliveryStore.begin

    def late(store: DeliveryStore, job: Job, **keys: Any) -> None:
        thread = threading.Thread(target=lambda: rig.compose(2))
        thread.start()
        thread.join(0.2)  # it cannot begin while the planning has the state
        begin(store, job, **keys)
        joined.append(thread)

    joined: list[threading.Thread] = []
    monkeypatch.setattr(DeliveryStore, "begin", late)
    sender = FakeSender()
    rig.worker(sender, "near").plan(NOON)
    monkeypatch.undo()
    for one in joined:
        one.join()
    step_all(rig.worker(sender, "near"), NOON)
    assert {job.state for job in rig.jobs.all()} <= {JobState.SUPERSEDED, JobState.DONE}
    assert rig.state() is JobState.SUPERSEDED


def test_a_transaction_within_another_is_a_part_of_it(database: Database) -> None:
    def write(name: str) -> None:
        with database.transaction() as tx:
            tx.execute("INSERT INTO node VALUES (?, '1')", (name,))
            if name == "fails":
                raise ValueError(name)

    def names() -> list[str]:
        return [row[0] for row in database.rows("SELECT name FROM node ORDER BY name")]

    with database.transaction():
        write("a")
        with pytest.raises(ValueError, match="fails"):
            write("fails")
        write("b")
    assert names() == ["a", "b"]
    with suppress(KeyError), database.transaction():
        write("c")
        raise KeyError
    assert names() == ["a", "b"]


def _mark(jobs: JobStore, instances: InstanceStore, job: Job) -> None:
    series = Series.of(instances.of_series(job.series_uid))
    jobs.mark_ready(
        job, instances_digest=series.digest, count=len(series.instances), at=NOON, message="all"
    )


def test_the_same_image_again_is_no_news(database: Database, make_instance: Make) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    instances.record(make_instance(1))
    (job,) = jobs.all()
    assert instances.record(make_instance(1)) is Recorded.REPEATED
    _mark(jobs, instances, job)
    assert jobs.get(job.id).state is JobState.READY
