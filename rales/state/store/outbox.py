"""The result of an attempt at an outbox item: a delivery, a commitment or a notification.

For each kind of item, one view of the schema says which items wait (``waiting_deliveries``,
``waiting_commitments``, ``waiting_notifications``). The store of that kind reads both the due items
and the time of the next wake-up from that view.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chestct.states import DeliveryState
from rales.state.store.database import to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The state of an item after an attempt.

    Attributes:
        at: When the attempt ended.
        due_at: When the item is due again; None: the item has ended.
        status: The DIMSE or HTTP status of the answer, if there was one.
        counted: Whether the attempt adds to the number of attempts, which the pauses grow with.
    """

    state: DeliveryState
    message: str
    at: datetime
    due_at: datetime | None = None
    status: int | None = None
    counted: bool = True

    @property
    def values(self) -> tuple[str | int | None, ...]:
        """Return the values of state, attempts to add, settled_at, due_at, status and message."""
        return (
            self.state,
            int(self.counted),
            None if self.due_at else to_text(self.at),
            to_text(self.due_at) if self.due_at else None,
            self.status,
            self.message,
        )
