"""Images that are missing or damaged on disk: the job that meets them waits for a resend.

The analysis marks what it could not use. A resend puts the file back and takes the mark away;
with the last of them, in the same transaction, the job that died of it is ready again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import datetime, timedelta

from chestct.series import ReceivedInstance
from chestct.states import JobState
from rales.state.store.database import to_text
from rales.state.store.jobs import Job, add_event, change_state, state_of_end

INPUT_UNAVAILABLE = "input-unavailable"
"""The reason of a job that failed because images were not there as they were received."""
_SETTLE = timedelta(seconds=5)
"""After a mended image, the next one of the same resend is waited for so long."""
_MENDED = "images that had been missing or damaged were sent again"


def set_back(
    tx: sqlite3.Connection,
    job: Job,
    *,
    images: Collection[str],
    due_at: datetime | None,
    at: datetime,
    message: str,
) -> JobState:
    """Put an analysing job that could not read ``images`` back, or end it; return its state.

    It is tried again at ``due_at``; none ends it, unless it may be of a part
    (:func:`rales.state.store.jobs.state_of_end`). Where one of its images came again during
    the analysis, it is tried again at once and the attempt does not count: what was found may
    not be so any more.
    """
    now = to_text(at)
    row = tx.execute("SELECT mended FROM jobs WHERE id = ?", (job.id,)).fetchone()
    if row["mended"] != job.mended:
        change_state(tx, job.id, JobState.ANALYSING, JobState.READY, at=now, message=_MENDED)
        tx.execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (job.id,))
        return JobState.READY
    _clear_marks(tx, job.series_uid)
    tx.executemany(
        "UPDATE instances SET faulty = 1"
        " WHERE sop_instance_uid = ? AND series_uid = ? AND current = 1",
        [(uid, job.series_uid) for uid in images],
    )
    after = JobState.READY if due_at else state_of_end(tx, job, JobState.FAILED, at=at)
    reason = INPUT_UNAVAILABLE if after is JobState.FAILED else ""
    change_state(tx, job.id, JobState.ANALYSING, after, at=now, message=message, reason=reason)
    if due_at:
        tx.execute("UPDATE jobs SET due_at = ? WHERE id = ?", (to_text(due_at), job.id))
    elif after is JobState.RECEIVING:
        tx.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (job.id,))
    return after


def mend(tx: sqlite3.Connection, instance: ReceivedInstance, *, faulty: bool) -> None:
    """Note that a recorded image came again; ``faulty`` is its mark.

    Nothing is to be done for one that was there, whole and not marked.

    A job that failed of it goes on when no image of the series is marked any more. So does one
    without a result that ended of something else, when the file is written anew: its verdict
    was of other bytes than those that were received.
    """
    if not faulty and not instance.written:
        return
    tx.execute(
        "UPDATE instances SET faulty = 0 WHERE sop_instance_uid = ? AND content_digest = ?",
        (instance.sop_instance_uid, instance.content_digest),
    )
    job = tx.execute(
        "SELECT id, state, reason, result, due_at FROM jobs WHERE series_uid = ?"
        " ORDER BY revision DESC LIMIT 1",
        (instance.series_uid,),
    ).fetchone()
    if job is None:
        return
    tx.execute("UPDATE jobs SET mended = mended + 1 WHERE id = ?", (job["id"],))
    died_of_it = job["reason"] == INPUT_UNAVAILABLE
    if (died_of_it or job["state"] == JobState.READY) and _is_any_marked(tx, instance.series_uid):
        return
    at, due_at = to_text(instance.received_at), to_text(instance.received_at + _SETTLE)
    if job["state"] == JobState.READY and job["due_at"]:
        add_event(tx, job["id"], JobState.READY, JobState.READY, at=at, message=_MENDED)
    elif job["state"] in {JobState.FAILED, JobState.REJECTED} and (
        died_of_it or (instance.written and job["result"] is None)
    ):
        _clear_marks(tx, instance.series_uid)
        change_state(tx, job["id"], JobState(job["state"]), JobState.READY, at=at, message=_MENDED)
    else:
        return
    tx.execute(
        "UPDATE jobs SET attempts = 0, interruptions = 0, due_at = ? WHERE id = ?",
        (due_at, job["id"]),
    )


def _clear_marks(tx: sqlite3.Connection, series_uid: str) -> None:
    tx.execute("UPDATE instances SET faulty = 0 WHERE series_uid = ? AND faulty = 1", (series_uid,))


def _is_any_marked(tx: sqlite3.Connection, series_uid: str) -> bool:
    return bool(
        tx.execute(
            "SELECT 1 FROM instances WHERE series_uid = ? AND faulty = 1 AND current = 1 LIMIT 1",
            (series_uid,),
        ).fetchone()
    )
