"""The newest revision of a series, which only tests ask for by its UID."""

from __future__ import annotations

from rales.state.store import Job, JobStore


def latest_of_series(jobs: JobStore, series_uid: str) -> Job | None:
    """Return the newest revision of a series."""
    revisions = [job for job in jobs.all() if job.series_uid == series_uid]
    return max(revisions, key=lambda job: job.revision, default=None)
