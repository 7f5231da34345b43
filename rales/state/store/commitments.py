"""Storage commitment: which objects a destination was asked to keep, and what it said."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from chestct.states import DeliveryState
from chestct.uids import Uid
from rales.state.store.database import Database, from_text, to_text
from rales.state.store.deliveries import Delivery, delivery_of

if TYPE_CHECKING:  # it brings pynetdicom, which `rales status` need not wait for
    from chestct.results import CommitmentReport


class CommitmentStore:
    """Queries and guarded changes of deliveries that wait for a commitment.

    Such a delivery is STORED. Without a transaction its ``due_at`` is when the commitment
    is to be asked for; with one, when the answer is overdue.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, *, at: datetime | None, destination: str | None = None) -> list[Delivery]:
        """Return what is to be asked for, or was not answered in time; at None whatever waits."""
        rows = self._database.rows(
            "SELECT * FROM waiting_commitments WHERE due_at <= coalesce(?, due_at)"
            " AND destination = coalesce(?, destination) ORDER BY number",
            (to_text(at) if at else None, destination),
        )
        return [delivery_of(row) for row in rows]

    def next_due(self, *, destination: str | None = None) -> datetime | None:
        """Return when the next of them is due, everywhere or at one place."""
        row = self._database.rows(
            "SELECT min(due_at) FROM waiting_commitments"
            " WHERE destination = coalesce(?, destination)",
            (destination,),
        )[0]
        return from_text(row[0]) if row[0] else None

    def request(
        self, deliveries: Sequence[Delivery], transaction_uid: Uid, *, at: datetime, until: datetime
    ) -> None:
        """Record a request before it is sent: the report may come before its answer."""
        with self._database.transaction() as tx:
            for delivery in deliveries:
                changed = tx.execute(
                    "UPDATE deliveries SET transaction_uid = ?, due_at = ?, message = ?"
                    " WHERE job_id = ? AND role = ? AND destination = ? AND state = ?",
                    (
                        transaction_uid,
                        to_text(until),
                        "stored; commitment requested",
                        *_key(delivery),
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
                            *_key(delivery),
                            to_text(at),
                        ),
                    )

    def ask_again(
        self, delivery: Delivery, transaction_uid: Uid | None, *, due_at: datetime, message: str
    ) -> None:
        """Note that a request did not get through; ask again at ``due_at``."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE deliveries SET transaction_uid = NULL, attempts = attempts + 1,"
                " due_at = ?, message = ?"
                " WHERE job_id = ? AND role = ? AND destination = ?"
                " AND state = ? AND transaction_uid IS ?",
                (
                    to_text(due_at),
                    message,
                    *_key(delivery),
                    DeliveryState.STORED,
                    transaction_uid,
                ),
            )

    def send_again(self, delivery: Delivery, *, due_at: datetime, message: str) -> None:
        """Have an object that was not committed sent once more, at ``due_at``."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE deliveries SET state = ?, transaction_uid = NULL, settled_at = NULL,"
                " due_at = ?, message = ?"
                " WHERE job_id = ? AND role = ? AND destination = ?"
                " AND state = ? AND transaction_uid IS ?",
                (
                    DeliveryState.PENDING,
                    to_text(due_at),
                    message,
                    *_key(delivery),
                    DeliveryState.STORED,
                    delivery.transaction_uid,
                ),
            )

    def settle(
        self, delivery: Delivery, state: DeliveryState, *, message: str, at: datetime
    ) -> None:
        """End the waiting of one delivery."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE deliveries SET state = ?, settled_at = ?, message = ?"
                " WHERE job_id = ? AND role = ? AND destination = ?"
                " AND state = ? AND transaction_uid IS ?",
                (
                    state,
                    to_text(at),
                    message,
                    *_key(delivery),
                    DeliveryState.STORED,
                    delivery.transaction_uid,
                ),
            )

    def report(
        self, report: CommitmentReport, *, at: datetime
    ) -> list[tuple[Delivery, int]] | None:
        """Record a report: what is committed is delivered.

        A commitment counts however late it comes, also for an object that is to be sent
        again by then. A failure counts only for the request that is waited for.

        Returns:
            The deliveries that wait for this transaction and failed, with their Failure
            Reasons; None when no such transaction was asked for.

        Raises:
            OutOfResources: It cannot be recorded.
        """
        now = to_text(at)
        with self._database.transaction() as tx:
            asked = {
                row["sop_instance_uid"]: row
                for row in tx.execute(
                    "SELECT * FROM commitments WHERE transaction_uid = ?",
                    (report.transaction_uid,),
                )
            }
            if not asked:
                return None
            for uid in report.committed & asked.keys():
                _commit(tx, asked[uid], now)
            failed = []
            for uid in report.failed.keys() & asked.keys():
                waiting = _fail(tx, asked[uid], report.failed[uid], now)
                failed += [(delivery_of(row), report.failed[uid]) for row in waiting]
        return failed


def _key(delivery: Delivery) -> tuple[int, str, str]:
    return delivery.job_id, delivery.role, delivery.destination


def _commit(tx: sqlite3.Connection, asked: sqlite3.Row, now: str) -> None:
    _answer(tx, asked, None, now)
    tx.execute(
        "UPDATE deliveries SET state = ?, settled_at = ?, message = ?"
        " WHERE job_id = ? AND role = ? AND destination = ?"
        " AND sop_instance_uid = ? AND state IN (?, ?)",
        (
            DeliveryState.DELIVERED,
            now,
            "stored and committed",
            asked["job_id"],
            asked["role"],
            asked["destination"],
            asked["sop_instance_uid"],
            DeliveryState.STORED,
            DeliveryState.PENDING,
        ),
    )


def _fail(tx: sqlite3.Connection, asked: sqlite3.Row, reason: int, now: str) -> list[sqlite3.Row]:
    _answer(tx, asked, reason, now)
    return tx.execute(
        "SELECT * FROM deliveries"
        " WHERE job_id = ? AND role = ? AND destination = ?"
        " AND state = ? AND transaction_uid = ?",
        (
            asked["job_id"],
            asked["role"],
            asked["destination"],
            DeliveryState.STORED,
            asked["transaction_uid"],
        ),
    ).fetchall()


def _answer(tx: sqlite3.Connection, asked: sqlite3.Row, reason: int | None, now: str) -> None:
    tx.execute(
        "UPDATE commitments SET answered_at = ?, failure_reason = ?"
        " WHERE transaction_uid = ? AND sop_instance_uid = ?",
        (now, reason, asked["transaction_uid"], asked["sop_instance_uid"]),
    )
