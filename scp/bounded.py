"""What one association may hold in memory.

pynetdicom (3.0.4) collects a message in memory whatever its size, and queues requests that
come before the one before them was answered.
"""

from __future__ import annotations

import logging
import time
from io import BytesIO
from typing import Any

from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF

_LOG = logging.getLogger(__name__)

_COMMAND_SET = 1 << 16
"""Bytes that a command set may have; those of PS3.7 have a few hundred."""
_REQUESTS_WAITING = 4
"""Nobody may send a second request before the answer: no asynchronous operations window is
negotiated (PS3.7 annex D.3.3.3)."""
_PATIENCE_SECONDS = 60.0
_SLOWEST = 1024
"""Bytes per second that a data set must arrive with once the patience is over. Each PDU has its
own time limit; this one is for a peer that sends many tiny ones."""


class BoundedBuffer(BytesIO):
    """Keeps the first bytes that are written, and knows when there were more.

    Attributes:
        overflowed: Whether something was thrown away.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._seen = 0
        self._began = time.monotonic()
        self.overflowed = False

    def write(self, data: Any) -> int:
        """Keep ``data``, or let go of everything once there is more than the limit."""
        self._seen += len(data)
        if self._seen > self._limit:
            self.overflowed = True
            self.seek(0)
            self.truncate()
            return len(data)
        return super().write(data)

    def is_starved(self) -> bool:
        """Tell whether it fills so slowly that somebody only holds the line."""
        seconds = time.monotonic() - self._began
        return seconds > _PATIENCE_SECONDS and self._seen < seconds * _SLOWEST


def on_pdu(event: Event, limit: int) -> None:
    """Begin each message with bounded buffers, and end one that never ends (EVT_PDU_RECV)."""
    pdu: object = event.pdu
    dimse = event.assoc.dimse
    if not isinstance(pdu, P_DATA_TF):
        return
    if dimse.message is not None:
        begun: object = dimse.message.data_set
        if isinstance(begun, BoundedBuffer) and begun.is_starved():
            _LOG.warning(
                "%s: aborted: a data set arrives too slowly", event.assoc.requestor.address
            )
            event.assoc.dul.event_queue.put("Evt19")
    else:
        dimse.message = DIMSEMessage()
        dimse.message.encoded_command_set = BoundedBuffer(_COMMAND_SET)
        dimse.message.data_set = BoundedBuffer(limit)


def is_flooding(event: Event) -> bool:
    """Tell whether the peer sends requests without waiting for their answers (EVT_DIMSE_RECV)."""
    return event.assoc.dimse.msg_queue.qsize() >= _REQUESTS_WAITING


def is_too_large(data_set: object) -> bool:
    """Tell whether a data set was larger than the limit; nothing of it is left then."""
    return isinstance(data_set, BoundedBuffer) and data_set.overflowed
