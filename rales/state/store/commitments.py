"""Storage commitment: the requests to destinations, and their answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from chestct.results import CommitmentReport
from chestct.states import DeliveryState
from chestct.uids import Uid
from rales.state.store.database import Database, time_or_none, to_text
from rales.state.store.deliveries import Delivery, delivery_of, key_of, record_attempt
from rales.state.store.outbox import Attempt


class CommitmentStore:
    """Queries and guarded changes of deliveries that wait for a commitment.

    Such a delivery is STORED. Its ``due_at`` is the time to request the commitment or, once a
    request is open (``transaction_uid``), the time at which the answer is overdue.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, destination: str, *, at: datetime | None) -> list[Delivery]:
        """Return the deliveries that need a request, and those whose answer is overdue.

        With ``at`` None, return every delivery that waits.
        """
        rows = self._database.rows(
            "SELECT * FROM waiting_commitments WHERE destination = ?"
            " AND due_at <= coalesce(?, due_at) ORDER BY number",
            (destination, to_text(at) if at else None),
        )
        return [delivery_of(row) for row in rows]

    def next_due(self, destination: str) -> datetime | None:
        """Return when the next of these deliveries is due."""
        row = self._database.rows(
            "SELECT min(due_at) FROM waiting_commitments WHERE destination = ?", (destination,)
        )[0]
        return time_or_none(row[0])

    def request(
        self, deliveries: Sequence[Delivery], transaction_uid: Uid, *, at: datetime, until: datetime
    ) -> None:
        """Record a request before it is sent: the report may arrive before the response."""
        with self._database.transaction() as tx:
            for delivery in deliveries:
                changed = tx.execute(
                    "UPDATE deliveries SET transaction_uid = ?, due_at = ?, message = ?"
                    " WHERE job_id = ? AND role = ? AND destination = ? AND state = ?",
                    (
                        transaction_uid,
                        to_text(until),
                        "stored; commitment requested",
                        *key_of(delivery),
                        DeliveryState.STORED,
                    ),
                ).rowcount
                if changed:
                    tx.execute(
                        "INSERT INTO commitments (transaction_uid, sop_instance_uid, job_id, role,"
                        " destination, requested_at) VALUES (?, ?, ?, ?, ?, ?)",
                        (
                            transaction_uid,
                            delivery.sop_instance_uid,
                            *key_of(delivery),
                            to_text(at),
                        ),
                    )

    def record(self, delivery: Delivery, attempt: Attempt) -> None:
        """Record a failed request, an answer that is overdue, or the end of the wait."""
        with self._database.transaction() as tx:
            record_attempt(tx, delivery, attempt)

    def report(
        self, report: CommitmentReport, *, at: datetime
    ) -> list[tuple[Delivery, int]] | None:
        """Record a report: committed objects are delivered.

        A commitment counts however late it arrives, even if the object is to be sent again. A
        failure counts only for the open request.

        Returns:
            The failed deliveries of the open request, each with its Failure Reason; None when
            this node never made a request with this Transaction UID.

        Raises:
            OutOfResources: The report cannot be recorded now.
        """
        now = to_text(at)
        with self._database.transaction() as tx:
            requested = {
                row["sop_instance_uid"]: row
                for row in tx.execute(
                    "SELECT * FROM commitments WHERE transaction_uid = ?",
                    (report.transaction_uid,),
                )
            }
            if not requested:
                return None
            for uid in report.committed & requested.keys():
                _commit(tx, requested[uid], now)
            failed = []
            for uid in report.failed.keys() & requested.keys():
                waiting = _fail(tx, requested[uid], report.failed[uid], now)
                failed += [(delivery_of(row), report.failed[uid]) for row in waiting]
        return failed


def _commit(tx: sqlite3.Connection, request: sqlite3.Row, now: str) -> None:
    _answer(tx, request, None, now)
    tx.execute(
        "UPDATE deliveries SET state = ?, settled_at = ?, message = ?"
        " WHERE job_id = ? AND role = ? AND destination = ?"
        " AND sop_instance_uid = ? AND state IN (?, ?)",
        (
            DeliveryState.DELIVERED,
            now,
            "stored and committed",
            request["job_id"],
            request["role"],
            request["destination"],
            request["sop_instance_uid"],
            DeliveryState.STORED,
            DeliveryState.PENDING,
        ),
    )


def _fail(tx: sqlite3.Connection, request: sqlite3.Row, reason: int, now: str) -> list[sqlite3.Row]:
    _answer(tx, request, reason, now)
    return tx.execute(
        "SELECT * FROM deliveries"
        " WHERE job_id = ? AND role = ? AND destination = ?"
        " AND state = ? AND transaction_uid = ?",
        (
            request["job_id"],
            request["role"],
            request["destination"],
            DeliveryState.STORED,
            request["transaction_uid"],
        ),
    ).fetchall()


def _answer(tx: sqlite3.Connection, request: sqlite3.Row, reason: int | None, now: str) -> None:
    tx.execute(
        "UPDATE commitments SET answered_at = ?, failure_reason = ?"
        " WHERE transaction_uid = ? AND sop_instance_uid = ?",
        (now, reason, request["transaction_uid"], request["sop_instance_uid"]),
    )
