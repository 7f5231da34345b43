"""What the receiver asks of the rest of the node."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol

from chestct.series import ReceivedInstance
from chestct.uids import Uid


class Recorded(StrEnum):
    """What a durable instance was to the record: all three are answered 0x0000."""

    NEW = "new"
    REPEATED = "repeated"
    """The same SOP Instance with the same bytes: nothing changed."""
    REPLACED = "replaced"
    """The same SOP Instance UID with other bytes: the new ones count, the old are kept."""


class AssociationEnd(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"


class Intake(Protocol):
    """Records what was received. Called from the threads of the associations."""

    def record(self, instance: ReceivedInstance) -> Recorded:
        """Record an instance whose bytes are durable; the answer 0x0000 follows.

        Raises:
            OutOfResources: It could not be recorded; the sender is told 0xA700.
        """

    def association_ended(
        self, series_uids: frozenset[Uid], calling_ae: str, how: AssociationEnd, at: datetime
    ) -> None:
        """Note that an association that sent instances of ``series_uids`` has ended."""
