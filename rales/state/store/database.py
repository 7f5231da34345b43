"""The SQLite file: connections, numbered migrations, transactions, and the names of files."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path, PurePosixPath

from chestct.errors import ConfigError, OutOfResources

_LOG = logging.getLogger(__name__)
_BUSY_SECONDS = 30.0
_BELOW = frozenset({"spool", "results"})
"""The folders beside the state file that its rows name files of, each in a folder of its own."""


def to_text(at: datetime) -> str:
    """Return ``at`` in UTC with a fixed width, so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def from_text(text: str) -> datetime:
    """Undo :func:`to_text`."""
    return datetime.fromisoformat(text)


class Database:
    """One connection that writes, shared by the threads of this process behind a lock.

    Queries have connections of their own: under WAL nobody who reads waits for who writes, nor
    holds up a C-STORE. ``synchronous=FULL`` makes every committed transaction survive a power
    cut: 0x0000 is answered only after the commit.
    """

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``, creating and migrating it.

        Raises:
            ConfigError: The file cannot be opened, or a newer Rales wrote it.
        """
        self._path = path
        self._lock = threading.RLock()
        self._writer: int | None = None
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._migrate(path)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"cannot open the state file {path}: {error}{_remedy(error)}"
            ) from error

    def close(self) -> None:
        """Close the connections; further use is an error."""
        with self._lock:
            self._closed = True
            self._connection.close()
            while self._readers:
                self._readers.pop().close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside one write transaction; an exception rolls it back.

        Within another of this thread it is a part of that: what a step reads, decides and writes
        can be one transaction, whichever methods do it.

        Raises:
            OutOfResources: The disk is full or the file cannot be written now.
        """
        with self._lock:
            if self._writer == threading.get_ident():
                with self._nested():
                    yield self._connection
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._writer = threading.get_ident()
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                finally:
                    self._writer = None
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise OutOfResources(f"the state file cannot be written: {error}") from error

    @contextmanager
    def _nested(self) -> Iterator[None]:
        self._connection.execute("SAVEPOINT nested")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO nested")
            raise
        finally:
            self._connection.execute("RELEASE nested")

    def rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Return the rows of one query; within a transaction of this thread, with its changes.

        Anything but a query goes to the connection that writes.
        """
        if self._writer == threading.get_ident() or not sql.lstrip().upper().startswith("SELECT"):
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        with self._reading() as reader:
            return reader.execute(sql, parameters).fetchall()

    def name_of(self, file: Path) -> str:
        """Return what a row calls ``file``: its place below the folder of the state file.

        A file elsewhere is called by its whole path.
        """
        folder = self._path.parent
        return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)

    def file_of(self, name: str) -> Path:
        """Undo :meth:`name_of`.

        Older versions wrote whole paths: of those the end counts, wherever the folder was then.
        """
        place = PurePosixPath(name)
        if place.is_absolute() and len(place.parts) > 3 and place.parts[-3] in _BELOW:  # noqa: PLR2004 - folder, folder, file
            place = PurePosixPath(*place.parts[-3:])
        return self._path.parent / place

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that only reads: an idle one, or one more."""
        try:
            reader = self._readers.pop()
        except IndexError:
            reader = self._connect()
            reader.execute("PRAGMA query_only=ON")
        try:
            yield reader
        finally:
            if self._closed:
                reader.close()
            else:
                self._readers.append(reader)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _migrate(self, path: Path) -> None:
        scripts = sorted(
            (
                entry
                for entry in resources.files("rales.state.sql").iterdir()
                if entry.name[:4].isdigit()
            ),
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


def _remedy(error: OSError | sqlite3.Error) -> str:
    """Say what to do about a file that is no state file any more; nothing of another error."""
    damaged = isinstance(error, sqlite3.DatabaseError) and getattr(
        error, "sqlite_errorcode", 0
    ) in {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
    if not damaged:
        return ""
    return (
        ". It is damaged: move it away with its -wal and -shm, then `rales restore` a backup to an "
        "empty folder, or `rales fsck --rebuild` takes the images of spool/ in again"
    )
