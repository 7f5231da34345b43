"""Destinations that misbehave on real sockets; the clock of the back-off is the test's."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from chestct.series import ReceivedInstance, Series
from chestct.states import DeliveryState, JobState
from chestct.uids import Uid, derive_uid
from dicom_out.sender import Destination, send
from rales.deliveries import BackOff, DeliveryWorker
from rales.demo.pacs import free_port
from rales.store import Database, DeliveryStore, InstanceStore, Job, JobStore
from rales.testing import ManualClock

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SEG = Uid("1.2.840.10008.5.1.4.1.1.66.4")
SR = Uid("1.2.840.10008.5.1.4.1.1.88.34")
KINDS = {"seg": SEG, "sr": SR}
Answer = Callable[[Any], int]


class Peer:
    """A storage SCP that keeps what it says it keeps, and answers as it is told."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.times: Counter[str] = Counter()
        self.answer: Answer = lambda _event: 0x0000
        self._server: Any = None

    def start(self, *, port: int = 0, kinds: tuple[str, ...] = (SEG, SR)) -> int:
        ae = AE(ae_title="PEER")
        for kind in kinds:
            ae.add_supported_context(kind, ExplicitVRLittleEndian)
        self._server = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return int(self._server.server_address[1])

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.times[uid] += 1
        status = self.answer(event)
        if status == 0x0000 or status >> 12 == 0xB:
            self.kept[uid] = event.request.DataSet.getvalue()
        return status

    def stop(self) -> None:
        if self._server is not None:
            self._server.ae.shutdown()
            self._server = None


class Rig:
    """A delivery worker over a real state file and the real sender."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.jobs, self.deliveries = JobStore(database), DeliveryStore(database)
        self.instances = InstanceStore(database, on_change=lambda: None)
        self.clock = ManualClock(NOON)
        self.folder = folder
        self.ports: dict[str, int] = {}

    def arrive(self, series: str = "1.2.3", *, number: int = 1) -> None:
        self.instances.record(
            ReceivedInstance(
                path=self.folder / f"{series}-{number}",
                sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.2"),
                sop_instance_uid=derive_uid(series, str(number)),
                series_uid=Uid(series),
                study_uid=Uid("1.2"),
                patient_key="p",
                transfer_syntax_uid=Uid(ExplicitVRLittleEndian),
                content_digest=f"{series}-{number}",
                size=10,
                received_at=self.clock.now,
                calling_ae="CT1",
                slice_position=float(number),
            )
        )

    def claim(self, series: str = "1.2.3") -> Job:
        job = self.jobs.latest_of_series(series)
        assert job is not None
        found = Series.of(self.instances.of_series(job.series_uid))
        self.jobs.mark_ready(
            job,
            instances_digest=found.digest,
            count=len(found.instances),
            at=self.clock.now,
            message="complete",
        )
        claimed = self.jobs.claim(at=self.clock.now)
        assert claimed is not None
        return claimed

    def compose(self, series: str = "1.2.3", *, number: int = 1) -> Job:
        self.arrive(series, number=number)
        return self.finish(self.claim(series))

    def finish(self, job: Job) -> Job:
        objects = [self._write(job, role, kind) for role, kind in KINDS.items()]
        self.jobs.composed(
            job, key="k", result={"objects": objects}, at=self.clock.now, message="ok"
        )
        return self.jobs.get(job.id)

    def _write(self, job: Job, role: str, kind: Uid) -> dict[str, str]:
        uid = derive_uid(job.series_uid, str(job.revision), role)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        path = self.folder / f"{job.id}-{role}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return {
            "role": role,
            "path": str(path),
            "sop_class_uid": kind,
            "sop_instance_uid": uid,
            "series_uid": "2.25.7",
            "study_uid": "1.2",
        }

    def worker(self, timeout: float = 30.0) -> DeliveryWorker:
        return DeliveryWorker(
            jobs=self.jobs,
            deliveries=self.deliveries,
            destinations={
                name: Destination(name=name, ae_title="PEER", host="127.0.0.1", port=port)
                for name, port in self.ports.items()
            },
            sender=partial(send, calling_ae="RALES", timeout_seconds=timeout),
            back_off=BackOff(
                first=timedelta(seconds=5),
                longest=timedelta(minutes=10),
                give_up_after=timedelta(hours=72),
            ),
            clock=self.clock,
        )

    def states(self, job: Job) -> dict[tuple[str, str], DeliveryState]:
        return {(one.destination, one.role): one.state for one in self.deliveries.of_job(job.id)}

    def state(self, job: Job) -> JobState:
        return self.jobs.get(job.id).state


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
    worker.step(rig.clock.now)
    gaps = []
    while rig.clock.now < NOON + timedelta(hours=8):
        due = rig.deliveries.next_due()
        assert due is not None
        gaps.append((due - rig.clock.now).total_seconds())
        rig.clock.now = due
        worker.step(due)
    assert gaps[:4] == [5, 10, 20, 40]
    assert max(gaps) == 600
    assert {rig.state(job) for job in jobs} == {JobState.DELIVERING}
    assert "cannot be reached" in rig.deliveries.of_job(jobs[0].id)[0].message
    peer.start(port=rig.ports["far"])
    worker.step(rig.clock.advance(600))
    assert {rig.state(job) for job in jobs} == {JobState.DONE}
    assert len(peer.kept) == 8
    assert set(peer.times.values()) == {1}


def test_a_refused_class_lets_the_other_through_and_is_said(
    rig: Rig, start_peer: Callable[[], Peer]
) -> None:
    peer = start_peer()
    rig.ports["near"] = peer.start(kinds=(SR,))
    job = rig.compose()
    rig.worker().step(NOON)
    ended = rig.jobs.get(job.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "delivery-refused")
    assert ended.message == "near refused the seg: Segmentation Storage is not accepted there"
    assert rig.states(job) == {
        ("near", "seg"): DeliveryState.REFUSED,
        ("near", "sr"): DeliveryState.DELIVERED,
    }
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
    worker.step(NOON)
    assert rig.state(job) is state
    assert rig.states(job)["near", "sr"] is DeliveryState.DELIVERED
    (seg,) = [one for one in rig.deliveries.of_job(job.id) if one.role == "seg"]
    assert seg.status == status
    assert (seg.sop_instance_uid in peer.kept) == kept
    if state is JobState.DELIVERING:
        peer.answer = lambda _event: 0x0000
        worker.step(rig.clock.advance(5))
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
    worker.step(NOON)
    assert [one.attempts for one in rig.deliveries.of_job(job.id)] == [1, 1]
    peer.answer = lambda _event: 0x0000
    worker.step(rig.clock.advance(5))
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
    rig.worker(timeout=1.0).step(NOON)
    first = dict(peer.kept)
    assert len(first) == 1
    assert rig.state(job) is JobState.DELIVERING
    silence.set()
    peer.answer = lambda _event: 0x0000
    rig.worker().step(rig.clock.advance(5))
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
    rig.worker(timeout=1.0).step(NOON)
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
    worker.step(NOON)
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
    worker.step(rig.clock.now)
    assert rig.state(second) is JobState.DONE
    assert len(peer.kept) == 2


def test_one_that_is_down_is_asked_once_for_all_that_is_due(rig: Rig) -> None:
    asked: list[str] = []
    rig.ports["far"] = free_port()
    jobs = [rig.compose(f"1.{n}") for n in range(5)]
    worker = rig.worker()
    real = worker._sender

    def counting(objects: Any, destination: Destination) -> Any:
        asked.append(destination.name)
        return real(objects, destination)

    worker._sender = counting
    worker.step(NOON)
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
