"""Limits that pynetdicom (3.0.4) lacks.

It takes PDUs of any announced length, waits for ever for the rest of one and for a peer that
does not read, counts silent and rejected connections as associations, and leaves a C-STORE
without identifiers unanswered.
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
from scp.pynetdicom_guard.crash_guard import protect
from scp.pynetdicom_guard.memory import is_flooding, release

_LOG = logging.getLogger(__name__)

_CONTROL_PDU = 1 << 17
"""Bytes that any PDU may have beside the negotiated maximum (association requests). One with 128
presentation contexts of ten transfer syntaxes each has 50,000; to parse a million takes 2 s."""
_SILENT_CONNECTIONS = 80
"""Connections that may wait with their association request, or with closing after it was
rejected; beyond, the oldest goes. Each costs a thread of pynetdicom that looks a thousand times a
second."""
_C_STORE_RQ, _N_EVENT_REPORT_RQ = 0x0001, 0x0100
_CHATTER = (
    (evt.EVT_DIMSE_RECV, standard_dimse_recv_handler),
    (evt.EVT_DIMSE_SENT, standard_dimse_sent_handler),
    (evt.EVT_PDU_RECV, standard_pdu_recv_handler),
    (evt.EVT_PDU_SENT, standard_pdu_sent_handler),
)
"""pynetdicom's own log lines: they cost time, and on a message without a UID they raise,
which keeps every later handler from being called."""

EMPTY_UID = "0.0"
"""Stands in for a missing Affected SOP Instance UID, so that the request gets an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may take.

    Attributes:
        maximum_pdu: The maximum length of a P-DATA-TF that was negotiated.
        request_seconds: How long a connection may take to ask for an association.
        pdu_seconds: How long a PDU that has begun may take to end, in an association; how long
            the peer may take to read one.
    """

    maximum_pdu: int
    request_seconds: float
    pdu_seconds: float


class CountingEntity(AE):
    """An AE whose maximum of associations counts associations, not mere connections.

    A load balancer that connects and closes, a peer that connects and says nothing, or one
    that was rejected and does not close must not keep a scanner out.
    """

    @property
    def active_associations(self) -> list[Association]:
        """Return the associations that were asked for, not rejected, and have not ended."""
        return [one for one in super().active_associations if not is_idle(one)]


def is_silent(association: Association) -> bool:
    """Tell whether a connection has not (yet) asked for an association."""
    return association.is_acceptor and association.requestor.primitive is None


def is_idle(association: Association) -> bool:
    """Tell whether a connection carries no association: not asked for yet, or rejected."""
    return is_silent(association) or (association.is_acceptor and association.is_rejected)


class GuardedReceive:
    """Replaces the ``recv`` of an association's socket.

    Reads in large steps into one buffer, refuses a PDU that announces more than it may,
    and gives a PDU that has begun a deadline to end. After each read it asks for the
    immediate acknowledgement that a sender with Nagle's algorithm is waiting for.
    """

    def __init__(self, connection: socket.socket, association: Association, limits: Limits) -> None:
        self._connection = connection
        self._association = association
        self._maximum = max(limits.maximum_pdu + 6, _CONTROL_PDU)
        self._limits = limits
        self._unexplained = False
        self.last_read = time.monotonic()

    def __call__(self, count: int) -> bytearray:
        """Return ``count`` bytes, or fewer when the peer closed the connection.

        Raises:
            OSError: The PDU is too long or did not arrive in time; pynetdicom then closes
                the connection.
        """
        if count > self._maximum:
            raise self._refusal(f"a PDU announces {count} bytes; at most {self._maximum} are taken")
        silent = is_silent(self._association)
        seconds = self._limits.request_seconds if silent else self._limits.pdu_seconds
        buffer = bytearray(count)
        with memoryview(buffer) as view:
            try:
                got = self._read(view, time.monotonic() + seconds)
            except TimeoutError:
                raise self._refusal(f"a PDU did not arrive within {seconds:g} s") from None
        return buffer if got == count else buffer[:got]

    def _read(self, view: memoryview, deadline: float) -> int:
        got = 0
        while got < len(view):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            read = self._connection.recv_into(view[got:])
            if read == 0:
                break
            got += read
            self.last_read = time.monotonic()
            self._unexplained = True
            _acknowledge_now(self._connection)
        self._connection.settimeout(None)
        return got

    def close(self) -> None:
        """Close the connection; log it when it said something that was no association."""
        self._connection.close()
        if self._unexplained and is_silent(self._association):
            _LOG.warning(
                "%s: closed: what it sent is no valid association request",
                self._association.requestor.address,
            )

    def _refusal(self, reason: str) -> OSError:
        self._unexplained = False
        _LOG.warning("%s: closed: %s", self._association.requestor.address, reason)
        return OSError(reason)


class GuardedSend:
    """Replaces the ``send`` of an association's socket: a peer has to read in time.

    Otherwise one that never reads would hold its association past every other time limit:
    pynetdicom's thread that looks at those would wait for it.
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
    wrapped: Any = event.assoc.dul.socket
    connection: socket.socket | None = wrapped.socket if wrapped else None
    if connection is None:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for chatter, handler in _CHATTER:
        event.assoc.unbind(chatter, handler)
    wrapped.recv = GuardedReceive(connection, event.assoc, limits)
    wrapped.send = GuardedSend(connection, event.assoc, limits)
    protect(event.assoc)
    waiting = idle_connections(event.assoc._server)  # noqa: SLF001 - it has no public name
    if len(waiting) > _SILENT_CONNECTIONS:
        oldest = waiting[0]
        _LOG.warning(
            "%s: closed: the oldest of %d connections without an association",
            oldest.requestor.address,
            len(waiting),
        )
        hang_up(oldest)


def on_connection_close(event: Event) -> None:
    """Give back what a closed connection holds (EVT_CONN_CLOSE).

    pynetdicom leaves the socket open when the peer was quicker, and the thread of a
    connection that never asked for an association waiting until the time for that is out.
    """
    receive = getattr(event.assoc.dul.socket, "recv", None)
    if isinstance(receive, GuardedReceive):
        receive.close()
    if is_silent(event.assoc):
        event.assoc.dul.to_user_queue.put(None)


def idle_connections(server: Any) -> list[Association]:
    """Return the connections to ``server`` without an association, oldest first."""
    return [one for one in server.active_associations if is_idle(one)]


def quiet_seconds(association: Association) -> float:
    """Return for how long the peer of an association has sent nothing."""
    receive = getattr(association.dul.socket, "recv", None)
    if not isinstance(receive, GuardedReceive):
        return math.inf
    return time.monotonic() - receive.last_read


def hang_up(association: Association) -> None:
    """Shut the connection down; its own threads see it and end."""
    wrapped: Any = association.dul.socket
    connection: socket.socket | None = wrapped.socket if wrapped else None
    if connection is None:
        return
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        _LOG.debug("%s: was gone already", association.requestor.address)


def on_message(event: Event) -> None:
    """See that every C-STORE request gets an answer or an end (EVT_DIMSE_RECV).

    pynetdicom ignores a request that lacks a required element: its sender would wait. One
    without Affected SOP Instance UID is given one to be refused by; any other that cannot
    be answered ends the association as an invalid PDU does (PS3.8 section 9.2, Evt19).
    """
    command = event.message.command_set
    if is_flooding(event):
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
        command.AffectedSOPInstanceUID = EMPTY_UID
    unanswerable = [
        keyword
        for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID", "MessageID", "Priority")
        if not _is_usable(command.get(keyword))
    ]
    if unanswerable:
        _LOG.warning(
            "%s: aborted: a C-STORE request without a usable %s",
            event.assoc.requestor.address,
            ", ".join(unanswerable),
        )
        event.assoc.dul.event_queue.put("Evt19")


def _is_usable(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value.strip()) <= MAX_UID_LENGTH
    return isinstance(value, int)
