"""Counts what one association sends, and says how it ended."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field

from pynetdicom.association import Association

from chestct.uids import Uid
from scp.ports import AssociationEnd, Recorded, Transfer


@dataclass(slots=True)
class Tally:
    """What one association has sent so far; ``studies`` counts its instances by study."""

    started: float = field(default_factory=time.monotonic)
    series: set[Uid] = field(default_factory=set)
    studies: Counter[Uid] = field(default_factory=Counter)
    transfers: dict[tuple[Uid, str, Recorded], Transfer] = field(default_factory=dict)
    stored: int = 0
    refused: int = 0
    size: int = 0
    has_sent_abort: bool = False


def cause(association: Association, tally: Tally) -> str:
    """Return why an association ended without a release, as far as that is known."""
    if tally.has_sent_abort:
        return "aborted by the sender"
    if association.dul.idle_timer_expired():
        return "aborted here: the sender was silent for too long"
    return "aborted: connection lost or message not understood"


def level(tally: Tally, how: AssociationEnd) -> int:
    """Return the log level of the end of an association: low for a C-ECHO every few seconds."""
    if how is AssociationEnd.ABORTED:
        return logging.WARNING
    return logging.INFO if tally.stored or tally.refused else logging.DEBUG
