"""Deliveries: one object at one destination."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chestct.states import DeliveryState, JobState
from chestct.uids import Uid
from rales.store.database import Database, from_text, to_text
from rales.store.jobs import Job, change_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One row of ``deliveries``, as it was when it was read."""

    job_id: int
    role: str
    destination: str
    sop_instance_uid: Uid
    state: DeliveryState
    attempts: int
    created_at: datetime
    due_at: datetime
    settled_at: datetime | None
    status: int | None
    message: str
    transaction_uid: Uid | None
    """While STORED: the storage commitment request that is waited for."""


class DeliveryStore:
    """Queries and changes of deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        job: Job,
        *,
        objects: Sequence[tuple[str, Uid]],
        destinations: Sequence[str],
        at: datetime,
    ) -> None:
        """Plan the delivery of each (role, SOP Instance UID) to each destination.

        Raises:
            StateConflict: The job is not COMPOSED any more.
        """
        now = to_text(at)
        with self._database.transaction() as tx:
            change_state(
                tx,
                job.id,
                JobState.COMPOSED,
                JobState.DELIVERING,
                at=now,
                message=f"{len(objects)} objects to {len(destinations)} destinations",
            )
            tx.executemany(
                "INSERT INTO deliveries"
                " (job_id, role, destination, sop_instance_uid, state, created_at, due_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (job.id, role, destination, uid, DeliveryState.PENDING, now, now)
                    for destination in destinations
                    for role, uid in objects
                ],
            )

    def of_job(self, job_id: int) -> list[Delivery]:
        """Return the deliveries of a job, in the order in which they are sent."""
        rows = self._database.rows(
            "SELECT * FROM deliveries WHERE job_id = ? ORDER BY rowid", (job_id,)
        )
        return [delivery_of(row) for row in rows]

    def due(self, *, at: datetime) -> list[Delivery]:
        """Return the pending deliveries whose time has come."""
        rows = self._database.rows(
            "SELECT deliveries.* FROM deliveries JOIN jobs ON jobs.id = job_id"
            " WHERE deliveries.state = ? AND deliveries.due_at <= ? AND jobs.state = ?"
            " ORDER BY deliveries.rowid",
            (DeliveryState.PENDING, to_text(at), JobState.DELIVERING),
        )
        return [delivery_of(row) for row in rows]

    def next_due(self) -> datetime | None:
        """Return when the next pending delivery is due."""
        row = self._database.rows(
            "SELECT min(deliveries.due_at) FROM deliveries JOIN jobs ON jobs.id = job_id"
            " WHERE deliveries.state = ? AND jobs.state = ?",
            (DeliveryState.PENDING, JobState.DELIVERING),
        )[0]
        return from_text(row[0]) if row[0] else None

    def settle(
        self,
        delivery: Delivery,
        state: DeliveryState,
        *,
        status: int | None,
        message: str,
        at: datetime,
    ) -> None:
        """Record a final outcome."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE deliveries SET state = ?, attempts = attempts + 1, settled_at = ?,"
                " status = ?, message = ?"
                " WHERE job_id = ? AND role = ? AND destination = ? AND state = ?",
                (
                    state,
                    to_text(at),
                    status,
                    message,
                    delivery.job_id,
                    delivery.role,
                    delivery.destination,
                    DeliveryState.PENDING,
                ),
            )

    def stored(self, delivery: Delivery, *, status: int | None, message: str, at: datetime) -> None:
        """Record that the destination took an object and is to commit to it now."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE deliveries SET state = ?, attempts = attempts + 1, due_at = ?,"
                " transaction_uid = NULL, status = ?, message = ?"
                " WHERE job_id = ? AND role = ? AND destination = ? AND state = ?",
                (
                    DeliveryState.STORED,
                    to_text(at),
                    status,
                    message,
                    delivery.job_id,
                    delivery.role,
                    delivery.destination,
                    DeliveryState.PENDING,
                ),
            )

    def postpone(
        self, delivery: Delivery, *, due_at: datetime, status: int | None, message: str
    ) -> None:
        """Record a failed attempt that will be repeated."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE deliveries SET attempts = attempts + 1, due_at = ?, status = ?, message = ?"
                " WHERE job_id = ? AND role = ? AND destination = ? AND state = ?",
                (
                    to_text(due_at),
                    status,
                    message,
                    delivery.job_id,
                    delivery.role,
                    delivery.destination,
                    DeliveryState.PENDING,
                ),
            )

    def finish_jobs(self, *, at: datetime) -> list[int]:
        """Close every delivering job of which nothing is open; return their numbers."""
        now = to_text(at)
        with self._database.transaction() as tx:
            rows = tx.execute(
                "SELECT id, (SELECT count(*) FROM deliveries WHERE job_id = jobs.id"
                " AND state = ?) AS refused FROM jobs WHERE state = ? AND NOT EXISTS"
                " (SELECT 1 FROM deliveries WHERE job_id = jobs.id AND state IN (?, ?))",
                (
                    DeliveryState.REFUSED,
                    JobState.DELIVERING,
                    DeliveryState.PENDING,
                    DeliveryState.STORED,
                ),
            ).fetchall()
            for row in rows:
                _finish(tx, row["id"], row["refused"], now)
        return [row["id"] for row in rows]


def _finish(tx: sqlite3.Connection, job_id: int, refused: int, at: str) -> None:
    """Close one job: DONE when everything was taken, FAILED when something was refused."""
    if refused:
        worst = tx.execute(
            "SELECT destination, role, message FROM deliveries WHERE job_id = ? AND state = ?",
            (job_id, DeliveryState.REFUSED),
        ).fetchone()
        change_state(
            tx,
            job_id,
            JobState.DELIVERING,
            JobState.FAILED,
            at=at,
            reason="delivery-refused",
            message=f"{worst['destination']} refused the {worst['role']}: {worst['message']}",
        )
        return
    planned = tx.execute("SELECT 1 FROM deliveries WHERE job_id = ? LIMIT 1", (job_id,)).fetchone()
    message = "everything delivered" if planned else "no destination is configured"
    change_state(tx, job_id, JobState.DELIVERING, JobState.DONE, at=at, message=message)


def delivery_of(row: sqlite3.Row) -> Delivery:
    """Return one row of ``deliveries`` as a record."""
    return Delivery(
        job_id=row["job_id"],
        role=row["role"],
        destination=row["destination"],
        sop_instance_uid=Uid(row["sop_instance_uid"]),
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        created_at=from_text(row["created_at"]),
        due_at=from_text(row["due_at"]),
        settled_at=from_text(row["settled_at"]) if row["settled_at"] else None,
        status=row["status"],
        message=row["message"],
        transaction_uid=Uid(row["transaction_uid"]) if row["transaction_uid"] else None,
    )
