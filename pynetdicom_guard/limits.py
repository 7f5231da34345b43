"""Limits for accepted connections that pynetdicom (3.0.4) lacks.

pynetdicom counts silent and rejected connections as associations, leaks the socket of a connection
that the peer closed first, and leaves a C-STORE request without identifiers unanswered.
"""

from __future__ import annotations

import logging
import socket
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
from pynetdicom_guard.sockets import (
    GuardedReceive,
    GuardedSend,
    Limits,
    hang_up,
    has_no_request,
)

_LOG = logging.getLogger(__name__)

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


def has_no_association(association: Association) -> bool:
    """Return whether an accepted connection has requested no association, or was rejected."""
    return has_no_request(association) or (association.is_acceptor and association.is_rejected)


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
