"""Counts that are kept as rows change are what counting every row would say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spool_rig import NOON, SpoolRig, spool_rig

from chestct.states import DeliveryState, JobState
from rales.state.store import Database, RetentionStore
from rales.steps.retain import RetentionWorker

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["receive", "release", "resend", "plan", "settle", "revise", "size"]),
        st.integers(0, 3),
        st.sampled_from(list(DeliveryState)),
    ),
    max_size=40,
)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SpoolRig]:
    yield from spool_rig(tmp_path / "data")


def _counted(database: Database) -> None:
    """Compare each count with the rows that it stands for."""
    (kept,) = database.rows(
        "SELECT count(*) AS images, coalesce(sum(size), 0) AS size FROM instances"
        " WHERE released_at IS NULL"
    )
    now = RetentionStore(database).kept()
    assert (now.images, now.size) == tuple(kept)
    for row in database.rows(
        "SELECT open_deliveries, overtaken, holds, (SELECT count(*) FROM deliveries"
        " WHERE job_id = j.id AND state IN ('pending', 'stored')) AS open,"
        " EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid"
        "  AND n.revision > j.revision) AS later,"
        " EXISTS (SELECT 1 FROM instances i WHERE i.series_uid = j.series_uid"
        "  AND i.released_at IS NULL) AS kept FROM jobs j"
    ):
        assert (row["open_deliveries"], row["overtaken"]) == (row["open"], row["later"])
        assert row["holds"] == row["kept"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS)
def test_the_counts_are_those_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, DeliveryState]]
) -> None:
    for rig in spool_rig(tmp_path_factory.mktemp("counts")):
        for step, number, state in steps:
            _do(rig, step, number, state)
        _counted(rig.database)


def _do(rig: SpoolRig, step: str, number: int, state: DeliveryState) -> None:
    series = f"1.2.{number + 1}"
    if step in {"receive", "resend"}:
        rig.receive(series, 2, first=0 if step == "resend" else number)
        return
    with rig.database.transaction() as tx:
        if step == "release":
            tx.execute("UPDATE instances SET released_at = 'x' WHERE series_uid = ?", (series,))
            tx.execute("UPDATE jobs SET holds = 0 WHERE series_uid = ?", (series,))
        elif step == "plan":
            tx.execute(
                "INSERT OR IGNORE INTO deliveries (job_id, role, destination, sop_instance_uid,"
                " state, created_at, due_at) SELECT id, ?, 'pacs', '1.2', ?, '', '' FROM jobs",
                (f"role{number}", state),
            )
        elif step == "settle":
            tx.execute("UPDATE deliveries SET state = ? WHERE role = ?", (state, f"role{number}"))
        elif step == "revise":
            tx.execute("UPDATE jobs SET state = 'done' WHERE series_uid = ?", (series,))
        else:
            tx.execute("UPDATE instances SET size = size + 7 WHERE series_uid = ?", (series,))


def test_a_purge_lets_others_at_the_state_file_in_between(rig: SpoolRig) -> None:
    rig.receive("1.2.3", 120)
    with rig.database.transaction() as tx:
        tx.execute("UPDATE instances SET released_at = 'x', gone = 0")
    ticks = iter(range(10_000))
    # A disk on which each removal takes 4 ms.
    store = RetentionStore(rig.database, monotonic=lambda: 0.004 * next(ticks))
    held: list[int] = []

    def remove(path: Path) -> None:
        held[-1] += 1
        path.unlink()

    begin = rig.database.transaction

    def counted() -> object:
        held.append(0)
        return begin()

    rig.database.transaction = counted  # type: ignore[method-assign,assignment]
    assert store.purge(remove).removed == 120
    assert max(held) <= 4
    assert sum(held) == 120


def test_who_reads_does_not_wait_for_who_writes(rig: SpoolRig) -> None:
    rig.receive("1.2.3", 3)
    seen: list[int] = []
    with rig.database.transaction() as tx:
        tx.execute("UPDATE jobs SET state = 'ready'")
        reader = threading.Thread(
            target=lambda: seen.extend(
                [
                    len(rig.jobs.in_state(JobState.RECEIVING)),
                    len(rig.database.rows("SELECT * FROM instances")),
                ]
            )
        )
        reader.start()
        reader.join(20)
        assert not reader.is_alive()
    assert seen == [1, 3], "as it was before the change that is not committed"
    assert len(rig.jobs.in_state(JobState.READY)) == 1


def test_a_step_of_retention_looks_at_a_page_and_comes_round(
    rig: SpoolRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rales.steps.retain._LOOK", 3)
    for number in range(8):
        rig.receive(f"1.2.{number + 1}", 1)
    with rig.database.transaction() as tx:
        # All are done and too old; only the last went anywhere.
        tx.execute("UPDATE jobs SET state = 'done'")
        tx.execute(
            "INSERT INTO deliveries (job_id, role, destination, sop_instance_uid, state,"
            " created_at, due_at) VALUES (8, 'seg', 'pacs', '1.2', 'delivered', '', '')"
        )
    store = RetentionStore(rig.database)
    worker = RetentionWorker(
        store=store, results_dir=rig.layout.results, longest=timedelta(days=1), largest=None
    )
    left = []
    for day in range(2, 6):
        worker.step(NOON + timedelta(days=day))
        left.append(store.kept().images)
    assert left == [8, 8, 7, 7]
