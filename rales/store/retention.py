"""What may be let go of: images and results of series that were delivered everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rales.store.database import Database, from_text, to_text

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A series that may be released."""

    series_uid: str
    since: datetime
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the received images take on disk; ``oldest`` is when the first of them came."""

    images: int
    size: int
    oldest: datetime | None


class RetentionStore:
    """Finds what may go, marks it, and removes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def kept(self) -> Kept:
        """Return what is kept now."""
        row = self._database.rows(
            "SELECT count(*) AS images, coalesce(sum(size), 0) AS size, min(received_at) AS oldest"
            " FROM instances WHERE released_at IS NULL"
        )[0]
        return Kept(
            images=row["images"],
            size=row["size"],
            oldest=from_text(row["oldest"]) if row["oldest"] else None,
        )

    def delivered(self) -> list[Delivered]:
        """Return the series that may be released, the one that was done first, first."""
        rows = self._database.rows(
            "SELECT r.series_uid, r.since, sum(i.size) AS size FROM releasable r"
            " JOIN instances i ON i.series_uid = r.series_uid AND i.released_at IS NULL"
            " GROUP BY r.series_uid ORDER BY r.since"
        )
        return [
            Delivered(series_uid=row["series_uid"], since=from_text(row["since"]), size=row["size"])
            for row in rows
        ]

    def release(self, series_uid: str, *, at: datetime) -> bool:
        """Mark images and results of a series as released; False: it may not go (any more)."""
        now = to_text(at)
        with self._database.transaction() as tx:
            still = tx.execute(
                "SELECT 1 FROM releasable WHERE series_uid = ?", (series_uid,)
            ).fetchone()
            if still is None:
                return False
            tx.execute(
                "UPDATE instances SET released_at = ?, gone = 0"
                " WHERE series_uid = ? AND released_at IS NULL",
                (now, series_uid),
            )
            tx.execute(
                "UPDATE jobs SET released_at = ? WHERE series_uid = ? AND released_at IS NULL",
                (now, series_uid),
            )
        return True

    def released_jobs(self, series_uid: str) -> list[int]:
        """Return the jobs of a released series."""
        rows = self._database.rows(
            "SELECT id FROM jobs WHERE series_uid = ? AND released_at IS NOT NULL", (series_uid,)
        )
        return [row["id"] for row in rows]

    def purge(self, remove: Callable[[Path], None]) -> int:
        """Remove the files of released images; return how many.

        While the state file is locked: a resend that comes at the same moment finds either its
        file or, at its record, that it is gone (see :meth:`InstanceStore.record`).

        Raises:
            OSError: A file cannot be removed; it stays to be removed.
        """
        count = 0
        while True:
            with self._database.transaction() as tx:
                rows = tx.execute(
                    "SELECT rowid, path FROM instances"
                    " WHERE gone = 0 AND released_at IS NOT NULL LIMIT ?",
                    (_BATCH,),
                ).fetchall()
                for row in rows:
                    remove(self._database.file_of(row["path"]))
                    tx.execute("UPDATE instances SET gone = 1 WHERE rowid = ?", (row["rowid"],))
            count += len(rows)
            if len(rows) < _BATCH:
                return count

    def let_go(self, series_uid: str, file: Path) -> bool:
        """Tell whether retention has let go of an image."""
        rows = self._database.rows(
            "SELECT released_at FROM instances WHERE series_uid = ? AND path = ?",
            (series_uid, self._database.name_of(file)),
        )
        return bool(rows and rows[0]["released_at"])

    def remove_again(self, series_uid: str, file: Path) -> None:
        """Have :meth:`purge` remove a released image whose file came back."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE instances SET gone = 0"
                " WHERE series_uid = ? AND path = ? AND released_at IS NOT NULL",
                (series_uid, self._database.name_of(file)),
            )
