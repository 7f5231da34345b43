"""Facts about the running node for ``rales status``: provider, models, time of the start."""

from __future__ import annotations

from collections.abc import Mapping

from rales.state.store.database import Database


class NodeFacts:
    """A small durable table of names and values."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, facts: Mapping[str, str]) -> None:
        """Set ``facts``; keep the values of other names."""
        with self._database.transaction() as tx:
            tx.executemany(
                "INSERT INTO node (name, value) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                list(facts.items()),
            )

    def read(self) -> dict[str, str]:
        """Return every fact."""
        return {row["name"]: row["value"] for row in self._database.rows("SELECT * FROM node")}
