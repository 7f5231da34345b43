"""Images that are missing or damaged on disk: their job waits until they are sent again.

The analysis marks the images that it could not use. A resend restores the file and removes the
mark. When the last mark goes, the same transaction makes the failed job ready.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import datetime, timedelta

from chestct.series import ReceivedInstance
from chestct.states import JobState
from rales.state.store.database import to_text
from rales.state.store.job import Job
from rales.state.store.transitions import add_event, change_state, state_without_result

INPUT_UNAVAILABLE = "input-unavailable"
"""The reason of a job that failed because images were missing or damaged on disk."""
_SETTLE = timedelta(seconds=5)
"""The pause after a mended image, for the next image of the same resend."""
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
    """Put back an analysing job that could not read ``images``, or end it; return its state.

    The job is due again at ``due_at``; with None it ends, unless it may have only a part of its
    series (:func:`~rales.state.store.transitions.state_without_result`). If one of its images was
    sent again during the analysis, the finding may be outdated: the job is ready at once, and the
    attempt does not count.
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
    after = JobState.READY if due_at else state_without_result(tx, job, JobState.FAILED, at=at)
    reason = INPUT_UNAVAILABLE if after is JobState.FAILED else ""
    change_state(tx, job.id, JobState.ANALYSING, after, at=now, message=message, reason=reason)
    if due_at:
        tx.execute("UPDATE jobs SET due_at = ? WHERE id = ?", (to_text(due_at), job.id))
    elif after is JobState.RECEIVING:
        tx.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (job.id,))
    return after


def mend(tx: sqlite3.Connection, instance: ReceivedInstance, *, faulty: bool) -> None:
    """Record that a known image was sent again; ``faulty`` is its mark.

    Nothing changes for an image whose file was whole and not marked.

    A job that failed because of the image goes on once no image of the series is marked. A job
    that ended without a result for another reason goes on when the file is written anew: its
    verdict was about bytes that differ from the received ones.
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
    waits_for_it = job["reason"] == INPUT_UNAVAILABLE
    if (waits_for_it or job["state"] == JobState.READY) and _is_any_marked(tx, instance.series_uid):
        return
    at, due_at = to_text(instance.received_at), to_text(instance.received_at + _SETTLE)
    if job["state"] == JobState.READY and job["due_at"]:
        add_event(tx, job["id"], JobState.READY, JobState.READY, at=at, message=_MENDED)
    elif job["state"] in {JobState.FAILED, JobState.REJECTED} and (
        waits_for_it or (instance.written and job["result"] is None)
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
