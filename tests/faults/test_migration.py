"""A state file of an older schema is migrated, with a copy; of a newer one refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from chestct.errors import ConfigError
from rales.store import Database


def _first_schema(path: Path) -> None:
    script = resources.files("rales.sql").joinpath("0001_initial.sql").read_text()
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


def test_a_newer_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=9999")
    with pytest.raises(ConfigError, match="newer Rales"):
        Database(path)
    assert _state(path)[0] == 9999
