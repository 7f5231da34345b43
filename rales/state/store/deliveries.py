"""Deliveries: one result object to one destination."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chestct.states import DeliveryState, JobState
from chestct.uids import Uid
from rales.state.store.database import Database, from_text, time_or_none, to_text
from rales.state.store.endings import finish_jobs
from rales.state.store.job import Job
from rales.state.store.outbox import Attempt
from rales.state.store.transitions import add_event, change_state

Planned = Mapping[str, Sequence[tuple[str, Uid]]]
"""For each destination, the (role, SOP Instance UID) of its result objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One row of ``deliveries`` at the time it was read.

    Attributes:
        transaction_uid: The storage commitment request that a STORED delivery waits for.
        sent: The number of requests after which the destination may have the object.
    """

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
    sent: int


class DeliveryStore:
    """Queries and guarded changes of deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, job: Job, *, planned: Planned, at: datetime) -> None:
        """Plan the deliveries of a composed job; leave existing deliveries as they are.

        A retried job has deliveries already.

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
            _plan(tx, job.id, planned, now)

    def of_job(self, job_id: int) -> list[Delivery]:
        """Return the deliveries of a job, in sending order."""
        rows = self._database.rows(
            "SELECT * FROM deliveries WHERE job_id = ? ORDER BY rowid", (job_id,)
        )
        return [delivery_of(row) for row in rows]

    def due(self, destination: str, *, at: datetime) -> list[Delivery]:
        """Return the deliveries to ``destination`` that are due, in sending order."""
        rows = self._database.rows(
            "SELECT * FROM waiting_deliveries WHERE destination = ? AND due_at <= ?"
            " ORDER BY number",
            (destination, to_text(at)),
        )
        return [delivery_of(row) for row in rows]

    def next_due(self, destination: str) -> datetime | None:
        """Return when the next delivery to ``destination`` is due."""
        row = self._database.rows(
            "SELECT min(due_at) FROM waiting_deliveries WHERE destination = ?", (destination,)
        )[0]
        return time_or_none(row[0])

    def may_send(self, group: Sequence[Delivery], *, at: datetime) -> bool:
        """Record that ``group`` (one job, one destination) goes out now; False: do not send it.

        A group is not sent when a newer revision has begun and the destination has nothing of
        this revision yet: the destination would end up with two results. The group is withdrawn
        then. A destination that may already have a part of this revision gets the rest, and the
        newer revision names this one as its predecessor.
        """
        now, first = to_text(at), group[0]
        with self._database.transaction() as tx:
            if _withdraw_overtaken(tx, now, only=(first.job_id, first.destination)):
                return False
            tx.executemany(
                "UPDATE deliveries SET sent = sent + 1"
                " WHERE job_id = ? AND role = ? AND destination = ?",
                [key_of(delivery) for delivery in group],
            )
        return True

    def withdraw_superseded(self, *, at: datetime) -> int:
        """Withdraw every delivery that :meth:`may_send` would withdraw; return how many."""
        if not self._database.rows(f"SELECT 1 FROM deliveries WHERE {_OVERTAKEN} LIMIT 1"):  # noqa: S608 - own text
            return 0  # checked every second: no write transaction that a C-STORE would wait for
        with self._database.transaction() as tx:
            return _withdraw_overtaken(tx, to_text(at))

    def withdraw_unconfigured(self, configured: Collection[str], *, at: datetime) -> list[Delivery]:
        """Withdraw and return the open deliveries to destinations that are not ``configured``."""
        elsewhere = (
            "SELECT deliveries.* FROM deliveries JOIN jobs ON jobs.id = job_id"
            " WHERE deliveries.state IN ('pending', 'stored') AND jobs.state = 'delivering'"
            " AND destination NOT IN (SELECT value FROM json_each(?)) ORDER BY deliveries.rowid"
        )
        names = json.dumps(sorted(configured))
        if not self._database.rows(elsewhere, (names,)):
            return []
        with self._database.transaction() as tx:
            withdrawn = [delivery_of(row) for row in tx.execute(elsewhere, (names,))]
            for delivery in withdrawn:
                _withdraw_unconfigured(tx, delivery, to_text(at))
        return withdrawn

    def record(
        self,
        delivery: Delivery,
        attempt: Attempt,
        *,
        stored_nothing: bool = False,
        instead: Sequence[tuple[str, Uid]] = (),
    ) -> None:
        """Record an attempt at a pending delivery; plan the objects ``instead`` with it.

        With ``stored_nothing`` the attempt that :meth:`may_send` recorded is known to have left
        nothing at the destination. An earlier attempt without an answer may have.
        """
        with self._database.transaction() as tx:
            _plan(tx, delivery.job_id, {delivery.destination: instead}, to_text(attempt.at))
            if record_attempt(tx, delivery, attempt) and stored_nothing:
                tx.execute(
                    "UPDATE deliveries SET sent = max(sent - 1, 0)"
                    " WHERE job_id = ? AND role = ? AND destination = ?",
                    key_of(delivery),
                )

    def finish_jobs(self, *, at: datetime) -> list[int]:
        """End every delivering job without open deliveries; return the job numbers."""
        return finish_jobs(self._database, at=at)


def _plan(tx: sqlite3.Connection, job_id: int, planned: Planned, now: str) -> None:
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


def record_attempt(tx: sqlite3.Connection, delivery: Delivery, attempt: Attempt) -> bool:
    """Record an attempt, unless the delivery has changed since it was read; return whether it was.

    The delivery waits for no storage commitment request afterwards.
    """
    return bool(
        tx.execute(
            "UPDATE deliveries SET state = ?, attempts = attempts + ?, settled_at = ?,"
            " due_at = coalesce(?, due_at), status = ?, message = ?, transaction_uid = NULL"
            " WHERE job_id = ? AND role = ? AND destination = ?"
            " AND state = ? AND transaction_uid IS ?",
            (
                *attempt.values,
                *key_of(delivery),
                delivery.state,
                delivery.transaction_uid,
            ),
        ).rowcount
    )


_OVERTAKEN = (
    # The "+" keeps the planner from the index on states, where most rows are "delivered".
    "+state = 'pending' AND job_id IN"
    " (SELECT id FROM jobs INDEXED BY jobs_overtaken WHERE state = 'delivering' AND overtaken = 1)"
    " AND NOT EXISTS (SELECT 1 FROM deliveries AS other"
    "  WHERE other.job_id = deliveries.job_id AND other.destination = deliveries.destination"
    "  AND (other.sent > 0 OR other.state IN ('stored', 'delivered')))"
)
"""Pending deliveries of a superseded job to destinations that have nothing of this job."""


def _withdraw_overtaken(
    tx: sqlite3.Connection, now: str, *, only: tuple[int, str] | None = None
) -> int:
    """Withdraw the deliveries that are :data:`_OVERTAKEN`; ``only`` those of (job, destination)."""
    sql = (
        "UPDATE deliveries SET state = 'withdrawn', settled_at = ?,"  # noqa: S608 - own text
        f" message = 'a newer revision took over' WHERE {_OVERTAKEN}"
    )
    if only is None:
        return tx.execute(sql, (now,)).rowcount
    return tx.execute(f"{sql} AND job_id = ? AND destination = ?", (now, *only)).rowcount


def _withdraw_unconfigured(tx: sqlite3.Connection, delivery: Delivery, now: str) -> None:
    message = f"no destination {delivery.destination!r} is configured any more"
    tx.execute(
        "UPDATE deliveries SET state = ?, settled_at = ?, message = ?"
        " WHERE job_id = ? AND role = ? AND destination = ?",
        (DeliveryState.WITHDRAWN, now, message, *key_of(delivery)),
    )
    add_event(
        tx,
        delivery.job_id,
        JobState.DELIVERING,
        JobState.DELIVERING,
        at=now,
        message=f"the {delivery.role} is withdrawn: {message}",
    )


def key_of(delivery: Delivery) -> tuple[int, str, str]:
    """Return the primary key of a delivery."""
    return delivery.job_id, delivery.role, delivery.destination


def delivery_of(row: sqlite3.Row) -> Delivery:
    """Return a row of ``deliveries`` as a :class:`Delivery`."""
    return Delivery(
        job_id=row["job_id"],
        role=row["role"],
        destination=row["destination"],
        sop_instance_uid=Uid(row["sop_instance_uid"]),
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        created_at=from_text(row["created_at"]),
        due_at=from_text(row["due_at"]),
        settled_at=time_or_none(row["settled_at"]),
        status=row["status"],
        message=row["message"],
        transaction_uid=Uid(row["transaction_uid"]) if row["transaction_uid"] else None,
        sent=row["sent"],
    )
