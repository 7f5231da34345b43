"""The end of a delivering job: when nothing of it is pending or waits for a commitment."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from chestct.states import DeliveryState, JobState
from rales.state.store.database import Database, to_text
from rales.state.store.transitions import change_state, is_overtaken

_ENDED = "FROM jobs INDEXED BY jobs_to_finish WHERE state = 'delivering' AND open_deliveries = 0"


def finish_jobs(database: Database, *, at: datetime) -> list[int]:
    """End every delivering job without open deliveries; return the job numbers."""
    if not database.rows(f"SELECT 1 {_ENDED} LIMIT 1"):
        return []  # checked every second: no write transaction that a C-STORE would wait for
    with database.transaction() as tx:
        rows = tx.execute(f"SELECT id {_ENDED}").fetchall()
        for row in rows:
            _finish(tx, row["id"], to_text(at))
    return [row["id"] for row in rows]


def _finish(tx: sqlite3.Connection, job_id: int, at: str) -> None:
    """End one job without open deliveries.

    DONE: every destination took everything. FAILED: a destination refused an object, or every
    destination was removed from the configuration. SUPERSEDED: a newer revision began before
    anything was sent.
    """
    rows = tx.execute("SELECT DISTINCT state FROM deliveries WHERE job_id = ?", (job_id,))
    states = {row["state"] for row in rows}
    after, reason, message = JobState.DONE, "", "everything delivered"
    if DeliveryState.REFUSED in states:
        after, reason, message = JobState.FAILED, "delivery-refused", _refusals(tx, job_id)
    elif not states:
        message = "no destination is configured"
    elif DeliveryState.WITHDRAWN in states and is_overtaken(tx, job_id):
        message = "delivered, except the objects that a newer revision replaces"
        if states == {DeliveryState.WITHDRAWN}:
            after = JobState.SUPERSEDED
            message = "a newer revision took over before anything was sent"
    elif states == {DeliveryState.WITHDRAWN}:
        after, reason = JobState.FAILED, "destination-removed"
        message = (
            f"not delivered: {_withdrawals(tx, job_id)}; `rales retry` sends the results to the"
            " destinations that are configured now"
        )
    elif DeliveryState.WITHDRAWN in states:
        message = f"delivered, except the withdrawn objects: {_withdrawals(tx, job_id)}"
    elif DeliveryState.REPLACED in states:
        message = "delivered; a destination that refused the SEG got its configured fallback"
    change_state(tx, job_id, JobState.DELIVERING, after, at=at, reason=reason, message=message)


def _withdrawals(tx: sqlite3.Connection, job_id: int) -> str:
    rows = tx.execute(
        "SELECT DISTINCT message FROM deliveries WHERE job_id = ? AND +state = ? ORDER BY rowid",
        (job_id, DeliveryState.WITHDRAWN),
    ).fetchall()
    return "; ".join(row[0] for row in rows)


def _refusals(tx: sqlite3.Connection, job_id: int) -> str:
    """Return which destination refused or did not get which object, and why."""
    rows = tx.execute(
        "SELECT destination, role, message, status FROM deliveries WHERE job_id = ? AND +state = ?"
        " ORDER BY rowid",
        (job_id, DeliveryState.REFUSED),
    ).fetchall()
    return "; ".join(
        f"{row['destination']} {'did not get' if row['status'] is None else 'refused'}"
        f" the {row['role']}: {row['message']}"
        for row in rows
    )
