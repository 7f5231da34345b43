"""The jumps of the clock, and the times in the state file that move with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta

from rales.runtime.clock import Jump
from rales.state.store.database import Database, from_text, to_text

_SEEN = "clock_seen"

_SCHEDULED = (
    ("jobs", "due_at", "state = 'ready'"),
    ("jobs", "hold_until", "state IN ('receiving', 'ready', 'analysing', 'composed')"),
    ("deliveries", "due_at", "state IN ('pending', 'stored')"),
    ("notifications", "due_at", "state = 'pending'"),
)
"""Times that an item waits for: they keep their distance from the present."""

_RECORDED = (
    (
        "instances",
        "received_at",
        "series_uid IN (SELECT series_uid FROM jobs WHERE state = 'receiving')",
    ),
    ("jobs", "association_ended_at", "state = 'receiving'"),
    ("jobs", "since", "state = 'done'"),
    ("deliveries", "created_at", "state IN ('pending', 'stored')"),
    ("notifications", "occurred_at", "state = 'pending'"),
)
"""Times that a duration counts from: a time in the future is known to be wrong."""


class ClockStore:
    """Reads and records jumps of the clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def jumps(self) -> list[Jump]:
        """Return every recorded jump."""
        rows = self._database.rows("SELECT at, seconds FROM clock_jumps ORDER BY rowid")
        return [
            Jump(at=from_text(row["at"]), skipped=timedelta(seconds=row["seconds"])) for row in rows
        ]

    def seen(self) -> datetime | None:
        """Return the last time at which the node was running."""
        rows = self._database.rows("SELECT value FROM node WHERE name = ?", (_SEEN,))
        return from_text(rows[0]["value"]) if rows else None

    def note_running(self, now: datetime) -> None:
        """Record that the node runs at ``now``."""
        with self._database.transaction() as tx:
            _note_running(tx, now)

    def record_stop(self, gap: Jump) -> None:
        """Record the gap since the node last ran: it was off, or the clock was set meanwhile.

        Items that were scheduled for the gap are due now.
        """
        with self._database.transaction() as tx:
            _insert(tx, gap)
            _note_running(tx, gap.at)
            if gap.skipped < timedelta():
                _move_schedule(tx, gap.skipped)
                _correct_records(tx, gap.at)

    def follow(self, take_over: Callable[[], Jump]) -> Jump:
        """Record the jump that ``take_over`` makes, and move the schedule with it.

        One transaction holds both: no other change of the state sees the old time with the new
        schedule, or the new time with the old schedule.
        """
        with self._database.transaction() as tx:
            jump = take_over()
            _insert(tx, jump)
            _note_running(tx, jump.at)
            _move_schedule(tx, jump.skipped)
            _correct_records(tx, jump.at)
        return jump


def _note_running(tx: sqlite3.Connection, now: datetime) -> None:
    tx.execute(
        "INSERT INTO node (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (_SEEN, to_text(now)),
    )


def _insert(tx: sqlite3.Connection, jump: Jump) -> None:
    tx.execute(
        "INSERT INTO clock_jumps (at, seconds) VALUES (?, ?)",
        (to_text(jump.at), jump.skipped.total_seconds()),
    )


def _move_schedule(tx: sqlite3.Connection, skipped: timedelta) -> None:
    for table, column, waits in _SCHEDULED:
        rows = tx.execute(
            f"SELECT rowid AS number, {column} FROM {table} WHERE {waits} AND {column} IS NOT NULL"  # noqa: S608 - constants
        ).fetchall()
        tx.executemany(
            f"UPDATE {table} SET {column} = ? WHERE rowid = ?",  # noqa: S608 - constants
            [(to_text(from_text(row[column]) + skipped), row["number"]) for row in rows],
        )


def _correct_records(tx: sqlite3.Connection, now: datetime) -> None:
    for table, column, counts in _RECORDED:
        tx.execute(
            f"UPDATE {table} SET {column} = ? WHERE {counts} AND {column} > ?",  # noqa: S608 - constants
            (to_text(now), to_text(now)),
        )
