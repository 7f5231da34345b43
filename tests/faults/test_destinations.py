"""Destinations that misbehave on real sockets; the clock of the back-off is the test's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from destination_rig import SEG, SR, Peer, Rig
from ports import free_port
from state_rig import NOON
from steps import step_all

from chestct.states import DeliveryState, JobState
from dicom_out.network.destination import Destination
from rales.state.store import Database
from rales.steps.backoff import BackOff

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    database = Database(tmp_path / "state.sqlite")
    yield Rig(database, tmp_path)
    database.close()


@pytest.fixture
def start_peer() -> Iterator[Callable[[], Peer]]:
    made: list[Peer] = []

    def make() -> Peer:
        made.append(Peer())
        return made[-1]

    yield make
    for peer in made:
        peer.stop()


def test_down_for_eight_hours_then_everything_arrives_once(
    rig: Rig, start_peer: Callable[[], Peer]
) -> None:
    peer = start_peer()
    rig.ports["far"] = free_port()
    jobs = [rig.compose(f"1.{n}") for n in range(4)]
    worker = rig.worker()
    step_all(worker, rig.clock.now)
    gaps = []
    while rig.clock.now < NOON + timedelta(hours=8):
        due = rig.deliveries.next_due("far")
        assert due is not None
        gaps.append((due - rig.clock.now).total_seconds())
        rig.clock.now = due
        step_all(worker, due)
    assert gaps[:4] == [5, 10, 20, 40]
    assert max(gaps) == 600
    assert {rig.state(job) for job in jobs} == {JobState.DELIVERING}
    assert "cannot be reached" in rig.deliveries.of_job(jobs[0].id)[0].message
    peer.start(port=rig.ports["far"])
    step_all(worker, rig.clock.advance(600))
    assert {rig.state(job) for job in jobs} == {JobState.DONE}
    assert len(peer.kept) == 8
    assert set(peer.times.values()) == {1}


def test_a_refused_class_lets_the_other_through_and_is_said(
    rig: Rig, start_peer: Callable[[], Peer]
) -> None:
    peer = start_peer()
    rig.ports["near"] = peer.start(kinds=(SR,))
    job = rig.compose()
    step_all(rig.worker(), NOON)
    assert rig.state(job) is JobState.DELIVERING
    assert rig.states(job) == {
        ("near", "seg"): DeliveryState.PENDING,
        ("near", "sr"): DeliveryState.DELIVERED,
    }
    seg = rig.deliveries.of_job(job.id)[0]
    assert seg.message == "Segmentation Storage is not accepted by the destination"
    assert seg.due_at == NOON + timedelta(minutes=10), "a long pause from the first time on"
    assert len(peer.kept) == 1


@pytest.mark.parametrize(
    ("status", "kept", "state"),
    [
        (0xB000, True, JobState.DONE),
        (0xB007, True, JobState.DONE),
        (0xA700, False, JobState.DELIVERING),
        (0xC000, False, JobState.FAILED),
        (0xA900, False, JobState.FAILED),
    ],
)
def test_each_status_has_its_end_and_its_object_alone(
    rig: Rig, start_peer: Callable[[], Peer], status: int, *, kept: bool, state: JobState
) -> None:
    peer = start_peer()
    peer.answer = lambda event: status if event.request.AffectedSOPClassUID == SEG else 0x0000
    rig.ports["near"] = peer.start()
    job = rig.compose()
    worker = rig.worker()
    step_all(worker, NOON)
    assert rig.state(job) is state
    assert rig.states(job)["near", "sr"] is DeliveryState.DELIVERED
    (seg,) = [one for one in rig.deliveries.of_job(job.id) if one.role == "seg"]
    assert seg.status == status
    assert (seg.sop_instance_uid in peer.kept) == kept
    if state is JobState.DELIVERING:
        peer.answer = lambda _event: 0x0000
        step_all(worker, rig.clock.advance(5))
        assert rig.state(job) is JobState.DONE
        assert peer.times[seg.sop_instance_uid] == 2


def _abort(event: Any) -> int:
    event.assoc.abort()
    return 0xC000


def test_an_abort_in_the_middle_costs_an_attempt(rig: Rig, start_peer: Callable[[], Peer]) -> None:
    peer = start_peer()
    peer.answer = _abort
    rig.ports["near"] = peer.start()
    job = rig.compose()
    worker = rig.worker()
    step_all(worker, NOON)
    assert [one.attempts for one in rig.deliveries.of_job(job.id)] == [1, 1]
    peer.answer = lambda _event: 0x0000
    step_all(worker, rig.clock.advance(5))
    assert rig.state(job) is JobState.DONE


def test_an_answer_that_never_comes_for_an_object_that_was_kept_makes_no_second_one(
    rig: Rig, start_peer: Callable[[], Peer]
) -> None:
    peer, silence = start_peer(), threading.Event()

    def keep_and_say_nothing(event: Any) -> int:
        peer.kept[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        silence.wait(60)
        return 0xC000

    peer.answer = keep_and_say_nothing
    rig.ports["near"] = peer.start()
    job = rig.compose()
    step_all(rig.worker(timeout=1.0), NOON)
    first = dict(peer.kept)
    assert len(first) == 1
    assert rig.state(job) is JobState.DELIVERING
    silence.set()
    peer.answer = lambda _event: 0x0000
    step_all(rig.worker(), rig.clock.advance(5))
    assert rig.state(job) is JobState.DONE
    assert len(peer.kept) == 2
    assert {uid: peer.kept[uid] for uid in first} == first


def test_a_destination_that_hangs_does_not_keep_another_waiting(
    rig: Rig, start_peer: Callable[[], Peer]
) -> None:
    slow, good, go_on = start_peer(), start_peer(), threading.Event()
    entered = threading.Event()

    def hold(_event: Any) -> int:
        entered.set()
        go_on.wait(60)
        return 0x0000

    slow.answer = hold
    rig.ports |= {"slow": slow.start(), "good": good.start()}
    job = rig.compose()
    worker = rig.worker(timeout=60.0)
    worker.plan(NOON)
    held = threading.Thread(target=worker.send_due, args=("slow", NOON))
    held.start()
    assert entered.wait(30)
    worker.send_due("good", NOON)
    assert len(good.kept) == 2
    assert slow.kept == {}
    go_on.set()
    held.join(60)
    assert rig.state(job) is JobState.DONE


def test_what_is_in_flight_when_late_slices_come_is_named_as_the_predecessor(
    rig: Rig, start_peer: Callable[[], Peer]
) -> None:
    peer, silence = start_peer(), threading.Event()

    def say_nothing(_event: Any) -> int:
        silence.wait(60)
        return 0xC000

    peer.answer = say_nothing
    rig.ports["near"] = peer.start()
    job = rig.compose()
    step_all(rig.worker(timeout=1.0), NOON)
    silence.set()
    rig.arrive(number=2)
    second = rig.claim()
    first = rig.jobs.predecessor(second)
    assert first is not None
    assert first.id == job.id


@pytest.mark.parametrize("down", [True, False])
def test_what_was_surely_not_stored_is_withdrawn_when_late_slices_come(
    rig: Rig, start_peer: Callable[[], Peer], *, down: bool
) -> None:
    peer = start_peer()
    peer.answer = lambda _event: 0xA700
    rig.ports["near"] = free_port() if down else peer.start()
    first = rig.compose()
    worker = rig.worker()
    step_all(worker, NOON)
    rig.arrive(number=2)
    second = rig.claim()
    assert rig.jobs.predecessor(second) is None
    if down:
        peer.start(port=rig.ports["near"])
    peer.answer = lambda _event: 0x0000
    worker.send_due("near", rig.clock.advance(5))
    assert peer.kept == {}
    worker.plan(rig.clock.now)
    assert rig.state(first) is JobState.SUPERSEDED
    rig.finish(second)
    step_all(worker, rig.clock.now)
    assert rig.state(second) is JobState.DONE
    assert len(peer.kept) == 2


def test_one_that_is_down_is_asked_once_for_all_that_is_due(rig: Rig) -> None:
    asked: list[str] = []
    rig.ports["far"] = free_port()
    jobs = [rig.compose(f"1.{n}") for n in range(5)]
    real = rig.sender()

    def counting(objects: Any, destination: Destination) -> Any:
        asked.append(destination.name)
        return real(objects, destination)

    step_all(rig.worker(sender=counting), NOON)
    assert asked == ["far"]
    assert {one.attempts for job in jobs for one in rig.deliveries.of_job(job.id)} == {1}


def test_chance_spreads_the_pauses_below_the_ceiling() -> None:
    back_off = BackOff(
        first=timedelta(seconds=8),
        longest=timedelta(seconds=60),
        give_up_after=timedelta(hours=1),
        jitter=0.25,
    )
    pauses = {back_off.delay(9).total_seconds() for _ in range(100)}
    assert len(pauses) > 50
    assert all(45 <= pause <= 60 for pause in pauses)
