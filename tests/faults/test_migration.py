"""An older state file is migrated and copied; a newer or a development one is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from chestct.errors import ConfigError
from chestct.states import DeliveryState, JobState
from rales.state.store import Database, DeliveryStore, JobStore, RetentionStore
from rales.state.store.database import schema_scripts

_DEVELOPMENT_SCHEMA = "CREATE TABLE jobs (id INTEGER PRIMARY KEY) STRICT;"
_NEXT_STEP = """
CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT;
ALTER TABLE jobs ADD COLUMN later INTEGER NOT NULL DEFAULT 0;
"""


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that stands for the upgrade to a version with one more schema script."""

    def upgrade() -> None:
        scripts = [*schema_scripts(), _NEXT_STEP]
        monkeypatch.setattr("rales.state.store.database.schema_scripts", lambda: scripts)

    return upgrade


def _state(path: Path) -> tuple[int, set[str]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        names = {name for (name,) in tables}
        return connection.execute("PRAGMA user_version").fetchone()[0], names


def test_an_older_file_is_migrated_and_the_old_one_kept(
    tmp_path: Path, next_version: Callable[[], None]
) -> None:
    path = tmp_path / "state.sqlite"
    Database(path).close()
    old_version, old_tables = _state(path)
    next_version()
    Database(path).close()
    version, tables = _state(path)
    assert version == old_version + 1
    assert tables > old_tables
    copy = tmp_path / f"state.schema-{old_version}.sqlite"
    assert _state(copy) == (old_version, old_tables)
    assert copy.stat().st_mode & 0o777 == 0o600
    Database(path).close()
    assert sorted(one.name for one in tmp_path.glob("*.sqlite*")) == [copy.name, path.name]


def test_rows_in_every_state_come_over_and_nobody_is_told(
    tmp_path: Path, next_version: Callable[[], None]
) -> None:
    path, now = tmp_path / "state.sqlite", "2026-01-02T12:00:00.000000+00:00"
    jobs = [(number, f"1.{number}", state) for number, state in enumerate(JobState, start=1)]
    done = next(number for number, _, state in jobs if state is JobState.DONE)
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        for number, series, state in jobs:
            connection.execute(
                "INSERT INTO jobs (id, series_uid, study_uid, calling_ae, revision, state, since,"
                " created_at) VALUES (?, ?, '1.0', 'CT', 1, ?, ?, ?)",
                (number, series, state, now, now),
            )
            connection.execute(
                "INSERT INTO instances (sop_instance_uid, content_digest, series_uid, study_uid,"
                " sop_class_uid, transfer_syntax_uid, patient_key, path, size, calling_ae,"
                " received_at) VALUES (?, 'd', ?, '1.0', '1', '1', 'p', 'f', 1, 'CT', ?)",
                (f"{series}.1", series, now),
            )
        connection.executemany(
            "INSERT INTO deliveries (job_id, role, destination, sop_instance_uid, state,"
            " created_at, due_at) VALUES (?, ?, 'pacs', '1.9', ?, ?, ?)",
            [(done, f"role {state}", state, now, now) for state in DeliveryState],
        )
        connection.commit()
        tables = ("jobs", "instances", "deliveries")
        before = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}  # noqa: S608 - names of this test
    next_version()
    database = Database(path)
    for name, rows in before.items():
        after = database.rows(f"SELECT * FROM {name}")  # noqa: S608 - as above
        assert [tuple(row)[: len(rows[0])] for row in after] == rows
    assert database.rows("PRAGMA integrity_check")[0][0] == "ok"
    assert database.rows("SELECT * FROM notifications") == []
    released = [row["series_uid"] for row in database.rows("SELECT * FROM releasable")]
    assert released == [f"1.{done}"]
    assert [one.state for one in JobStore(database).all()] == list(JobState)
    assert RetentionStore(database).kept().images == len(jobs)
    counted = "SELECT id FROM jobs WHERE open_deliveries <> (SELECT count(*) FROM deliveries"
    assert not database.rows(
        f"{counted} WHERE job_id = jobs.id AND state IN ('pending', 'stored'))"
    )
    assert {one.state for one in DeliveryStore(database).of_job(done)} == set(DeliveryState)
    database.close()


@pytest.mark.parametrize("schema", [1, 14])
def test_a_file_of_a_development_version_is_refused_and_left_as_it_was(
    schema: int, tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{_DEVELOPMENT_SCHEMA}\nPRAGMA user_version={schema};")
    before = _state(path)
    with pytest.raises(ConfigError, match=r"before 0\.1\.0 \(schema .*rales fsck --rebuild"):
        Database(path)
    assert _state(path) == before == (schema, {"jobs"})
    assert [one.name for one in tmp_path.glob("*.sqlite")] == ["state.sqlite"]


def test_a_newer_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=9999")
    with pytest.raises(ConfigError, match="newer Rales"):
        Database(path)
    assert _state(path)[0] == 9999
