"""What the receiver asks of the rest of the node."""

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
    """What a durable instance was to the record: all three are answered 0x0000."""

    NEW = "new"
    REPEATED = "repeated"
    """The same SOP Instance with the same values, in whatever transfer syntax: nothing changed."""
    REPLACED = "replaced"
    """The same SOP Instance UID with other values: the new ones count, the old are kept."""


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
        """Note that an association that sent instances of ``series_uids`` has ended.

        Another may be sending some of them yet.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The Application Entity at the other end, as it calls itself, and its IP address."""

    ae_title: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What one association brought of one study of one patient.

    Attributes:
        recorded: What the instances were to the record; another value, another transfer.
        sample: One of the files, which names the patient.
        instances: How many of each SOP Class; counts up while the association lasts.
    """

    study_uid: Uid
    recorded: Recorded
    sample: Path
    instances: Counter[Uid] = field(default_factory=Counter)


class Witness(Protocol):
    """Is told what an audit trail has to know (PS3.15 section A.5.3).

    Called from the threads of the associations: it must neither wait nor raise.
    """

    def rejected(self, peer: Peer, reason: str) -> None:
        """Note that an association was rejected for good, so for who asked or was asked."""

    def transfer_began(self, peer: Peer, transfer: Transfer) -> None:
        """Note the first durable instance of a transfer."""

    def transfer_ended(self, peer: Peer, transfer: Transfer, how: AssociationEnd) -> None:
        """Note that the association of a transfer has ended."""


class Refused(StrEnum):
    """What was refused."""

    IMAGE = "image"
    ASSOCIATION = "association"
    """A-ASSOCIATE-RJ, or one in which nothing that was offered is taken."""


class Doorkeeper(Protocol):
    """Counts what was refused, so that a person can see who sends in vain, and why.

    Called from the threads of the associations: it must neither wait nor raise.
    """

    def refused(self, peer: Peer, kind: Refused, reason: str) -> None:
        """Count a refusal; ``reason`` may quote what came from outside, but no patient."""
