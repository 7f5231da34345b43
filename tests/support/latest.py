"""The newest revision of a series, which only tests ask for by its UID."""

from __future__ import annotations

from rales.state.store import Job, JobStore
from rales.state.store.queries import JobFilter


def latest_of_series(jobs: JobStore, series_uid: str) -> Job | None:
    """Return the newest revision of a series."""
    # Not all jobs: those of other series may have results that cannot be read.
    chosen = jobs.select(JobFilter(series=series_uid))
    revisions = [job for job in chosen if job.series_uid == series_uid]
    return max(revisions, key=lambda job: job.revision, default=None)
