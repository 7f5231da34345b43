"""Deliveries: one object at one destination."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chestct.states import DeliveryState, JobState
from chestct.uids import Uid
from rales.state.store.database import Database, from_text, to_text
from rales.state.store.jobs import Job, add_event, change_state, is_overtaken


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
    sent: int
    """How often it went out and may be at the destination since."""


class DeliveryStore:
    """Queries and changes of deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        job: Job,
        *,
        planned: Mapping[str, Sequence[tuple[str, Uid]]],
        at: datetime,
    ) -> None:
        """Plan the delivery of each (role, SOP Instance UID), by the name of the destination.

        What is planned already, of a job that was retried, stays as it is.

        Raises:
            StateConflict: The job is not COMPOSED any more.
        """
        now = to_text(at)
        count = sum(len(objects) for objects in planned.values())
        with self._database.transaction() as tx:
            change_state(
                tx,
                job.id,
                JobState.COMPOSED,
                JobState.DELIVERING,
                at=now,
                message=f"{count} deliveries to {len(planned)} destinations",
            )
            self._plan(tx, job.id, planned, now)

    @staticmethod
    def _plan(
        tx: sqlite3.Connection,
        job_id: int,
        planned: Mapping[str, Sequence[tuple[str, Uid]]],
        now: str,
    ) -> None:
        tx.executemany(
            "INSERT OR IGNORE INTO deliveries"
            " (job_id, role, destination, sop_instance_uid, state, created_at, due_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (job_id, role, destination, uid, DeliveryState.PENDING, now, now)
                for destination, objects in planned.items()
                for role, uid in objects
            ],
        )

    def of_job(self, job_id: int) -> list[Delivery]:
        """Return the deliveries of a job, in the order in which they are sent."""
        rows = self._database.rows(
            "SELECT * FROM deliveries WHERE job_id = ? ORDER BY rowid", (job_id,)
        )
        return [delivery_of(row) for row in rows]

    def due(self, *, at: datetime, destination: str | None = None) -> list[Delivery]:
        """Return the pending deliveries whose time has come, everywhere or at one place."""
        rows = self._database.rows(
            "SELECT * FROM waiting_deliveries WHERE due_at <= ?"
            " AND destination = coalesce(?, destination) ORDER BY number",
            (to_text(at), destination),
        )
        return [delivery_of(row) for row in rows]

    def next_due(self, *, destination: str | None = None) -> datetime | None:
        """Return when the next pending delivery is due, everywhere or at one place."""
        row = self._database.rows(
            "SELECT min(due_at) FROM waiting_deliveries"
            " WHERE destination = coalesce(?, destination)",
            (destination,),
        )[0]
        return from_text(row[0]) if row[0] else None

    def may_send(self, group: Sequence[Delivery], *, at: datetime) -> bool:
        """Note that ``group``, of one job and destination, goes out now; False: it must not.

        It must not when a newer revision has begun of which nothing says that it follows this
        one: the destination would be left with two results. What was never sent is withdrawn
        then. Whatever may be at the destination already is completed, and the newer
        revision names it as its predecessor.
        """
        now, first = to_text(at), group[0]
        with self._database.transaction() as tx:
            if _withdraw(tx, now, of=(first.job_id, first.destination)):
                return False
            tx.executemany(
                "UPDATE deliveries SET sent = sent + 1"
                " WHERE job_id = ? AND role = ? AND destination = ?",
                [(one.job_id, one.role, one.destination) for one in group],
            )
        return True

    def withdraw_superseded(self, *, at: datetime) -> int:
        """Withdraw whatever :meth:`may_send` would; return how many objects."""
        if not self._database.rows(f"SELECT 1 FROM deliveries WHERE {_OVERTAKEN} LIMIT 1"):  # noqa: S608 - own text
            return 0  # every second, and a C-STORE must not wait for it
        with self._database.transaction() as tx:
            return _withdraw(tx, to_text(at))

    def withdraw_unconfigured(self, configured: Collection[str], *, at: datetime) -> list[Delivery]:
        """Withdraw what waits for destinations that are none of ``configured``; return it."""
        elsewhere = (
            "SELECT deliveries.* FROM deliveries JOIN jobs ON jobs.id = job_id"
            " WHERE deliveries.state IN ('pending', 'stored') AND jobs.state = 'delivering'"
            " AND destination NOT IN (SELECT value FROM json_each(?)) ORDER BY deliveries.rowid"
        )
        names, now = json.dumps(sorted(configured)), to_text(at)
        if not self._database.rows(elsewhere, (names,)):
            return []
        with self._database.transaction() as tx:
            gone = [delivery_of(row) for row in tx.execute(elsewhere, (names,))]
            for one in gone:
                message = f"no destination {one.destination!r} is configured any more"
                tx.execute(
                    "UPDATE deliveries SET state = ?, settled_at = ?, message = ?"
                    " WHERE job_id = ? AND role = ? AND destination = ?",
                    (
                        DeliveryState.WITHDRAWN,
                        now,
                        message,
                        one.job_id,
                        one.role,
                        one.destination,
                    ),
                )
                add_event(
                    tx,
                    one.job_id,
                    JobState.DELIVERING,
                    JobState.DELIVERING,
                    at=now,
                    message=f"the {one.role} is withdrawn: {message}",
                )
        return gone

    def settle(
        self,
        delivery: Delivery,
        state: DeliveryState,
        *,
        status: int | None,
        message: str,
        at: datetime,
        instead: Sequence[tuple[str, Uid]] = (),
    ) -> None:
        """Record a final outcome; plan each (role, SOP Instance UID) of ``instead`` with it.

        What is planned there already stays as it is.
        """
        with self._database.transaction() as tx:
            self._plan(tx, delivery.job_id, {delivery.destination: instead}, to_text(at))
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
        self,
        delivery: Delivery,
        *,
        due_at: datetime,
        status: int | None,
        message: str,
        may_be_there: bool = True,
    ) -> None:
        """Record a failed attempt that will be repeated.

        ``may_be_there`` is False when it is known that this attempt, which :meth:`may_send`
        noted, stored nothing. An earlier attempt that was never answered may have.
        """
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE deliveries SET attempts = attempts + 1, due_at = ?, status = ?,"
                " message = ?, sent = max(sent - ?, 0)"
                " WHERE job_id = ? AND role = ? AND destination = ? AND state = ?",
                (
                    to_text(due_at),
                    status,
                    message,
                    int(not may_be_there),
                    delivery.job_id,
                    delivery.role,
                    delivery.destination,
                    DeliveryState.PENDING,
                ),
            )

    def finish_jobs(self, *, at: datetime) -> list[int]:
        """Close every delivering job of which nothing is open; return their numbers."""
        if not self._database.rows(f"SELECT 1 {_ENDED} LIMIT 1"):
            return []  # every second, and a C-STORE must not wait for it
        now = to_text(at)
        with self._database.transaction() as tx:
            rows = tx.execute(f"SELECT id {_ENDED}").fetchall()
            for row in rows:
                _finish(tx, row["id"], now)
        return [row["id"] for row in rows]


# A "+" keeps the planner from the index of the states: "delivered" is nearly every row.
_ENDED = "FROM jobs INDEXED BY jobs_to_finish WHERE state = 'delivering' AND open_deliveries = 0"
"""Jobs of which nothing is open any more."""

_OVERTAKEN = (
    "+state = 'pending' AND job_id IN"
    " (SELECT id FROM jobs INDEXED BY jobs_overtaken WHERE state = 'delivering' AND overtaken = 1)"
    " AND NOT EXISTS (SELECT 1 FROM deliveries AS other"
    "  WHERE other.job_id = deliveries.job_id AND other.destination = deliveries.destination"
    "  AND (other.sent > 0 OR other.state IN ('stored', 'delivered')))"
)
"""Pending objects of superseded jobs where nothing of the job may be yet."""


def _withdraw(tx: sqlite3.Connection, at: str, *, of: tuple[int, str] | None = None) -> int:
    """Withdraw what is :data:`_OVERTAKEN`, everywhere or of one job at one destination."""
    sql = (
        "UPDATE deliveries SET state = 'withdrawn', settled_at = ?,"  # noqa: S608 - own text
        f" message = 'a newer revision took over' WHERE {_OVERTAKEN}"
    )
    if of is None:
        return tx.execute(sql, (at,)).rowcount
    return tx.execute(f"{sql} AND job_id = ? AND destination = ?", (at, *of)).rowcount


def _finish(tx: sqlite3.Connection, job_id: int, at: str) -> None:
    """Close one job of which nothing is open.

    DONE when everything was taken, FAILED when something was refused or nothing had a place to
    go to any more, SUPERSEDED when a newer revision took over before anything was sent.
    """
    states = {
        row["state"]
        for row in tx.execute("SELECT DISTINCT state FROM deliveries WHERE job_id = ?", (job_id,))
    }
    after, reason, message = JobState.DONE, "", "everything delivered"
    if DeliveryState.REFUSED in states:
        after, reason, message = JobState.FAILED, "delivery-refused", _refusals(tx, job_id)
    elif not states:
        message = "no destination is configured"
    elif DeliveryState.WITHDRAWN in states and is_overtaken(tx, job_id):
        message = "delivered, but for what a newer revision took over"
        if states == {DeliveryState.WITHDRAWN}:
            after = JobState.SUPERSEDED
            message = "a newer revision took over before anything was sent"
    elif states == {DeliveryState.WITHDRAWN}:
        after, reason = JobState.FAILED, "destination-removed"
        message = (
            f"delivered nowhere: {_withdrawn(tx, job_id)}; `rales retry` sends it to those that are"
        )
    elif DeliveryState.WITHDRAWN in states:
        message = f"delivered, but for what was withdrawn: {_withdrawn(tx, job_id)}"
    elif DeliveryState.REPLACED in states:
        message = "delivered; where the SEG was refused, what is configured in its place"
    change_state(tx, job_id, JobState.DELIVERING, after, at=at, reason=reason, message=message)


def _withdrawn(tx: sqlite3.Connection, job_id: int) -> str:
    rows = tx.execute(
        "SELECT DISTINCT message FROM deliveries WHERE job_id = ? AND +state = ? ORDER BY rowid",
        (job_id, DeliveryState.WITHDRAWN),
    ).fetchall()
    return "; ".join(row[0] for row in rows)


def _refusals(tx: sqlite3.Connection, job_id: int) -> str:
    """Say what was refused, and what was given up or could not be sent."""
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
        sent=row["sent"],
    )
