"""Guarded changes of a job's state, each with its event, inside one transaction."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from chestct.states import JobState, may_follow
from rales.state.store.job import Job

NUMBERS_TAKEN = "job_numbers_taken"
"""The name of the fact that holds the highest number of a result folder at the last start."""


class StateConflict(RuntimeError):
    """A job was not in the state that a change expected; nothing was changed."""


def add_event(
    tx: sqlite3.Connection,
    job_id: int | None,
    before: JobState | None,
    after: JobState,
    *,
    at: str,
    message: str,
) -> None:
    """Append one line to the history of a job."""
    tx.execute(
        "INSERT INTO job_events (job_id, at, before, after, message) VALUES (?, ?, ?, ?, ?)",
        (job_id, at, before, after, message),
    )


def change_state(
    tx: sqlite3.Connection,
    job_id: int,
    before: JobState,
    after: JobState,
    *,
    at: str,
    message: str,
    reason: str = "",
) -> None:
    """Move a job from ``before`` to ``after`` and append the event.

    Raises:
        StateConflict: The job is not in ``before`` any more, the move is not legal, or no later
            revision exists that could supersede the job.
    """
    if not may_follow(before, after):
        raise StateConflict(f"job {job_id} cannot go from {before} to {after}")
    if after is JobState.SUPERSEDED and not is_overtaken(tx, job_id):
        raise StateConflict(f"no later revision supersedes job {job_id}")
    changed = tx.execute(
        "UPDATE jobs SET state = ?, since = ?, message = ?, reason = ?, due_at = NULL"
        " WHERE id = ? AND state = ?",
        (after, at, message, reason, job_id, before),
    ).rowcount
    if not changed:
        raise StateConflict(f"job {job_id} is not {before} any more")
    add_event(tx, job_id, before, after, at=at, message=message)


def is_overtaken(tx: sqlite3.Connection, job_id: int) -> bool:
    """Return whether the series of a job has a later revision."""
    newer = tx.execute(
        "SELECT 1 FROM jobs mine JOIN jobs newer ON newer.series_uid = mine.series_uid"
        " AND newer.revision > mine.revision WHERE mine.id = ? LIMIT 1",
        (job_id,),
    ).fetchone()
    return newer is not None


def state_without_result(
    tx: sqlite3.Connection, job: Job, state: JobState, *, at: datetime
) -> JobState:
    """Return the state of a job that ends without a result: ``state``, unless it has only a part.

    No verdict on a part is reported: a later revision takes over, or a job that is held goes on
    receiving.
    """
    if is_overtaken(tx, job.id):
        return JobState.SUPERSEDED
    return JobState.RECEIVING if job.is_held(at) else state


def open_revision(
    tx: sqlite3.Connection,
    *,
    series_uid: str,
    study_uid: str,
    revision: int,
    calling_ae: str,
    at: str,
    message: str,
    accession_key: str = "",
) -> None:
    """Insert a job in RECEIVING for a revision of a series.

    Without ``accession_key`` the job gets that of an earlier revision.
    """
    state = JobState.RECEIVING
    job_id = tx.execute(
        "INSERT INTO jobs (id, series_uid, study_uid, calling_ae, revision, state, since,"
        " created_at, accession_key) VALUES (1 + max(coalesce((SELECT max(id) FROM jobs), 0),"
        "  coalesce((SELECT CAST(value AS INTEGER) FROM node WHERE name = ?), 0)),"
        " ?, ?, ?, ?, ?, ?, ?, coalesce(nullif(?, ''),"
        "  (SELECT max(accession_key) FROM jobs WHERE series_uid = ?), ''))",
        (
            NUMBERS_TAKEN,
            series_uid,
            study_uid,
            calling_ae,
            revision,
            state,
            at,
            at,
            accession_key,
            series_uid,
        ),
    ).lastrowid
    add_event(tx, job_id, None, state, at=at, message=message)
