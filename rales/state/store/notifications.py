"""Notifications: one message to one target about the end of one job.

The trigger ``notify_of_end`` inserts the messages in the transaction that ends the job.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from chestct.states import DeliveryState, JobState
from rales.state.store.database import Database, from_text, time_or_none, to_text
from rales.state.store.outbox import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One row of ``notifications`` at the time it was read.

    ``event``, ``reason`` and ``why`` are the state, reason and message of the job when it ended;
    ``message`` is the result of the last attempt.
    """

    id: int
    message_id: uuid.UUID
    job_id: int
    target: str
    event: JobState
    occurred_at: datetime
    reason: str
    why: str
    state: DeliveryState
    attempts: int
    due_at: datetime
    settled_at: datetime | None
    status: int | None
    message: str


class NotificationStore:
    """Queries and guarded changes of notifications."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_targets(self, wanted: Mapping[str, Collection[JobState]], *, at: datetime) -> int:
        """Set the targets and the job states that each wants to hear of from now on.

        Withdraw the pending messages to targets that are not configured any more, and return
        their number.
        """
        with self._database.transaction() as tx:
            tx.execute("DELETE FROM notification_targets")
            tx.executemany(
                "INSERT INTO notification_targets (name, event) VALUES (?, ?)",
                [(name, event) for name, events in wanted.items() for event in events],
            )
            return tx.execute(
                "UPDATE notifications SET state = ?, settled_at = ?,"
                " message = 'no notification of this name is configured any more'"
                " WHERE state = ? AND target NOT IN (SELECT name FROM notification_targets)",
                (DeliveryState.WITHDRAWN, to_text(at), DeliveryState.PENDING),
            ).rowcount

    def of_job(self, job_id: int) -> list[Notification]:
        """Return the messages about a job, oldest first."""
        rows = self._database.rows(
            "SELECT * FROM notifications WHERE job_id = ? ORDER BY id", (job_id,)
        )
        return [_notification(row) for row in rows]

    def due(self, target: str, *, at: datetime) -> list[Notification]:
        """Return the messages to ``target`` that are due, oldest first.

        A message waits for earlier messages about the same series: a target never hears of the
        second end of a series before the first.
        """
        rows = self._database.rows(
            "SELECT * FROM waiting_notifications WHERE target = ? AND due_at <= ? ORDER BY id",
            (target, to_text(at)),
        )
        return [_notification(row) for row in rows]

    def is_overtaken(self, notification: Notification) -> bool:
        """Return whether the target was to hear of the same end of a newer revision before.

        A revision that waited for a destination may end after the newer one.
        """
        rows = self._database.rows(
            "SELECT 1 FROM notifications e JOIN jobs newer ON newer.id = e.job_id"
            " JOIN jobs mine ON mine.id = ? AND mine.series_uid = newer.series_uid"
            " WHERE newer.revision > mine.revision AND e.target = ? AND e.event = ?"
            " AND e.id < ? LIMIT 1",
            (notification.job_id, notification.target, notification.event, notification.id),
        )
        return bool(rows)

    def next_due(self, target: str) -> datetime | None:
        """Return when the next message to ``target`` is due."""
        row = self._database.rows(
            "SELECT min(due_at) FROM waiting_notifications WHERE target = ?", (target,)
        )[0]
        return time_or_none(row[0])

    def record(self, notification: Notification, attempt: Attempt) -> None:
        """Record an attempt at a pending notification."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE notifications SET state = ?, attempts = attempts + ?, settled_at = ?,"
                " due_at = coalesce(?, due_at), status = ?, message = ? WHERE id = ? AND state = ?",
                (
                    *attempt.values,
                    notification.id,
                    DeliveryState.PENDING,
                ),
            )


def _notification(row: sqlite3.Row) -> Notification:
    return Notification(
        id=row["id"],
        message_id=uuid.UUID(hex=row["message_id"], version=4),
        job_id=row["job_id"],
        target=row["target"],
        event=JobState(row["event"]),
        occurred_at=from_text(row["occurred_at"]),
        reason=row["reason"],
        why=row["why"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        due_at=from_text(row["due_at"]),
        settled_at=time_or_none(row["settled_at"]),
        status=row["status"],
        message=row["message"],
    )
