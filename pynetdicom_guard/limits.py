"""Limits for accepted connections that pynetdicom (3.0.4) lacks.

pynetdicom takes a PDU of any announced length, waits without limit for the rest of a PDU and for a
peer that does not read, counts silent and rejected connections as associations, and leaves a
C-STORE request without identifiers unanswered.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, evt
from pynetdicom._handlers import (
    standard_dimse_recv_handler,
    standard_dimse_sent_handler,
    standard_pdu_recv_handler,
    standard_pdu_sent_handler,
)
from pynetdicom.association import Association
from pynetdicom.events import Event

from chestct.uids import MAX_UID_LENGTH
from pynetdicom_guard.arrivals import has_too_many_requests, release, release_requests
from pynetdicom_guard.crash_guard import connection_of, protect_acceptor

_LOG = logging.getLogger(__name__)

_CONTROL_PDU_BYTES = 1 << 17
"""Bytes that any PDU may have, whatever maximum was negotiated. An A-ASSOCIATE-RQ with 128
presentation contexts of ten transfer syntaxes each has 50,000; parsing a million takes 2 s."""
_MAXIMUM_IDLE_CONNECTIONS = 80
"""Connections that may wait without an association; beyond, the oldest is closed. Each costs a
thread of pynetdicom that polls a thousand times a second."""
_C_STORE_RQ, _N_EVENT_REPORT_RQ = 0x0001, 0x0100
_REQUIRED = ("AffectedSOPClassUID", "AffectedSOPInstanceUID", "MessageID", "Priority")
_LOG_HANDLERS = (
    (evt.EVT_DIMSE_RECV, standard_dimse_recv_handler),
    (evt.EVT_DIMSE_SENT, standard_dimse_sent_handler),
    (evt.EVT_PDU_RECV, standard_pdu_recv_handler),
    (evt.EVT_PDU_SENT, standard_pdu_sent_handler),
)
"""pynetdicom's own log lines. They cost time, and raise on a message without a UID, which keeps
every later handler from being called."""

PLACEHOLDER_UID = "0.0"
"""Replaces a missing Affected SOP Instance UID, so that pynetdicom answers the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one connection.

    Attributes:
        maximum_pdu: The negotiated maximum length of a P-DATA-TF.
        request_seconds: How long a connection may take to request an association.
        pdu_seconds: How long the rest of a PDU may take to arrive once it has begun; how long the
            peer may take to read a PDU.
    """

    maximum_pdu: int
    request_seconds: float
    pdu_seconds: float


class CountingEntity(AE):
    """An AE whose maximum of associations counts associations, not connections.

    A load balancer that connects and closes, a peer that connects and stays silent, or a rejected
    peer that does not close must not keep a scanner out.
    """

    @property
    def active_associations(self) -> list[Association]:
        """Return the associations that were requested, not rejected, and have not ended."""
        return [
            association
            for association in super().active_associations
            if not has_no_association(association)
        ]


def has_no_request(association: Association) -> bool:
    """Return whether an accepted connection has not requested an association yet."""
    return association.is_acceptor and association.requestor.primitive is None


def has_no_association(association: Association) -> bool:
    """Return whether an accepted connection has requested no association, or was rejected."""
    return has_no_request(association) or (association.is_acceptor and association.is_rejected)


class GuardedReceive:
    """Replaces the ``recv`` of an association's socket.

    Reads in large steps into one buffer, refuses a PDU that announces too many bytes, and gives a
    PDU that has begun a deadline. After each read it sends the acknowledgement at once, because a
    sender with Nagle's algorithm waits for it.
    """

    def __init__(self, connection: socket.socket, association: Association, limits: Limits) -> None:
        self._connection = connection
        self._association = association
        self._maximum = max(limits.maximum_pdu + 6, _CONTROL_PDU_BYTES)
        self._limits = limits
        self._has_unexplained_bytes = False
        self.last_read = time.monotonic()

    def __call__(self, count: int) -> bytearray:
        """Return ``count`` bytes, or fewer when the peer closed the connection.

        Raises:
            OSError: The PDU is too long or did not arrive in time. pynetdicom then closes the
                connection.
        """
        if count > self._maximum:
            raise self._refusal(f"a PDU announces {count} bytes; the maximum is {self._maximum}")
        silent = has_no_request(self._association)
        seconds = self._limits.request_seconds if silent else self._limits.pdu_seconds
        buffer = bytearray(count)
        with memoryview(buffer) as view:
            try:
                received = self._read(view, time.monotonic() + seconds)
            except TimeoutError:
                raise self._refusal(f"a PDU did not arrive within {seconds:g} s") from None
        return buffer if received == count else buffer[:received]

    def _read(self, view: memoryview, deadline: float) -> int:
        received = 0
        while received < len(view):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            count = self._connection.recv_into(view[received:])
            if count == 0:
                break
            received += count
            self.last_read = time.monotonic()
            self._has_unexplained_bytes = True
            _acknowledge_now(self._connection)
        self._connection.settimeout(None)
        return received

    def close(self) -> None:
        """Close the connection; log it when its bytes were no association request."""
        self._connection.close()
        if self._has_unexplained_bytes and has_no_request(self._association):
            _LOG.warning(
                "%s: closed: its bytes are no valid association request",
                self._association.requestor.address,
            )

    def _refusal(self, reason: str) -> OSError:
        self._has_unexplained_bytes = False
        _LOG.warning("%s: closed: %s", self._association.requestor.address, reason)
        return OSError(reason)


class GuardedSend:
    """Replaces the ``send`` of an association's socket: a peer must read in time.

    A peer that never reads would hold its association past every other time limit, because
    pynetdicom's thread that checks those would wait in ``send``.
    """

    def __init__(self, connection: socket.socket, association: Association, limits: Limits) -> None:
        self._connection = connection
        self._association = association
        self._seconds = limits.pdu_seconds

    def __call__(self, content: bytes) -> None:
        """Send all of ``content``, or end the connection."""
        try:
            self._connection.settimeout(self._seconds)
            self._connection.sendall(content)
            self._connection.settimeout(None)
        except TimeoutError:
            _LOG.warning(
                "%s: closed: it did not read within %g s",
                self._association.requestor.address,
                self._seconds,
            )
            self._end()
        except OSError:
            self._end()

    def _end(self) -> None:
        hang_up(self._association)
        self._association.dul.event_queue.put("Evt17")


def _acknowledge_now(connection: socket.socket) -> None:
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def on_connection_open(event: Event, limits: Limits) -> None:
    """Guard a new connection (EVT_CONN_OPEN)."""
    connection = connection_of(event.assoc)
    if connection is None:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for log_event, handler in _LOG_HANDLERS:
        event.assoc.unbind(log_event, handler)
    wrapped: Any = event.assoc.dul.socket
    wrapped.recv = GuardedReceive(connection, event.assoc, limits)
    wrapped.send = GuardedSend(connection, event.assoc, limits)
    protect_acceptor(event.assoc, on_end=release_requests)
    waiting = idle_connections(event.assoc._server)  # noqa: SLF001 - it has no public name
    if len(waiting) > _MAXIMUM_IDLE_CONNECTIONS:
        oldest = waiting[0]
        _LOG.warning(
            "%s: closed: the oldest of %d connections without an association",
            oldest.requestor.address,
            len(waiting),
        )
        hang_up(oldest)


def on_connection_close(event: Event) -> None:
    """Release the socket and the thread of a closed connection (EVT_CONN_CLOSE).

    pynetdicom leaves the socket open when the peer closed first, and leaves the thread of a
    connection that never requested an association waiting until its time-out.
    """
    receive = getattr(event.assoc.dul.socket, "recv", None)
    if isinstance(receive, GuardedReceive):
        receive.close()
    if has_no_request(event.assoc):
        event.assoc.dul.to_user_queue.put(None)


def idle_connections(server: Any) -> list[Association]:
    """Return the connections to ``server`` without an association, oldest first."""
    return [
        association for association in server.active_associations if has_no_association(association)
    ]


def seconds_since_read(association: Association) -> float:
    """Return for how long the peer of an association has sent nothing."""
    receive = getattr(association.dul.socket, "recv", None)
    if not isinstance(receive, GuardedReceive):
        return math.inf
    return time.monotonic() - receive.last_read


def hang_up(association: Association) -> None:
    """Shut the connection down; the threads of the association see it and end."""
    connection = connection_of(association)
    if connection is None:
        return
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        _LOG.debug("%s: the connection was closed already", association.requestor.address)


def on_message(event: Event) -> None:
    """Make sure that every C-STORE request gets an answer or an abort (EVT_DIMSE_RECV).

    pynetdicom ignores a request that lacks a required element, and its sender waits. A request
    without Affected SOP Instance UID gets a placeholder, so that the node refuses it. Any other
    that cannot be answered ends the association like an invalid PDU (PS3.8 section 9.2, Evt19).
    """
    command = event.message.command_set
    if has_too_many_requests(event):
        _LOG.warning(
            "%s: aborted: it sends requests without waiting for their answers",
            event.assoc.requestor.address,
        )
        event.assoc.dul.event_queue.put("Evt19")
    if command.get("CommandField") != _C_STORE_RQ:
        if command.get("CommandField") != _N_EVENT_REPORT_RQ:
            release(event.message.data_set)  # no service reads it
        return
    if not command.get("AffectedSOPInstanceUID"):
        command.AffectedSOPInstanceUID = PLACEHOLDER_UID
    unusable = [keyword for keyword in _REQUIRED if not _is_usable(command.get(keyword))]
    if unusable:
        _LOG.warning(
            "%s: aborted: a C-STORE request without a usable %s",
            event.assoc.requestor.address,
            ", ".join(unusable),
        )
        event.assoc.dul.event_queue.put("Evt19")


def _is_usable(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value.strip()) <= MAX_UID_LENGTH
    return isinstance(value, int)
