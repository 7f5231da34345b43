"""Takes jobs up again: after a crash of the node, after a new analysis, and by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from chestct.states import JobState
from rales.state.store.database import to_text
from rales.state.store.job import Job
from rales.state.store.transitions import change_state, open_revision, state_without_result


def replace_objects(
    tx: sqlite3.Connection, job_id: int, result: Mapping[str, Any], now: str
) -> None:
    """Have deliveries of an earlier analysis, by other models, send the new objects."""
    tx.executemany(
        "UPDATE deliveries SET sop_instance_uid = ?, state = 'pending', attempts = 0,"
        " sent = 0, created_at = ?, due_at = ?, settled_at = NULL"
        " WHERE job_id = ? AND role = ? AND sop_instance_uid <> ?",
        [
            (
                item["sop_instance_uid"],
                now,
                now,
                job_id,
                item["role"],
                item["sop_instance_uid"],
            )
            for item in result.get("objects", ())
        ],
    )


def resume(tx: sqlite3.Connection, job: Job, *, interruptions: int, at: datetime) -> None:
    """Return a job to READY whose analysis a crash interrupted, or end it at last."""
    row = tx.execute("SELECT interruptions FROM jobs WHERE id = ?", (job.id,)).fetchone()
    number, after = row["interruptions"] + 1, JobState.READY
    if number >= interruptions:
        after = state_without_result(tx, job, JobState.FAILED, at=at)
    change_state(
        tx,
        job.id,
        JobState.ANALYSING,
        after,
        at=to_text(at),
        reason="interrupted" if after is JobState.FAILED else "",
        message=f"the node was killed during its analysis ({number} times)",
    )
    tx.execute(
        "UPDATE jobs SET interruptions = ?, attempts = attempts - 1 WHERE id = ?", (number, job.id)
    )


def reopen(tx: sqlite3.Connection, now: str) -> int:
    """Open a revision for each series whose newest revision is superseded; return how many."""
    rows = tx.execute(
        "SELECT * FROM jobs j WHERE state = ? AND NOT EXISTS (SELECT 1 FROM jobs n"
        " WHERE n.series_uid = j.series_uid AND n.revision > j.revision)",
        (JobState.SUPERSEDED,),
    ).fetchall()
    for row in rows:
        open_revision(
            tx,
            series_uid=row["series_uid"],
            study_uid=row["study_uid"],
            revision=row["revision"] + 1,
            calling_ae=row["calling_ae"],
            at=now,
            message="no revision had taken over: the series is received again",
        )
    return len(rows)


def restart(tx: sqlite3.Connection, job: Job, now: str) -> None:
    """Reset the attempts of an ended job, and those of its deliveries that are sent again.

    After a failure these are the refused and withdrawn deliveries; after success, all of them.
    """
    tx.execute("UPDATE jobs SET attempts = 0, interruptions = 0 WHERE id = ?", (job.id,))
    tx.execute(
        # Due now, and given up no earlier, even if the clock of this process is ahead of the
        # node's, or behind the time at which the node last ran.
        "UPDATE deliveries SET state = 'pending', attempts = 0,"
        " due_at = min(created_at, ?), created_at = max(?, coalesce("
        "  (SELECT value FROM node WHERE name = 'clock_seen'), '')),"
        " settled_at = NULL WHERE job_id = ?"
        " AND (state IN ('refused', 'withdrawn') OR ? = 'done')",
        (now, now, job.id, job.state),
    )
