"""Releases delivered series by age or by size; undelivered results are never deleted.

That includes results without a destination.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from rales.runtime.clock import nothing_skipped
from rales.state.store.retention import Done, RetentionStore

_LOG = logging.getLogger(__name__)
_EVERY = timedelta(seconds=10)
_LOOK = 200
"""Series to look at in one step."""


class RetentionWorker:
    """One step of the retention loop.

    Args:
        longest: Release a delivered series after this time; None: never by age.
        largest: Release the oldest delivered series while the images take more bytes; None: never
            by size.
        results_dir: One folder for each job; results go with their images.
        skipped_since: The time that the clock skipped since a moment; it ages no series.
    """

    def __init__(
        self,
        *,
        store: RetentionStore,
        results_dir: Path,
        longest: timedelta | None,
        largest: int | None,
        skipped_since: Callable[[datetime], timedelta] = nothing_skipped,
    ) -> None:
        self._store = store
        self._results_dir = results_dir
        self._longest = longest
        self._largest = largest
        self._skipped_since = skipped_since
        self._failing = 0
        self._next: datetime | None = None
        self._after: Done | None = None

    def step(self, now: datetime) -> datetime | None:
        """Release the series that are due; return when to look again."""
        if self._next is not None and now < self._next:
            return self._next  # the loop asks every second
        self._next = now + _EVERY
        self._purge()  # files that a stop left, or that could not be removed
        if self._longest is None and self._largest is None:
            return None
        for series, why in self._due(now):
            size = self._store.size(series.series_uid)
            if self._store.release(series.series_uid, at=now):
                self._remove_results(series.series_uid)
                images = self._purge()
                _LOG.info(
                    "series %s: %d images (%.1f MB) and its results released: %s",
                    series.series_uid,
                    images,
                    size / 1e6,
                    why,
                )
        return self._next

    def _due(self, now: datetime) -> Iterator[tuple[Done, str]]:
        """Yield the series to release and why, oldest first, from where the last step ended.

        Many series that are done may have to stay for other reasons, so no step looks at all of
        them.
        """
        page = self._store.done(after=self._after, limit=_LOOK)
        self._after = page[-1] if len(page) == _LOOK else None
        for series in page:
            kept = now - series.since - self._skipped_since(series.since)
            if self._longest is not None and kept >= self._longest:
                yield series, "retention.days"
            elif self._largest is not None and self._store.kept().size > self._largest:
                yield series, "retention.gigabytes"
            else:
                self._after = None
                return

    def _purge(self) -> int:
        """Remove the files of released images; return how many; log a failure once."""
        done = self._store.purge(_remove)
        if done.failed and len(done.failed) != self._failing:
            _LOG.error(
                "%d files of released images cannot be removed and will be tried again: %s",
                len(done.failed),
                done.failed[0],
            )
        self._failing = len(done.failed)
        return done.removed

    def _remove_results(self, series_uid: str) -> None:
        for job_id in self._store.released_jobs(series_uid):
            shutil.rmtree(self._results_dir / f"{job_id:08d}", ignore_errors=True)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()  # only when it is empty
