"""A state file of an older schema is migrated, with a copy; of a newer one refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from chestct.errors import ConfigError
from chestct.states import DeliveryState, JobState
from rales.state.store import Database, DeliveryStore, JobStore, RetentionStore

_SCRIPTS = sorted(
    (one for one in resources.files("rales.state.sql").iterdir() if one.name[:4].isdigit()),
    key=lambda one: one.name,
)


def _first_schema(path: Path) -> None:
    script = resources.files("rales.state.sql").joinpath("0001_initial.sql").read_text()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{script}\nPRAGMA user_version=1;")


def _state(path: Path) -> tuple[int, set[str]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        names = {name for (name,) in tables}
        return connection.execute("PRAGMA user_version").fetchone()[0], names


def test_an_older_file_is_migrated_and_the_old_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    _first_schema(path)
    _, old_tables = _state(path)
    Database(path).close()
    version, tables = _state(path)
    assert version > 1
    assert tables > old_tables
    copy = tmp_path / "state.schema-1.sqlite"
    assert _state(copy) == (1, old_tables)
    assert copy.stat().st_mode & 0o777 == 0o600
    Database(path).close()
    assert sorted(one.name for one in tmp_path.glob("*.sqlite*")) == [copy.name, path.name]


@pytest.mark.parametrize("schema", range(1, len(_SCRIPTS)))
def test_rows_in_every_state_come_over_from_every_schema_and_nobody_is_told(
    schema: int, tmp_path: Path
) -> None:
    path, now = tmp_path / "state.sqlite", "2026-01-02T12:00:00.000000+00:00"
    jobs = [(number, f"1.{number}", state) for number, state in enumerate(JobState, start=1)]
    done = next(number for number, _, state in jobs if state is JobState.DONE)
    with closing(sqlite3.connect(path)) as connection:
        for script in _SCRIPTS[:schema]:
            connection.executescript(script.read_text())
        connection.execute(f"PRAGMA user_version={schema}")
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


def test_a_newer_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=9999")
    with pytest.raises(ConfigError, match="newer Rales"):
        Database(path)
    assert _state(path)[0] == 9999
