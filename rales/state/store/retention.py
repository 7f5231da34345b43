"""Releases the images and results of series that were delivered everywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rales.state.store.database import Database, from_text, to_text

_BATCH = 50
_HOLD_SECONDS = 0.01
"""A purge holds the state file, which a C-STORE waits for, this long plus one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A series that is done and whose images are kept; ``job_id`` is its newest revision."""

    series_uid: str
    job_id: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The kept images: number, bytes, and when the oldest series arrived."""

    images: int
    size: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """The number of removed files, and the errors of files that could not be removed."""

    removed: int
    failed: tuple[OSError, ...] = ()


class RetentionStore:
    """Finds the series to release, marks them, and removes their files."""

    def __init__(
        self, database: Database, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._monotonic = monotonic

    def kept(self) -> Kept:
        """Return number, bytes and age of the images that are kept now."""
        row = self._database.rows(
            "SELECT images, size, (SELECT min(created_at) FROM jobs WHERE holds = 1) AS oldest"
            " FROM kept"
        )[0]
        return Kept(
            images=row["images"],
            size=row["size"],
            oldest=from_text(row["oldest"]) if row["oldest"] and row["images"] else None,
        )

    def done(self, *, after: Done | None, limit: int) -> list[Done]:
        """Return series that are done, the earliest first.

        Not all of them can be released: see :meth:`release`.
        """
        rows = self._database.rows(
            "SELECT series_uid, id, since FROM jobs INDEXED BY jobs_to_release"
            " WHERE holds = 1 AND state = 'done' AND (since, id) > (?, ?)"
            " ORDER BY since, id LIMIT ?",
            (to_text(after.since), after.job_id, limit) if after else ("", 0, limit),
        )
        return [
            Done(series_uid=row["series_uid"], job_id=row["id"], since=from_text(row["since"]))
            for row in rows
        ]

    def size(self, series_uid: str) -> int:
        """Return the bytes of the kept images of a series."""
        rows = self._database.rows(
            "SELECT coalesce(sum(size), 0) FROM instances"
            " WHERE series_uid = ? AND released_at IS NULL",
            (series_uid,),
        )
        return int(rows[0][0])

    def release(self, series_uid: str, *, at: datetime) -> bool:
        """Mark images and results of a series as released; False: somebody still needs them."""
        now = to_text(at)
        with self._database.transaction() as tx:
            releasable = tx.execute(
                "SELECT 1 FROM releasable WHERE series_uid = ?", (series_uid,)
            ).fetchone()
            if releasable is None:
                return False
            tx.execute(
                "UPDATE instances SET released_at = ?, gone = 0"
                " WHERE series_uid = ? AND released_at IS NULL",
                (now, series_uid),
            )
            tx.execute(
                "UPDATE jobs SET released_at = coalesce(released_at, ?), holds = 0"
                " WHERE series_uid = ?",
                (now, series_uid),
            )
        return True

    def released_jobs(self, series_uid: str) -> list[int]:
        """Return the jobs of a released series."""
        rows = self._database.rows(
            "SELECT id FROM jobs WHERE series_uid = ? AND released_at IS NOT NULL", (series_uid,)
        )
        return [row["id"] for row in rows]

    def purge(self, remove: Callable[[Path], None]) -> Purged:
        """Remove the files of released images.

        The state file is locked meanwhile, a moment at a time: a resend at the same moment finds
        either its file or, when it is recorded, that the file is gone
        (:meth:`InstanceStore.record`). A file that cannot be removed is tried again later and
        stops no other file.
        """
        removed = 0
        failed: list[OSError] = []
        last = ("", 0)
        while True:
            batch, last = self._purge_batch(remove, after=last)
            removed += batch.removed
            failed += batch.failed
            if not batch.removed and not batch.failed:
                return Purged(removed=removed, failed=tuple(failed))
            time.sleep(0.001)  # let a thread that waits for the state file go first

    def _purge_batch(
        self, remove: Callable[[Path], None], *, after: tuple[str, int]
    ) -> tuple[Purged, tuple[str, int]]:
        """Remove some files after ``after``, a time and a row; return also the last row."""
        removed: list[tuple[int]] = []
        failed: list[OSError] = []
        with self._database.transaction() as tx:
            end = self._monotonic() + _HOLD_SECONDS
            rows = tx.execute(
                "SELECT rowid, path, released_at FROM instances INDEXED BY instances_to_purge"
                " WHERE gone = 0 AND released_at IS NOT NULL AND (released_at, rowid) > (?, ?)"
                " ORDER BY released_at, rowid LIMIT ?",
                (*after, _BATCH),
            ).fetchall()
            for row in rows:
                after = (row["released_at"], row["rowid"])
                try:
                    remove(self._database.file_of(row["path"]))
                except OSError as error:
                    failed.append(error)
                else:
                    removed.append((row["rowid"],))
                if self._monotonic() >= end:
                    break
            tx.executemany("UPDATE instances SET gone = 1 WHERE rowid = ?", removed)
        return Purged(removed=len(removed), failed=tuple(failed)), after

    def is_released(self, series_uid: str, file: Path) -> bool:
        """Return whether retention has released an image."""
        rows = self._database.rows(
            "SELECT released_at FROM instances WHERE series_uid = ? AND path = ?",
            (series_uid, self._database.name_of(file)),
        )
        return bool(rows and rows[0]["released_at"])

    def remove_again(self, series_uid: str, file: Path) -> None:
        """Have :meth:`purge` remove the file of a released image that is on disk again."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE instances SET gone = 0"
                " WHERE series_uid = ? AND path = ? AND released_at IS NOT NULL",
                (series_uid, self._database.name_of(file)),
            )
