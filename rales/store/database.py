"""The SQLite file: connection, numbered migrations, transactions."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from chestct.errors import ConfigError, OutOfResources

_LOG = logging.getLogger(__name__)
_BUSY_SECONDS = 30.0


def to_text(at: datetime) -> str:
    """Return ``at`` in UTC with a fixed width, so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def from_text(text: str) -> datetime:
    """Undo :func:`to_text`."""
    return datetime.fromisoformat(text)


class Database:
    """One connection, shared by the threads of this process behind a lock.

    ``synchronous=FULL`` under WAL makes every committed transaction survive a power cut:
    0x0000 is answered only after the commit.
    """

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``, creating and migrating it.

        Raises:
            ConfigError: The file cannot be opened, or a newer Rales wrote it.
        """
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._migrate(path)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"cannot open the state file {path}: {error}") from error

    def close(self) -> None:
        """Close the connection; further use is an error."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside one write transaction; an exception rolls it back.

        Raises:
            OutOfResources: The disk is full or the file cannot be written now.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise OutOfResources(f"the state file cannot be written: {error}") from error

    def rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Return the rows of one query."""
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    def _migrate(self, path: Path) -> None:
        scripts = sorted(
            (entry for entry in resources.files("rales.sql").iterdir() if entry.name[:4].isdigit()),
            key=lambda entry: entry.name,
        )
        with self._lock:
            version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(scripts):
                raise ConfigError(
                    f"{path} was written by a newer Rales (schema {version}); "
                    f"this one knows schema {len(scripts)}"
                )
            if 0 < version < len(scripts):
                self._back_up(path.with_name(f"{path.stem}.schema-{version}{path.suffix}"))
            for number, script in enumerate(scripts[version:], start=version + 1):
                step = f"{script.read_text()}\nPRAGMA user_version={number};"
                self._connection.executescript(f"BEGIN IMMEDIATE;\n{step}\nCOMMIT;")

    def _back_up(self, copy: Path) -> None:
        """Keep the file as it was before a migration: one copy for each schema it had."""
        partial = copy.with_name(f"{copy.name}.partial")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        with closing(sqlite3.connect(partial)) as target:
            self._connection.backup(target)
        partial.replace(copy)
        _LOG.warning("the state file is migrated to a newer schema; %s is the old one", copy)
