"""Starts an ended job again by hand (``rales retry``)."""

from __future__ import annotations

from datetime import datetime

from chestct.errors import ResultDamaged
from chestct.states import JobState
from dicom_out.result_file import read_whole
from rales.state.results import load_objects
from rales.state.store import Job, JobStore


def retry(jobs: JobStore, job: Job, *, at: datetime) -> JobState:
    """Start an ended job again; return the state it goes to.

    A job without results, or with lost or damaged result files, is analysed again; the same models
    and settings give the same objects. Any other job is delivered again.

    Raises:
        StateConflict: The job cannot be started again now; see :meth:`JobStore.retry`.
    """
    after = JobState.COMPOSED if job.result and _is_whole(job) else JobState.READY
    jobs.retry(job, after, at=at)
    return after


def _is_whole(job: Job) -> bool:
    """Return whether the result names its objects and every file is as it was written."""
    try:
        for item in load_objects(job):
            read_whole(item)
    except (ResultDamaged, OSError, LookupError, TypeError, ValueError):
        return False
    return True
