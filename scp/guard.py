"""Limits that pynetdicom (3.0.4) lacks: PDU length, stalled PDUs, empty SOP Instance UIDs."""

from __future__ import annotations

import socket
import time
from typing import Any

from pynetdicom.events import Event

_CONTROL_PDU = 1 << 20
"""Bytes that any PDU may have beside the negotiated maximum (association requests)."""

EMPTY_UID = "0.0"
"""Stands in for a missing Affected SOP Instance UID, so that the request gets an answer."""


class GuardedReceive:
    """Replaces the ``recv`` of an association's socket.

    Reads in large steps into one buffer, refuses a PDU that announces more than it may,
    and gives a PDU that has begun a deadline to end. After each read it asks for the
    immediate acknowledgement that a sender with Nagle's algorithm is waiting for.
    """

    def __init__(self, connection: socket.socket, *, maximum: int, seconds: float) -> None:
        self._connection = connection
        self._maximum = max(maximum + 6, _CONTROL_PDU)
        self._seconds = seconds

    def __call__(self, count: int) -> bytearray:
        """Return ``count`` bytes, or fewer when the peer closed the connection.

        Raises:
            OSError: The PDU is too long or did not arrive in time; pynetdicom then closes
                the connection.
        """
        if count > self._maximum:
            raise OSError(f"a PDU announces {count} bytes; at most {self._maximum} are taken")
        buffer = bytearray(count)
        view = memoryview(buffer)
        deadline = time.monotonic() + self._seconds
        got = 0
        while got < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise OSError("a PDU did not arrive in time")
            self._connection.settimeout(left)
            read = self._connection.recv_into(view[got:])
            if read == 0:
                break
            got += read
            _acknowledge_now(self._connection)
        self._connection.settimeout(None)
        view.release()
        return buffer[:got] if got < count else buffer


def _acknowledge_now(connection: socket.socket) -> None:
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def on_connection_open(event: Event, maximum: int, seconds: float) -> None:
    """Guard a new connection (EVT_CONN_OPEN)."""
    wrapped: Any = event.assoc.dul.socket
    connection: socket.socket | None = wrapped.socket if wrapped else None
    if connection is None:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wrapped.recv = GuardedReceive(connection, maximum=maximum, seconds=seconds)


def on_message(event: Event) -> None:
    """Name an empty Affected SOP Instance UID (EVT_DIMSE_RECV); unnamed it gets no answer."""
    command = event.message.command_set
    if command.get("CommandField") == 0x0001 and not command.get("AffectedSOPInstanceUID"):
        command.AffectedSOPInstanceUID = EMPTY_UID
