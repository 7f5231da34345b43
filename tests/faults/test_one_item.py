"""One damaged, hostile or unrecordable item costs itself alone; its neighbours are delivered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from destination_rig import SEG, SR, Peer, Rig
from state_rig import NOON
from steps import step_all

from chestct.errors import OutOfResources
from chestct.states import DeliveryState, JobState
from rales.state.store import Database, DeliveryStore, Job
from rales.state.store.outbox import Attempt
from rales.steps.retry import retry

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    database = Database(tmp_path / "state.sqlite")
    yield Rig(database, tmp_path)
    database.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


def file_of(rig: Rig, job: Job, role: str) -> Path:
    return rig.folder / f"{job.id}-{role}.dcm"


def _remove(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _change(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("damage", [_remove, _cut, _change])
@pytest.mark.parametrize("role", ["seg", "sr"])
def test_a_damaged_result_file_costs_itself_alone(
    rig: Rig, peer: Peer, damage: Callable[[Path], None], role: str
) -> None:
    rig.ports["near"] = peer.start()
    bad, good = rig.compose("1.1"), rig.compose("1.2")
    damage(file_of(rig, bad, role))
    worker = rig.worker()
    due = step_all(worker, NOON)
    other = "sr" if role == "seg" else "seg"
    assert rig.state(good) is JobState.DONE
    assert rig.states(bad) == {
        ("near", role): DeliveryState.PENDING,
        ("near", other): DeliveryState.DELIVERED,
    }
    assert due == NOON + timedelta(seconds=5)
    for seconds in (5, 10):
        step_all(worker, rig.clock.advance(seconds))
    ended = rig.jobs.get(bad.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "delivery-refused")
    assert f"near did not get the {role}: not sent: the result file" in ended.message
    assert "rales retry" in ended.message
    assert len(peer.kept) == 3
    assert set(peer.times.values()) == {1}


def test_what_the_peer_took_is_recorded_before_the_next_is_sent(rig: Rig, peer: Peer) -> None:
    seen: list[DeliveryState] = []

    def look(event: Any) -> int:
        if event.request.AffectedSOPClassUID == SR:
            seen.append(rig.states(job)["near", "seg"])
        return 0x0000

    peer.answer = look
    rig.ports["near"] = peer.start()
    job = rig.compose()
    step_all(rig.worker(), NOON)
    assert seen == [DeliveryState.DELIVERED]


def test_a_role_that_the_results_do_not_hold_costs_itself_alone(rig: Rig, peer: Peer) -> None:
    rig.ports["near"] = peer.start()
    job, good = rig.compose("1.1"), rig.compose("1.2")
    worker = rig.worker()
    worker.plan(NOON)
    with rig.database.transaction() as tx:
        tx.execute(
            "UPDATE deliveries SET role = 'lost' WHERE role = 'seg' AND job_id = ?", (job.id,)
        )
    step_all(worker, NOON)
    assert rig.state(good) is JobState.DONE
    assert rig.states(job) == {
        ("near", "lost"): DeliveryState.PENDING,
        ("near", "sr"): DeliveryState.DELIVERED,
    }


@pytest.mark.parametrize("result", ["{", "[1]", '{"objects": [{"role": "seg"}]}'])
def test_a_job_whose_results_cannot_be_read_ends_and_holds_up_nobody(
    rig: Rig, peer: Peer, result: str
) -> None:
    rig.ports["near"] = peer.start()
    bad = rig.compose("1.1")
    with rig.database.transaction() as tx:
        tx.execute("UPDATE jobs SET result = ? WHERE id = ?", (result, bad.id))
    good = rig.compose("1.2")
    step_all(rig.worker(), NOON)
    assert rig.state(good) is JobState.DONE
    states = rig.database.rows("SELECT state, reason FROM jobs WHERE id = ?", (bad.id,))
    assert [tuple(one) for one in states] == [("failed", "unreadable")]


def test_an_error_that_nobody_foresaw_costs_one_item_an_attempt_and_is_logged_once(
    rig: Rig, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    rig.ports["near"] = peer.start()
    real = rig.sender()

    def raising(objects: Any, destination: Any) -> Any:
        for item in objects:
            if item.series_uid and str(bad.id) in item.path.name and item.role == "seg":
                raise ZeroDivisionError("PATIENT")
            yield from real([item], destination)

    worker = rig.worker(sender=raising)
    bad, good = rig.compose("1.1"), rig.compose("1.2")
    with caplog.at_level(logging.ERROR):
        step_all(worker, NOON)
        for _ in range(3):
            due = rig.deliveries.next_due("near")
            assert due is not None
            assert due > rig.clock.now
            rig.clock.now = due
            step_all(worker, due)
    assert rig.state(good) is JobState.DONE
    seg, sr = rig.deliveries.of_job(bad.id)
    assert (seg.state, seg.attempts) == (DeliveryState.PENDING, 4)
    assert seg.message == "could not be sent: ZeroDivisionError"
    assert sr.state is DeliveryState.DELIVERED
    assert sum(one.exc_info is not None for one in caplog.records) == 1


def test_a_result_that_the_full_disk_does_not_take_is_kept_and_nothing_sent_again(
    rig: Rig, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.ports["near"] = peer.start()
    job = rig.compose()
    real = DeliveryStore.record
    full = [True]

    def record(self: DeliveryStore, *args: Any, **keys: Any) -> None:
        if full[0]:
            raise OutOfResources("the state file cannot be written: disk full")
        real(self, *args, **keys)

    monkeypatch.setattr(DeliveryStore, "record", record)
    worker = rig.worker()
    worker.plan(NOON)
    for _ in range(3):
        due = worker.send_due("near", rig.clock.advance(1))
        assert due is not None
        assert due > rig.clock.now
    assert len(peer.kept) == 2
    full[0] = False
    worker.send_due("near", rig.clock.advance(1))
    assert rig.state(job) is JobState.DONE
    assert set(peer.times.values()) == {1}


def test_a_result_that_cannot_be_recorded_at_all_ends_its_item(
    rig: Rig, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.ports["near"] = peer.start()
    bad, good = rig.compose("1.1"), rig.compose("1.2")
    real = DeliveryStore.record

    def record(self: DeliveryStore, delivery: Any, attempt: Attempt, **keys: Any) -> None:
        if delivery.job_id == bad.id and attempt.state is DeliveryState.DELIVERED:
            "\ud800".encode()
        real(self, delivery, attempt, **keys)

    monkeypatch.setattr(DeliveryStore, "record", record)
    step_all(rig.worker(), NOON)
    assert rig.state(good) is JobState.DONE
    ended = rig.jobs.get(bad.id)
    assert ended.state is JobState.FAILED
    assert "cannot be recorded (UnicodeEncodeError)" in ended.message


def test_a_class_that_is_refused_today_is_delivered_when_it_is_accepted(
    rig: Rig, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    rig.ports["near"] = peer.start(kinds=(SR,))
    job = rig.compose()
    worker = rig.worker()
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            due = step_all(worker, rig.clock.now)
            assert due == rig.clock.now + timedelta(minutes=10)
            rig.clock.now = due
    assert rig.states(job) == {
        ("near", "seg"): DeliveryState.PENDING,
        ("near", "sr"): DeliveryState.DELIVERED,
    }
    said = [one.getMessage() for one in caplog.records if one.name.startswith("rales")]
    assert len(said) == 2, "once for the class among others, once for the class alone"
    peer.stop()
    peer.start(port=rig.ports["near"], kinds=(SEG, SR))
    step_all(worker, rig.clock.now)
    assert rig.state(job) is JobState.DONE
    assert set(peer.times.values()) == {1}


def test_a_class_that_is_never_accepted_is_given_up_in_the_end(rig: Rig, peer: Peer) -> None:
    rig.ports["near"] = peer.start(kinds=(SR,))
    job = rig.compose()
    worker = rig.worker()
    step_all(worker, NOON)
    step_all(worker, rig.clock.advance(72 * 3600 + 1))
    ended = rig.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert "near did not get the seg: given up: " in ended.message


@pytest.mark.parametrize("status", [0x0122, 0x0124, 0xA801])
def test_a_status_that_says_nothing_of_the_object_waits(rig: Rig, peer: Peer, status: int) -> None:
    peer.answer = lambda event: status if event.request.AffectedSOPClassUID == SEG else 0
    rig.ports["near"] = peer.start()
    job = rig.compose()
    worker = rig.worker()
    step_all(worker, NOON)
    assert rig.states(job)["near", "seg"] is DeliveryState.PENDING
    peer.answer = lambda _event: 0x0000
    step_all(worker, rig.clock.advance(600))
    assert rig.state(job) is JobState.DONE


def test_a_duplicate_after_a_lost_answer_is_a_delivery(rig: Rig, peer: Peer) -> None:
    def keep_and_abort(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in peer.kept:
            return 0x0111
        peer.kept[uid] = event.request.DataSet.getvalue()
        event.assoc.abort()
        return 0x0000

    peer.answer = keep_and_abort
    rig.ports["near"] = peer.start()
    job = rig.compose()
    worker = rig.worker()
    for _ in range(4):
        rig.clock.now = step_all(worker, rig.clock.now) or rig.clock.now
    assert rig.state(job) is JobState.DONE
    assert set(rig.states(job).values()) == {DeliveryState.DELIVERED}
    assert len(peer.kept) == 2


def test_a_duplicate_of_what_was_never_sent_is_said_and_a_retry_takes_it(
    rig: Rig, peer: Peer
) -> None:
    peer.answer = lambda _event: 0x0111
    rig.ports["near"] = peer.start()
    job = rig.compose()
    worker = rig.worker()
    step_all(worker, NOON)
    ended = rig.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert "the destination has an object with this UID already" in ended.message
    retry(rig.jobs, ended, at=rig.clock.now)
    step_all(worker, rig.clock.now)
    assert rig.state(job) is JobState.DONE


def test_a_removed_destination_is_withdrawn_and_the_others_decide(rig: Rig, peer: Peer) -> None:
    rig.ports = {"gone": 9, "near": peer.start()}
    job = rig.compose()
    step_all(rig.worker(), NOON)
    assert rig.state(job) is JobState.DELIVERING
    del rig.ports["gone"]
    step_all(rig.worker(), rig.clock.advance(5))
    ended = rig.jobs.get(job.id)
    assert ended.state is JobState.DONE
    assert "no destination 'gone' is configured any more" in ended.message
    assert rig.states(job)["gone", "seg"] is DeliveryState.WITHDRAWN
    history = [event.message for event in rig.jobs.events(job.id)]
    assert [one.split(":")[0] for one in history[-3:-1]] == [
        "the seg is withdrawn",
        "the sr is withdrawn",
    ]


def test_a_renamed_destination_fails_once_and_a_retry_goes_to_the_new_name(
    rig: Rig, peer: Peer
) -> None:
    rig.ports = {"old": 9}
    job = rig.compose()
    step_all(rig.worker(), NOON)
    rig.ports = {"new": peer.start()}
    worker = rig.worker()
    step_all(worker, rig.clock.advance(5))
    ended = rig.jobs.get(job.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "destination-removed")
    assert "no destination 'old'" in ended.message
    retry(rig.jobs, ended, at=rig.clock.now)
    step_all(worker, rig.clock.now)
    assert rig.state(job) is JobState.DONE
    assert len(peer.kept) == 2


def test_a_refusal_of_a_destination_that_is_removed_does_not_come_back(
    rig: Rig, peer: Peer
) -> None:
    strict = Peer()
    strict.answer = lambda _event: 0xA900
    try:
        rig.ports = {"strict": strict.start(), "near": peer.start()}
        job = rig.compose()
        step_all(rig.worker(), NOON)
        assert rig.state(job) is JobState.FAILED
    finally:
        strict.stop()
    del rig.ports["strict"]
    retry(rig.jobs, rig.jobs.get(job.id), at=rig.clock.now)
    step_all(rig.worker(), rig.clock.now)
    assert rig.state(job) is JobState.DONE
    rig.ports["strict"] = strict.start()
    strict.answer = lambda _event: 0x0000
    try:
        retry(rig.jobs, rig.jobs.get(job.id), at=rig.clock.now)
        step_all(rig.worker(), rig.clock.now)
    finally:
        strict.stop()
    assert rig.states(job)["strict", "seg"] is DeliveryState.DELIVERED
