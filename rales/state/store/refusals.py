"""Counts of refusals by peer and reason, in a table of limited size."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rales.state.store.database import Database, from_text, to_text
from scp.ports import Peer, Refused

MOST_REASONS = 20
"""Rows of one peer; further reasons are counted together."""
MOST_PEERS = 200
"""Peers with rows of their own; a caller can give itself any AE title."""
OTHER_REASONS = "other reasons"
OTHERS = Peer(ae_title="others", address="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason for which the receiver refused one peer, and how often."""

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
        """Add the refusals that were counted since the last call.

        Raises:
            OutOfResources: The state file cannot be written now.
        """
        with self._database.transaction() as tx:
            for refusal in refusals:
                _add(tx, refusal)

    def all(self) -> list[Refusal]:
        """Return all refusals, latest first."""
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


def _add(tx: sqlite3.Connection, refusal: Refusal) -> None:
    peer = refusal.peer
    key: tuple[str, str, str, str] = (peer.ae_title, peer.address, refusal.kind, refusal.reason)
    known = tx.execute(
        "SELECT 1 FROM refusals WHERE ae_title = ? AND address = ? AND kind = ? AND reason = ?",
        key,
    ).fetchone()
    if not known:
        key = _within_bounds(tx, refusal)
    first, last = to_text(refusal.first_at), to_text(refusal.last_at)
    tx.execute(
        "INSERT INTO refusals (ae_title, address, kind, reason, count, first_at, last_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (ae_title, address, kind, reason) DO UPDATE SET"
        " count = count + excluded.count, last_at = max(last_at, excluded.last_at)",
        (*key, refusal.count, first, last),
    )


def _within_bounds(tx: sqlite3.Connection, refusal: Refusal) -> tuple[str, str, str, str]:
    """Return the key to count a new refusal under: its own, or that of the others."""
    peer, reason = refusal.peer, refusal.reason
    rows = _count(tx, peer)
    if not rows:
        peers = tx.execute(
            "SELECT count(*) FROM (SELECT DISTINCT ae_title, address FROM refusals)"
        ).fetchone()[0]
        if peers >= MOST_PEERS:
            peer, rows = OTHERS, _count(tx, OTHERS)
    if rows >= MOST_REASONS:
        reason = OTHER_REASONS
    return peer.ae_title, peer.address, refusal.kind, reason


def _count(tx: sqlite3.Connection, peer: Peer) -> int:
    row = tx.execute(
        "SELECT count(*) FROM refusals WHERE ae_title = ? AND address = ?",
        (peer.ae_title, peer.address),
    ).fetchone()
    return int(row[0])
