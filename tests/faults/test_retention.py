"""What was delivered is let go of by age and size; nothing else is, and nothing comes twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from latest import latest_of_series
from state_rig import NOON, StateRig, received_instance
from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

from chestct.errors import OutOfResources
from chestct.series import ReceivedInstance
from chestct.states import JobState
from chestct.uids import Uid
from rales.node.fsck import examine
from rales.state.store import Database, Job, RetentionStore
from rales.state.store.transitions import StateConflict
from rales.steps.assemble import AssemblyWorker
from rales.steps.completeness import CompletionPolicy
from rales.steps.retain import RetentionWorker
from rales.steps.retry import retry
from scp.ports import AssociationEnd, Recorded
from scp.spool import Spool

DAY = timedelta(days=1)
_MEGABYTE = 1_000_000


class Rig(StateRig):
    """A state file, a spool and results, without networks."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Database(folder / "state.sqlite"))
        self.folder = folder
        self.store = RetentionStore(self.database)
        self.spool = Spool(folder / "spool")

    def receive(self, series: str, number: int, at: datetime = NOON) -> ReceivedInstance:
        content = f"{series} {number}".encode().ljust(_MEGABYTE, b".")
        spooled = self.spool.write(Uid(series), b"", content)
        instance = received_instance(
            spooled.path,
            series=series,
            number=number,
            sop_instance_uid=Uid(f"{series}.{number}"),
            content_digest=spooled.content_digest,
            size=spooled.size,
            received_at=at,
            calling_ae="CT",
        )
        self.instances.record(instance)
        return instance

    def complete(self, series: str, at: datetime) -> None:
        self.instances.association_ended(
            frozenset([Uid(series)]), "CT", AssociationEnd.RELEASED, at
        )
        policy = CompletionPolicy(settle_seconds=0.1, quiet_seconds=0.1)
        worker = AssemblyWorker(jobs=self.jobs, instances=self.instances, policy=policy)
        worker.step(at + timedelta(seconds=60))

    def delivered(self, series: str, at: datetime, *, state: str = "delivered") -> Job:
        """Bring a series of three images to its end; ``state`` is that of its one delivery."""
        for number in range(3):
            self.receive(series, number, at)
        self.complete(series, at)
        job = self.jobs.claim(at=at)
        assert job is not None
        self.jobs.composed(job, key="k", result={"objects": []}, at=at, message="")
        job = self.jobs.get(job.id)
        self.jobs.move(job, JobState.DELIVERING, at=at, message="")
        with self.database.transaction() as tx:
            tx.execute(
                "INSERT INTO deliveries (job_id, role, destination, sop_instance_uid, state,"
                " created_at, due_at) VALUES (?, 'seg', 'pacs', '1.9', ?, '', '')",
                (job.id, state),
            )
        if state == "delivered":
            self.jobs.move(self.jobs.get(job.id), JobState.DONE, at=at, message="")
        results = self.folder / "results" / f"{job.id:08d}"
        results.mkdir(parents=True)
        (results / "seg.dcm").write_bytes(b"seg")
        return self.jobs.get(job.id)

    def worker(self, *, days: float | None = None, size: int | None = None) -> RetentionWorker:
        return RetentionWorker(
            store=self.store,
            results_dir=self.folder / "results",
            longest=timedelta(days=days) if days else None,
            largest=size,
        )

    def images(self) -> set[str]:
        rows = self.database.rows("SELECT series_uid, path FROM instances")
        return {row["series_uid"] for row in rows if (self.folder / row["path"]).exists()}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.database.close()


def test_age_counts_from_the_delivery_and_spares_what_is_not_delivered(rig: Rig) -> None:
    old = rig.delivered("1.1", NOON)
    rig.delivered("1.2", NOON + 5 * DAY)
    rig.delivered("1.3", NOON, state="pending")
    rig.delivered("1.4", NOON, state="refused")
    rig.delivered("1.5", NOON, state="stored")
    rig.receive("1.6", 0)
    rig.worker(days=3).step(NOON + 6 * DAY)
    assert rig.images() == {"1.2", "1.3", "1.4", "1.5", "1.6"}
    assert not (rig.folder / "results" / f"{old.id:08d}").exists()
    assert len(list((rig.folder / "results").iterdir())) == 4
    assert rig.jobs.get(old.id).released_at == NOON + 6 * DAY
    assert list(examine(rig.database, rig.folder / "spool", deep=False)) == []


def test_size_lets_the_oldest_go_until_the_rest_fits(rig: Rig) -> None:
    for number in range(4):
        rig.delivered(f"1.{number}", NOON + number * DAY)
    rig.worker(size=7 * _MEGABYTE).step(NOON + 9 * DAY)
    assert rig.images() == {"1.2", "1.3"}
    assert rig.store.kept().size == 6 * _MEGABYTE
    assert rig.store.kept().oldest == NOON + 2 * DAY


def test_what_is_not_delivered_stays_whatever_its_size(rig: Rig) -> None:
    rig.delivered("1.1", NOON, state="pending")
    rig.worker(size=1).step(NOON + 9 * DAY)
    assert rig.images() == {"1.1"}


def test_an_earlier_revision_that_is_still_delivered_keeps_its_results(rig: Rig) -> None:
    earlier = rig.delivered("1.1", NOON, state="pending")
    rig.receive("1.1", 3, NOON)
    newer = rig.delivered("1.1", NOON + DAY)
    assert (newer.revision, newer.state) == (2, JobState.DONE)
    worker = rig.worker(days=1)
    worker.step(NOON + 9 * DAY)
    assert rig.images() == {"1.1"}
    assert (rig.folder / "results" / f"{earlier.id:08d}" / "seg.dcm").exists()
    rig.jobs.move(rig.jobs.get(earlier.id), JobState.DONE, at=NOON, message="")
    worker.step(NOON + 10 * DAY)
    assert rig.images() == set()
    assert list((rig.folder / "results").iterdir()) == []


def test_without_limits_nothing_goes(rig: Rig) -> None:
    rig.delivered("1.1", NOON)
    assert rig.worker().step(NOON + 9999 * DAY) is None
    assert rig.images() == {"1.1"}


def test_a_resend_opens_nothing_and_goes_again(rig: Rig) -> None:
    job = rig.delivered("1.1", NOON)
    worker = rig.worker(days=1)
    worker.step(NOON + 2 * DAY)
    assert rig.images() == set()
    again = rig.receive("1.1", 0, NOON + 3 * DAY)
    assert rig.instances.record(again) is Recorded.REPEATED
    assert again.path.exists()
    latest = latest_of_series(rig.jobs, "1.1")
    assert latest is not None
    assert latest.id == job.id
    worker.step(NOON + 3 * DAY)
    assert rig.images() == set()


def test_a_resend_at_the_moment_of_the_removal_is_to_be_sent_again(rig: Rig) -> None:
    rig.delivered("1.1", NOON)
    again = rig.receive("1.1", 0, NOON)
    rig.worker(days=1).step(NOON + 2 * DAY)
    # Its file was there when the spool looked, and is gone when it is recorded.
    with pytest.raises(OutOfResources):
        rig.instances.record(replace(again, received_at=NOON + 2 * DAY))


def test_a_late_slice_of_a_released_series_waits_for_the_others(rig: Rig) -> None:
    rig.delivered("1.1", NOON)
    rig.worker(days=1).step(NOON + 2 * DAY)
    later = NOON + 3 * DAY
    rig.receive("1.1", 3, later)
    rig.complete("1.1", later)
    waiting = latest_of_series(rig.jobs, "1.1")
    assert waiting is not None
    assert (waiting.revision, waiting.state) == (2, JobState.RECEIVING)
    assert "3 of 4 images that retention released" in waiting.message
    assert "sent again" in waiting.message
    for number in range(3):
        rig.receive("1.1", number, later)
    rig.complete("1.1", later)
    ready = rig.jobs.get(waiting.id)
    assert (ready.state, ready.instance_count) == (JobState.READY, 4)


def test_what_a_stop_left_half_done_is_done_at_the_next_start(rig: Rig) -> None:
    rig.delivered("1.1", NOON)
    assert rig.store.release("1.1", at=NOON)
    assert not rig.store.release("1.1", at=NOON)
    assert rig.images() == {"1.1"}
    rig.worker().step(NOON)
    assert rig.images() == set()


def test_a_file_that_cannot_be_removed_keeps_no_other(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.delivered("1.1", NOON)
    rig.delivered("1.2", NOON)
    stuck = next((rig.folder / "spool").rglob("*.dcm"))
    stuck.unlink()
    stuck.mkdir()
    worker = rig.worker(days=1)
    worker.step(NOON + 2 * DAY)
    worker.step(NOON + 2 * DAY + timedelta(minutes=1))
    assert list((rig.folder / "spool").rglob("*.dcm")) == [stuck]
    assert caplog.text.count("1 files of released images cannot be removed") == 1
    stuck.rmdir()
    worker.step(NOON + 2 * DAY + timedelta(minutes=2))
    assert rig.database.rows("SELECT 1 FROM instances WHERE gone = 0") == []


def test_a_released_series_is_not_retried(rig: Rig) -> None:
    job = rig.delivered("1.1", NOON)
    rig.worker(days=1).step(NOON + 2 * DAY)
    with pytest.raises(StateConflict, match="released its images on 2026-01-04"):
        retry(rig.jobs, rig.jobs.get(job.id), at=NOON + 3 * DAY)


def test_a_node_lets_go_and_a_resend_gives_no_second_result(tmp_path: Path) -> None:
    thorax = tiny_thorax()
    series = write_tiny_series(thorax, tmp_path / "series", "one")
    pacs = StoringPacs()
    node = TinyNode(
        folder=tmp_path,
        models=write_models(tmp_path / "models", thorax),
        destinations=[pacs.start()],
        extra="[retention]\ndays = 0.00001\n",
    )
    try:
        node.start()
        assert send_files(node.port, series.files, set())
        assert node.ended(series.uid) == "done"
        spool = node.folder / "data" / "spool"
        wait_for("the images to go", lambda: not list(spool.glob("*/*.dcm")), 100)
        assert not list((node.folder / "data" / "results").glob("*/*"))
        acknowledged: set[str] = set()
        assert send_files(node.port, series.files, acknowledged)
        assert len(acknowledged) == len(series.files)
        assert len(node.jobs(series.uid)) == 1
        assert set(pacs.times.values()) == {1}
        status = [sys.executable, "-m", "rales", "status", "--json"]
        shown = subprocess.run(
            [*status, "--config", str(tmp_path / "rales.toml")],
            capture_output=True,
            check=True,
            timeout=60,
        )
        content = json.loads(shown.stdout)
        assert content["series"][0]["released_at"]
        assert content["node"]["kept"].endswith(" GB")
        assert "free" in content["node"]
        assert node.terminate() == 0
    finally:
        pacs.stop()
