"""How often whom what was refused: a table that does not grow with those who knock."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rales.state.store.database import Database, from_text, to_text
from scp.ports import Peer, Refused

MOST_REASONS = 20
"""Rows of one peer; what goes beyond is counted together."""
MOST_PEERS = 200
"""Peers with rows of their own; strangers can call themselves anything."""
OTHER_REASONS = "other reasons"
OTHERS = Peer(ae_title="others", address="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason for which one peer was refused something, and how often."""

    peer: Peer
    kind: Refused
    reason: str
    count: int
    first_at: datetime
    last_at: datetime


class RefusalStore:
    """Reads and adds refusals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, refusals: Sequence[Refusal]) -> None:
        """Add what was counted since the last time.

        Raises:
            OutOfResources: The state file cannot be written now.
        """
        with self._database.transaction() as tx:
            for one in refusals:
                _add(tx, one)

    def all(self) -> list[Refusal]:
        """Return every refusal, the latest first."""
        rows = self._database.rows("SELECT * FROM refusals ORDER BY last_at DESC")
        return [
            Refusal(
                peer=Peer(ae_title=row["ae_title"], address=row["address"]),
                kind=Refused(row["kind"]),
                reason=row["reason"],
                count=row["count"],
                first_at=from_text(row["first_at"]),
                last_at=from_text(row["last_at"]),
            )
            for row in rows
        ]


def _add(tx: sqlite3.Connection, one: Refusal) -> None:
    key: tuple[str, str, str, str] = (one.peer.ae_title, one.peer.address, one.kind, one.reason)
    known = tx.execute(
        "SELECT 1 FROM refusals WHERE ae_title = ? AND address = ? AND kind = ? AND reason = ?",
        key,
    ).fetchone()
    if not known:
        key = _within_bounds(tx, one)
    first, last = to_text(one.first_at), to_text(one.last_at)
    tx.execute(
        "INSERT INTO refusals (ae_title, address, kind, reason, count, first_at, last_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (ae_title, address, kind, reason) DO UPDATE SET"
        " count = count + excluded.count, last_at = max(last_at, excluded.last_at)",
        (*key, one.count, first, last),
    )


def _within_bounds(tx: sqlite3.Connection, one: Refusal) -> tuple[str, str, str, str]:
    """Return the key under which a refusal of a new kind is counted."""
    peer, reason = one.peer, one.reason
    rows = _count(tx, peer)
    if not rows:
        peers = tx.execute(
            "SELECT count(*) FROM (SELECT DISTINCT ae_title, address FROM refusals)"
        ).fetchone()[0]
        if peers >= MOST_PEERS:
            peer, rows = OTHERS, _count(tx, OTHERS)
    if rows >= MOST_REASONS:
        reason = OTHER_REASONS
    return peer.ae_title, peer.address, one.kind, reason


def _count(tx: sqlite3.Connection, peer: Peer) -> int:
    found = tx.execute(
        "SELECT count(*) FROM refusals WHERE ae_title = ? AND address = ?",
        (peer.ae_title, peer.address),
    ).fetchone()
    return int(found[0])
