"""The interfaces through which the receiver reaches the rest of the node."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from chestct.series import ReceivedInstance
from chestct.uids import Uid


class Recorded(StrEnum):
    """How a durable instance was recorded; all three are answered 0x0000."""

    NEW = "new"
    REPEATED = "repeated"
    """The same SOP Instance UID with the same values, in any transfer syntax: nothing changed."""
    REPLACED = "replaced"
    """The same SOP Instance UID with other values: the new values count, the old file is kept."""


class AssociationEnd(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"


class Intake(Protocol):
    """Records received instances. Called from the threads of the associations."""

    def record(self, instance: ReceivedInstance) -> Recorded:
        """Record an instance whose file is durable; the answer 0x0000 follows.

        The record may become durable later, if the file alone is enough to make it again.

        Raises:
            OutOfResources: It could not be recorded; the answer is 0xA700.
        """

    def association_ended(
        self, series_uids: frozenset[Uid], calling_ae: str, how: AssociationEnd, at: datetime
    ) -> None:
        """Record that an association that sent instances of ``series_uids`` has ended.

        Other associations may still be sending some of them.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The calling AE title and the IP address of a peer."""

    ae_title: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """The instances of one study of one patient that one association sent.

    Attributes:
        recorded: How they were recorded; instances recorded otherwise are another transfer.
        sample: One of the files, which names the patient.
        instances: Their number by SOP Class; it grows while the association lasts.
    """

    study_uid: Uid
    recorded: Recorded
    sample: Path
    instances: Counter[Uid] = field(default_factory=Counter)


class AuditSink(Protocol):
    """Gets the events of an audit trail (PS3.15 section A.5.3).

    Called from the threads of the associations: it must neither block nor raise.
    """

    def rejected(self, peer: Peer, reason: str) -> None:
        """Record that an association was rejected permanently: for its AE titles or address."""

    def transfer_began(self, peer: Peer, transfer: Transfer) -> None:
        """Record the first durable instance of a transfer."""

    def transfer_ended(self, peer: Peer, transfer: Transfer, how: AssociationEnd) -> None:
        """Record that the association of a transfer has ended."""


class Refused(StrEnum):
    """The kind of a refusal."""

    IMAGE = "image"
    ASSOCIATION = "association"
    """An association that was rejected, or in which every presentation context was refused."""


class RefusalCounter(Protocol):
    """Counts refusals, so that a person can see which peers are refused, and why.

    Called from the threads of the associations: it must neither block nor raise.
    """

    def refused(self, peer: Peer, kind: Refused, reason: str) -> None:
        """Count a refusal; ``reason`` may quote the peer, but names no patient."""
