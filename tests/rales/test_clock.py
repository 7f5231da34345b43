"""A clock that is set: waits stay as long as they were, nothing is given up or released for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from fakes import ManualClock
from hypothesis import given
from hypothesis import strategies as st
from latest import latest_of_series

from chestct.series import ReceivedInstance
from chestct.states import DeliveryState, JobState
from chestct.uids import Uid
from rales.node.clockwatch import ClockWatch, resumed_clock
from rales.runtime.clock import NodeClock
from rales.state.store import Database, DeliveryStore, InstanceStore, JobStore
from rales.state.store.clock import ClockStore
from rales.state.store.outbox import Attempt
from rales.steps.assemble import AssemblyWorker
from rales.steps.backoff import BackOff
from rales.steps.completeness import CompletionPolicy
from rales.steps.retry import retry

from .conftest import NOON

Make = Callable[..., ReceivedInstance]
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Machine:
    """A machine whose wall clock can be set; time passes for both of its clocks."""

    def __init__(self, database: Database) -> None:
        self.wall = ManualClock(NOON)
        self.monotonic = 0.0
        self.store = ClockStore(database)
        self.clock = self.boot()

    def boot(self) -> NodeClock:
        """Start the node anew."""
        self.clock = resumed_clock(self.store, wall=self.wall, monotonic=lambda: self.monotonic)
        self.watch = ClockWatch(self.clock, self.store)
        return self.clock

    def run(self, seconds: float) -> None:
        """Let the node run; the watch looks once a second."""
        self.monotonic += seconds
        self.wall.advance(seconds)
        self.watch.step(self.clock.now())

    def set_clock(self, by: timedelta) -> None:
        """Set the wall clock, as a time service or a person does."""
        self.wall.advance(by.total_seconds())


@pytest.fixture
def machine(database: Database) -> Machine:
    return Machine(database)


def test_the_present_does_not_jump_with_the_clock_until_the_watch_follows(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    before = machine.clock.now()
    machine.set_clock(-2 * HOUR)
    assert machine.clock.now() == before
    with caplog.at_level(logging.WARNING):
        machine.run(1)
    assert machine.clock.now() == NOON - 2 * HOUR + timedelta(seconds=1)
    assert machine.clock.moment().steady_since == machine.clock.now()
    assert "the clock was set back by 2:00:00" in caplog.text


def test_a_slew_is_no_jump(machine: Machine) -> None:
    machine.set_clock(timedelta(seconds=0.9))
    machine.run(1)
    assert machine.store.jumps() == []


@pytest.mark.parametrize("by", [-2 * HOUR, 5 * DAY, 31 * DAY, -31 * DAY])
def test_what_is_scheduled_keeps_its_distance(
    machine: Machine, database: Database, make_instance: Make, by: timedelta
) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    instances.record(make_instance())
    job = latest_of_series(jobs, "1.2.3")
    assert job is not None
    jobs.mark_ready(job, instances_digest="d", count=1, at=NOON, message="complete")
    claimed = jobs.claim(at=NOON)
    assert claimed is not None
    jobs.postpone(claimed, due_at=NOON + HOUR, at=NOON, message="again in an hour")
    machine.set_clock(by)
    machine.run(60)
    due = jobs.get(job.id).due_at
    assert due is not None
    assert due - machine.clock.now() == HOUR - timedelta(seconds=60)


def test_a_series_received_in_the_future_does_not_wait_for_it(
    machine: Machine, database: Database, make_instance: Make
) -> None:
    instances = InstanceStore(database, on_change=lambda: None)
    instances.record(make_instance(after=5))
    machine.set_clock(-2 * HOUR)
    machine.run(10)
    (one,) = instances.of_series(make_instance().series_uid)
    assert one.received_at == machine.clock.now()


@pytest.mark.parametrize("by", [-2 * HOUR, 2 * HOUR])
def test_a_series_waits_its_quiet_time_and_no_longer_however_the_clock_is_set(
    machine: Machine, database: Database, make_instance: Make, by: timedelta
) -> None:
    """Two hours ahead at boot and then corrected, it waited two hours; or not at all."""
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    assembly = AssemblyWorker(
        jobs=jobs,
        instances=instances,
        policy=CompletionPolicy(settle_seconds=2, quiet_seconds=30),
        moment=machine.clock.moment,
    )
    instances.record(make_instance())
    machine.set_clock(by)
    machine.run(1)
    assembly.step(machine.clock.now())
    (job,) = jobs.all()
    assert job.state is JobState.RECEIVING
    machine.run(30)
    assembly.step(machine.clock.now())
    assert jobs.get(job.id).state is JobState.READY


@pytest.mark.parametrize(
    "jump",
    [
        (-2, "before the step"),
        (2, "before the step"),
        (-2, "with the images"),
        (2, "with the images"),
        (-2, "before the mark"),
        (2, "before the mark"),
    ],
)
def test_a_clock_that_is_set_during_a_step_completes_nothing(
    machine: Machine,
    database: Database,
    make_instance: Make,
    monkeypatch: pytest.MonkeyPatch,
    jump: tuple[int, str],
) -> None:
    by, moment = jump[0] * HOUR, jump[1]
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    assembly = AssemblyWorker(
        jobs=jobs,
        instances=instances,
        policy=CompletionPolicy(settle_seconds=2, quiet_seconds=30),
        moment=machine.clock.moment,
    )
    instances.record(make_instance())
    machine.run(29.0 if moment != "before the mark" else 30.0)
    now = machine.clock.now()

    def set_clock() -> None:
        monkeypatch.undo()
        machine.set_clock(by)
        machine.run(0.01)

    if moment == "before the step":
        set_clock()
    else:
        store, name = {
            "with the images": (instances, "of_series"),
            "before the mark": (instances, "released"),
        }[moment]
        real = getattr(store, name)

        def and_set(*args: Any) -> Any:
            found = real(*args)
            set_clock()
            return found

        monkeypatch.setattr(store, name, and_set)
    assembly.step(now)
    (job,) = jobs.all()
    assert job.state is JobState.RECEIVING
    machine.run(31)
    assembly.step(machine.clock.now())
    assert jobs.get(job.id).state is JobState.READY


def test_a_series_that_cannot_be_judged_holds_up_no_other(
    machine: Machine,
    database: Database,
    make_instance: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    jobs, instances = JobStore(database), InstanceStore(database, on_change=lambda: None)
    assembly = AssemblyWorker(jobs=jobs, instances=instances, policy=CompletionPolicy())
    bad, good = make_instance(series="1.2.3"), make_instance(series="1.2.4")
    for one in (bad, good):
        instances.record(one)
    real = InstanceStore.of_series

    def of_series(self: InstanceStore, series_uid: str) -> list[ReceivedInstance]:
        if series_uid == bad.series_uid:
            raise ValueError("PATIENT")
        return real(self, series_uid)

    monkeypatch.setattr(InstanceStore, "of_series", of_series)
    now = NOON + HOUR
    for _ in range(3):
        due = assembly.step(now)
        assert due is not None
        assert due > now
    states = {job.series_uid: job for job in jobs.all()}
    assert states[good.series_uid].state is JobState.READY
    assert states[bad.series_uid].message == "cannot be judged (ValueError): looked at again"
    assert sum(one.exc_info is not None for one in caplog.records) == 1
    monkeypatch.undo()
    assembly.step(now)
    assert jobs.get(states[bad.series_uid].id).state is JobState.READY


@pytest.mark.parametrize("by", [5 * DAY, -5 * DAY])
@pytest.mark.parametrize("restart", ["running", "stopped"])
def test_no_jump_gives_up_or_releases(machine: Machine, by: timedelta, restart: str) -> None:
    back_off = BackOff(
        first=HOUR,
        longest=HOUR,
        give_up_after=3 * DAY,
        skipped_since=lambda since: machine.clock.skipped_since(since),  # noqa: PLW0108 - replaced at boot
    )
    since = machine.clock.now()
    machine.set_clock(by)
    if restart == "stopped":
        machine.boot()
    machine.run(10)
    since = min(since, machine.clock.now())  # the store corrects a time in the future
    assert back_off.next_attempt(1, since=since, now=machine.clock.now()) is not None
    for _ in range(74):
        machine.run(3600)
    assert back_off.next_attempt(1, since=since, now=machine.clock.now()) is None


def test_jumps_of_earlier_runs_still_count(machine: Machine) -> None:
    since = machine.clock.now()
    machine.set_clock(31 * DAY)
    machine.run(1)
    machine.boot()
    assert machine.clock.now() - since - machine.clock.skipped_since(since) < HOUR


def test_a_clock_set_back_while_the_node_was_off_is_said(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.run(120)
    machine.set_clock(-5 * DAY)
    with caplog.at_level(logging.WARNING):
        machine.boot()
    assert "5 days, 0:00:00 behind the time at which this node last ran" in caplog.text


def test_a_finished_job_of_the_future_is_dated_now(
    machine: Machine, database: Database, make_instance: Make
) -> None:
    """Otherwise retention would keep it as much longer as the clock was ahead."""
    InstanceStore(database, on_change=lambda: None).record(make_instance())
    with database.transaction() as tx:
        tx.execute(
            "UPDATE jobs SET state = ?, since = ?",
            (JobState.DONE, (NOON + DAY).isoformat(timespec="microseconds")),
        )
    machine.set_clock(-HOUR)
    machine.run(1)
    job = latest_of_series(JobStore(database), "1.2.3")
    assert job is not None
    assert job.since == machine.clock.now()


@given(
    st.lists(
        st.tuples(st.floats(1, 1e5), st.floats(-3e6, 3e6).filter(lambda by: abs(by) > 1.5)),
        max_size=8,
    )
)
def test_however_the_clock_is_set_a_duration_is_the_time_that_passed(
    steps: list[tuple[float, float]],
) -> None:
    wall, passed = ManualClock(NOON), [0.0]
    clock = NodeClock(wall=wall, monotonic=lambda: passed[0])
    since = clock.now()
    # Only jumps that leave `since` in the past: a time in the future is corrected in the store.
    for seconds, by in steps:
        passed[0] += seconds
        wall.advance(seconds)
        if wall.now + timedelta(seconds=by) > since:
            wall.advance(by)
            clock.follow()
    lasted = clock.now() - since - clock.skipped_since(since)
    assert abs(lasted.total_seconds() - passed[0]) < 1e-2


@pytest.mark.parametrize("by", [31 * DAY, -31 * DAY])
def test_a_retry_by_a_clock_that_is_wrong_is_due_at_once_and_not_given_up(
    machine: Machine, database: Database, make_instance: Make, by: timedelta
) -> None:
    """While the node is off, and before the clock is set right."""
    jobs, deliveries = JobStore(database), DeliveryStore(database)
    InstanceStore(database, on_change=lambda: None).record(make_instance())
    (job,) = jobs.all()
    jobs.mark_ready(job, instances_digest="d", count=1, at=NOON, message="")
    claimed = jobs.claim(at=NOON)
    assert claimed is not None
    jobs.composed(claimed, key="k", result={"objects": []}, at=NOON, message="")
    planned = {"pacs": [("sr", Uid("1.2.9"))]}
    deliveries.begin(jobs.get(job.id), planned=planned, at=NOON)
    (one,) = deliveries.of_job(job.id)
    deliveries.record(one, Attempt(state=DeliveryState.REFUSED, message="", at=NOON))
    deliveries.finish_jobs(at=NOON)
    machine.run(3600)
    retry(jobs, jobs.get(job.id), at=machine.wall.now + by)
    clock = machine.boot()
    deliveries.begin(jobs.get(job.id), planned=planned, at=clock.now())
    assert deliveries.due("pacs", at=clock.now()), "not only in a month"
    (one,) = deliveries.of_job(job.id)
    assert clock.now() - one.created_at - clock.skipped_since(one.created_at) < HOUR


def test_the_time_comes_from_the_clocks_of_the_machine_by_default() -> None:
    clock = NodeClock()
    assert abs(clock.deviation()) < timedelta(seconds=1)
    assert isinstance(clock.now(), datetime)
