"""The group commit: nothing is decided, lost or reordered while acknowledged instances wait."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from state_rig import NOON, StateRig, received_instance
from waiting import wait_for

from chestct.errors import OutOfResources
from chestct.series import ReceivedInstance
from chestct.states import JobState
from rales.state.store import Database, GroupedIntake, InstanceStore, RetentionStore
from rales.state.store import grouped as grouped_module
from rales.state.store.transitions import StateConflict
from scp.ports import AssociationEnd, Recorded

_FOREVER = 3600.0
SERIES = "1.2.3"


class _Rig(StateRig):
    """A state file, and an intake that commits only when something asks for it."""

    def __init__(self, folder: Path, *, delay: float = _FOREVER) -> None:
        super().__init__(Database(folder / "state.sqlite"))
        self.folder = folder
        self.intake = GroupedIntake(self.database, self.instances, delay_seconds=delay)

    def instance(
        self, number: int, *, content: str = "a", series: str = SERIES
    ) -> ReceivedInstance:
        """Return a durable instance."""
        path = self.folder / f"{series}-{number}-{content}.dcm"
        path.touch()
        digest = f"{series}-{number}-{content}"
        return received_instance(path, series=series, number=number, content_digest=digest)

    def record(self, number: int, *, content: str = "a", series: str = SERIES) -> Recorded:
        """Record a durable instance."""
        return self.intake.record(self.instance(number, content=content, series=series))

    def rows(self) -> list[tuple[str, int]]:
        """Return content and whether it is current, of every committed row."""
        rows = self.database.rows("SELECT content_digest, current FROM instances ORDER BY rowid")
        return [(row["content_digest"], row["current"]) for row in rows]

    def fill(self) -> None:
        """Let the state file not grow any more."""
        (pages,) = self.database.rows("PRAGMA page_count")[0]
        self.database.rows(f"PRAGMA max_page_count={pages}")

    def make_room(self) -> None:
        """Let the state file grow again."""
        self.database.rows("PRAGMA max_page_count=1000000")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[_Rig]:
    made = _Rig(tmp_path)
    yield made
    made.make_room()
    made.intake.close()
    made.database.close()


def test_a_new_instance_is_accepted_before_its_commit(rig: _Rig) -> None:
    assert [rig.record(number) for number in range(3)] == [Recorded.NEW] * 3
    assert rig.rows() == []
    rig.intake.flush()
    assert rig.rows() == [(f"{SERIES}-{number}-a", 1) for number in range(3)]


def test_the_commit_follows_by_itself(tmp_path: Path) -> None:
    rig = _Rig(tmp_path, delay=0.01)
    for number in range(50):
        rig.record(number)
    wait_for("every row", lambda: len(rig.rows()) == 50)
    rig.intake.close()
    rig.database.close()


def test_what_close_leaves_is_nothing(tmp_path: Path) -> None:
    rig = _Rig(tmp_path)
    rig.record(1)
    rig.intake.close()
    assert len(rig.rows()) == 1
    rig.database.close()


@pytest.mark.parametrize("committed", [True, False])
def test_only_an_unknown_uid_is_accepted_before_its_commit(rig: _Rig, *, committed: bool) -> None:
    rig.record(1)
    if committed:
        rig.intake.flush()
    assert rig.record(1) is Recorded.REPEATED
    assert rig.rows() == [(f"{SERIES}-1-a", 1)]
    rig.record(2)
    assert rig.record(1, content="b") is Recorded.REPLACED
    assert rig.rows() == [(f"{SERIES}-1-a", 0), (f"{SERIES}-2-a", 1), (f"{SERIES}-1-b", 1)]
    assert rig.record(1) is Recorded.REPLACED
    assert rig.rows()[0] == (f"{SERIES}-1-a", 1)


@pytest.mark.parametrize("seed", range(5))
def test_four_associations_with_the_same_uids_end_as_one_order_of_them(
    rig: _Rig, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - chooses an order
    sent = [[(chance.randrange(6), chance.choice("ab")) for _ in range(25)] for _ in range(4)]
    together, kinds, lock = threading.Barrier(4), [], threading.Lock()

    def send(images: list[tuple[int, str]]) -> None:
        together.wait(10)
        for number, content in images:
            kind = rig.record(number, content=content)
            with lock:
                kinds.append((number, content, kind))

    threads = [threading.Thread(target=send, args=(images,)) for images in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    rig.intake.flush()
    assert len(kinds) == 100, "each was answered"
    contents = {f"{SERIES}-{number}-{content}" for images in sent for number, content in images}
    rows = rig.rows()
    assert {digest for digest, _ in rows} == contents
    assert len(rows) == len(contents)
    for number in {number for images in sent for number, _ in images}:
        mine = [current for digest, current in rows if digest.startswith(f"{SERIES}-{number}-")]
        assert sum(mine) == 1, "one content of each UID is current"
        new = [kind for sent_number, _, kind in kinds if sent_number == number]
        assert new.count(Recorded.NEW) == 1


def test_no_series_is_complete_without_an_acknowledged_instance(rig: _Rig) -> None:
    rig.record(1)
    rig.intake.flush()
    job = rig.newest()
    rig.record(2)
    with pytest.raises(StateConflict):
        rig.jobs.mark_ready(job, instances_digest="d", count=1, at=NOON, message="complete")
    assert rig.newest().state is JobState.RECEIVING
    assert len(rig.instances.of_series(job.series_uid)) == 2


def test_a_release_counts_after_the_instances_before_it(rig: _Rig) -> None:
    instance = rig.instance(1)
    rig.intake.record(instance)
    series = frozenset({instance.series_uid})
    rig.intake.association_ended(series, "CT1", AssociationEnd.RELEASED, NOON)
    assert len(rig.rows()) == 1
    assert rig.newest().association_ended_at == NOON


def test_retention_keeps_a_series_that_got_another_instance(rig: _Rig) -> None:
    rig.record(1)
    rig.intake.flush()
    with rig.database.transaction() as tx:
        tx.execute("UPDATE jobs SET state = 'done'")
    rig.record(2)
    assert not RetentionStore(rig.database).release(SERIES, at=NOON)


def test_a_full_state_file_loses_no_acknowledged_row(
    rig: _Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.record(0)
    rig.intake.flush()
    rig.fill()
    acknowledged = [rig.instance(number) for number in range(1, 200)]
    for instance in acknowledged:
        assert rig.intake.record(instance) is Recorded.NEW
    with pytest.raises(OutOfResources, match="state file cannot be written"):
        rig.intake.flush()
    for number in (500, 0):
        with pytest.raises(OutOfResources):
            rig.record(number)
    assert len(rig.rows()) == 1
    rig.make_room()
    rig.intake.flush()
    digests = {digest for digest, _ in rig.rows()}
    assert digests == {f"{SERIES}-0-a"} | {instance.content_digest for instance in acknowledged}
    assert rig.record(500) is Recorded.NEW
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_commit_that_fails_is_tried_again(tmp_path: Path) -> None:
    rig = _Rig(tmp_path, delay=0.01)
    rig.fill()
    with rig.database.transaction():  # nothing is committed before all are acknowledged
        for number in range(200):
            rig.record(number)
    refused = threading.Event()

    def is_refused() -> bool:
        try:
            rig.record(0, content="b")
        except OutOfResources:
            refused.set()
        return refused.is_set()

    wait_for("a failed commit", is_refused)
    rig.make_room()
    wait_for("every row", lambda: len(rig.rows()) >= 200)
    rig.intake.close()
    rig.database.close()


def test_a_full_backlog_accepts_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_module, "_PATIENCE_SECONDS", 0.01)
    database = Database(tmp_path / "state.sqlite")
    store = InstanceStore(database, on_change=lambda: None)
    intake = GroupedIntake(database, store, delay_seconds=_FOREVER, backlog=2)
    for number in range(2):
        intake.record(received_instance(tmp_path, number=number))
    with pytest.raises(OutOfResources, match="2 received instances wait"):
        intake.record(received_instance(tmp_path, number=2))
    intake.flush()
    assert intake.record(received_instance(tmp_path, number=2)) is Recorded.NEW
    intake.close()
    database.close()


def test_an_instance_that_cannot_be_recorded_stops_no_other(
    rig: _Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = InstanceStore.record

    def fails_over_one(store: InstanceStore, instance: ReceivedInstance) -> Recorded:
        if instance.path.name.startswith(f"{SERIES}-1-"):
            raise ValueError("no row for this one")
        return record(store, instance)

    monkeypatch.setattr(InstanceStore, "record", fails_over_one)
    for number in range(3):
        rig.record(number)
    rig.intake.flush()
    assert rig.rows() == [(f"{SERIES}-0-a", 1), (f"{SERIES}-2-a", 1)]
    assert "cannot be recorded" in caplog.text
