"""The outbox: one message to one target about the end of one job.

The trigger ``notify_of_end`` inserts the messages in the transaction that ends the job.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from chestct.states import DeliveryState, JobState
from rales.state.store.database import Database, from_text, to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One row of ``notifications``, as it was when it was read.

    ``event``, ``reason`` and ``why`` are state, reason and message of the job when it ended;
    ``message`` is what became of the last attempt.
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
    """Queries and changes of the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_targets(self, wanted: Mapping[str, Collection[JobState]], *, at: datetime) -> int:
        """Say who is told of what from now on; return how many waiting messages that ends.

        A message to a target that is not configured any more is withdrawn.
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
        """Return what is due at ``target``, oldest first.

        What an earlier message about the same series still waits before is not: a target
        never hears of the second end of a series before the first.
        """
        rows = self._database.rows(
            "SELECT * FROM waiting_notifications WHERE target = ? AND due_at <= ? ORDER BY id",
            (target, to_text(at)),
        )
        return [_notification(row) for row in rows]

    def overtaken(self, one: Notification) -> bool:
        """Tell whether the same end of a newer revision was to be told before.

        An earlier revision that a destination had kept waiting may end after the newer one.
        """
        rows = self._database.rows(
            "SELECT 1 FROM notifications e JOIN jobs newer ON newer.id = e.job_id"
            " JOIN jobs mine ON mine.id = ? AND mine.series_uid = newer.series_uid"
            " WHERE newer.revision > mine.revision AND e.target = ? AND e.event = ?"
            " AND e.id < ? LIMIT 1",
            (one.job_id, one.target, one.event, one.id),
        )
        return bool(rows)

    def next_due(self, target: str) -> datetime | None:
        """Return when the next message that :meth:`due` would return is due."""
        row = self._database.rows(
            "SELECT min(due_at) FROM waiting_notifications WHERE target = ?", (target,)
        )[0]
        return from_text(row[0]) if row[0] else None

    def settle(
        self,
        one: Notification,
        state: DeliveryState,
        *,
        status: int | None,
        message: str,
        at: datetime,
    ) -> None:
        """Record a final outcome."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE notifications SET state = ?, attempts = attempts + 1, settled_at = ?,"
                " status = ?, message = ? WHERE id = ? AND state = ?",
                (state, to_text(at), status, message, one.id, DeliveryState.PENDING),
            )

    def postpone(
        self, one: Notification, *, due_at: datetime, status: int | None, message: str
    ) -> None:
        """Record a failed attempt that will be repeated."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE notifications SET attempts = attempts + 1, due_at = ?, status = ?,"
                " message = ? WHERE id = ? AND state = ?",
                (to_text(due_at), status, message, one.id, DeliveryState.PENDING),
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
        settled_at=from_text(row["settled_at"]) if row["settled_at"] else None,
        status=row["status"],
        message=row["message"],
    )
