"""A snapshot of the state file of a node that may be running, and the images that it names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chestct.errors import OutOfResources
from rales.state.store.database import Database, check_schema

_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptImage:
    """An image that retention has not released; ``name`` is its path in the data directory."""

    name: str
    path: Path
    series_uid: str
    content_digest: str


def take_snapshot(state: Path, copy: Path) -> None:
    """Copy the state file as it is at one moment; writers do not wait."""
    copy.touch(mode=0o600)
    with _open_read_only(state) as live, closing(sqlite3.connect(copy)) as target:
        live.backup(target)


def check_state(state: Path, *, named: Path | None = None) -> None:
    """Check that this version can read a state file; change nothing.

    An error names ``named``, by default the file itself.

    Raises:
        ConfigError: It has a schema that this version does not know.
    """
    with _open_read_only(state) as connection:
        check_schema(connection, named or state)


def count_series(state: Database) -> int:
    """Return the number of series."""
    return int(state.rows("SELECT count(DISTINCT series_uid) FROM jobs")[0][0])


def jobs_with_results(state: Database) -> list[int]:
    """Return the jobs whose results retention has not released."""
    rows = state.rows("SELECT id FROM jobs WHERE result IS NOT NULL AND released_at IS NULL")
    return [row["id"] for row in rows]


def kept_images(state: Database) -> Iterator[KeptImage]:
    """Yield every kept image inside the data directory, a page of rows at a time."""
    last = 0
    while page := state.rows(
        "SELECT rowid, path, content_digest, series_uid FROM instances"
        " WHERE rowid > ? AND released_at IS NULL ORDER BY rowid LIMIT ?",
        (last, _PAGE),
    ):
        for row in page:
            if not row["path"].startswith("/"):
                yield KeptImage(
                    name=row["path"],
                    path=state.file_of(row["path"]),
                    series_uid=row["series_uid"],
                    content_digest=row["content_digest"],
                )
        last = page[-1]["rowid"]


def follow_release(snapshot: Database, live: Path, image: KeptImage) -> bool:
    """Release an image in the snapshot if retention has released it in the live state file since.

    Returns:
        Whether retention has released it.
    """
    key = (image.series_uid, image.name)
    with _open_read_only(live) as connection:
        row = connection.execute(
            "SELECT released_at FROM instances WHERE series_uid = ? AND path = ?", key
        ).fetchone()
    if row is None or row[0] is None:
        return False
    with snapshot.transaction() as tx:
        tx.execute(
            "UPDATE instances SET released_at = ?, gone = 1 WHERE series_uid = ? AND path = ?",
            (row[0], *key),
        )
        tx.execute(
            "UPDATE jobs SET released_at = ?, holds = 0 WHERE series_uid = ?",
            (row[0], image.series_uid),
        )
    return True


def _open_read_only(state: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{state.resolve().as_uri()}?mode=ro", uri=True))


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the disk, or of a state file on it, into :class:`OutOfResources`."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise OutOfResources(f"{folder} cannot be written: {error}") from error
