"""The state file: its connections, schema, transactions, and the names of files in its rows."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from chestct.errors import ConfigError, OutOfResources

_LOG = logging.getLogger(__name__)

Row = sqlite3.Row
"""One row of a query; its columns go by name."""
_BUSY_SECONDS = 30.0
_APPLICATION_ID = 0x52616C65
"""The letters Rale: marks state files of released versions. Development versions set none."""


def schema_scripts() -> list[str]:
    """Return the scripts that build the schema, in order; script N leads to schema N."""
    scripts = resources.files("rales.state.sql").iterdir()
    numbered = sorted((path for path in scripts if path.name[:4].isdigit()), key=str)
    return [path.read_text() for path in numbered]


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Check that this version can read the state file at ``path``; change nothing.

    Raises:
        ConfigError: The file has a schema that this version does not know.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if version and application_id != _APPLICATION_ID:
        raise ConfigError(
            f"{path} was written by a development version of Rales from before 0.1.0 "
            f"(schema {version}), which this version cannot read. The file is unchanged. "
            "Let the old version finish its deliveries, then start with an empty "
            "node.data_dir; or move the file away with its -wal and -shm, and "
            "`rales fsck --rebuild` records the images in spool/ again"
        )
    known = len(schema_scripts())
    if version > known:
        raise ConfigError(
            f"{path} was written by a newer Rales (schema {version}); this version "
            f"knows schema {known}. Install the newer version again"
        )


def to_text(at: datetime) -> str:
    """Return ``at`` in UTC with a fixed width, so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def from_text(text: str) -> datetime:
    """Return the time that :func:`to_text` wrote."""
    return datetime.fromisoformat(text)


def time_or_none(text: str | None) -> datetime | None:
    """Return the time in a column that may be NULL."""
    return from_text(text) if text else None


class Database:
    """One connection for writing, shared by the threads of this process behind a lock.

    Queries use connections of their own: under WAL, readers do not wait for the writer and do not
    delay a C-STORE. With ``synchronous=FULL`` every committed transaction survives a power cut.
    """

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``; create it or bring its schema up to date.

        Raises:
            ConfigError: The file cannot be opened, a newer Rales wrote it, or a development
                version from before 0.1.0 did.
        """
        self._path = path
        self._lock = threading.RLock()
        self._writer: int | None = None
        self._first: Callable[[], None] | None = None
        self._readers: list[sqlite3.Connection] = []
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._migrate()
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

    def before_each_write(self, action: Callable[[], None] | None) -> None:
        """Run ``action`` before each write transaction begins; None: run nothing.

        It runs while the thread holds the file, may write in transactions of its own, before which
        it runs too, and fails the write that waits for it when it raises.
        """
        with self._lock:
            self._first = action

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside one write transaction; an exception rolls it back.

        A transaction inside a transaction of the same thread becomes part of the outer one, so
        that a step can read, decide and write atomically through several methods.

        Raises:
            OutOfResources: The disk is full or the file cannot be written now.
        """
        with self._lock:
            if self._writer == threading.get_ident():
                with self._nested():
                    yield self._connection
                return
            if self._first is not None:
                self._first()
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
        """Return the rows of one query.

        Inside a transaction of this thread, the query sees the transaction's changes. A statement
        other than SELECT runs on the writing connection.
        """
        if self._writer == threading.get_ident() or not sql.lstrip().upper().startswith("SELECT"):
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        with self._reading() as reader:
            return reader.execute(sql, parameters).fetchall()

    def name_of(self, file: Path) -> str:
        """Return the name of ``file`` in a row: its path relative to the folder of the state file.

        A file outside that folder keeps its absolute path.
        """
        folder = self._path.parent
        return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)

    def file_of(self, name: str) -> Path:
        """Return the path of the file that a row calls ``name``."""
        return self._path.parent / name

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a read-only connection: an idle one if there is one, else a new one."""
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

    def _migrate(self) -> None:
        """Run the schema scripts that the file has not seen yet; keep a copy of it first.

        Raises:
            ConfigError: The file has a schema that this version does not know.
        """
        scripts = schema_scripts()
        with self._lock:
            version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
            check_schema(self._connection, self._path)
            if 0 < version < len(scripts):
                self._back_up(version)
            for number, script in enumerate(scripts[version:], start=version + 1):
                self._connection.executescript(
                    f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id={_APPLICATION_ID};"
                    f"PRAGMA user_version={number};\nCOMMIT;"
                )

    def _back_up(self, version: int) -> None:
        """Copy the file before a migration; keep one copy for each schema that it had."""
        copy = self._path.with_name(f"{self._path.stem}.schema-{version}{self._path.suffix}")
        partial = copy.with_name(f"{copy.name}.partial")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        with closing(sqlite3.connect(partial)) as target:
            self._connection.backup(target)
        partial.replace(copy)
        _LOG.warning("migrating the state file to a newer schema; the old file is kept as %s", copy)


def _remedy(error: OSError | sqlite3.Error) -> str:
    """Return what to do about a damaged state file; an empty string for other errors."""
    code = getattr(error, "sqlite_errorcode", None)
    if code not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return ""
    return (
        ". The file is damaged: move it away with its -wal and -shm, then `rales restore` a backup "
        "to an empty folder, or `rales fsck --rebuild` records the images in spool/ again"
    )
