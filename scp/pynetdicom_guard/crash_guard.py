"""Ends a connection whose bytes break pynetdicom, instead of half of its threads.

pynetdicom (3.0.4) serves a connection with two threads. Bytes that its parsers let through
and its state machine, negotiation or services stumble over end one of them with an exception
that nobody catches; the other one may then wait for ever with its socket open. It also reads on
before it acts on what it has read, and so waits for the rest of what it will refuse anyway.
"""

# ruff: noqa: SLF001 - pynetdicom has no public place for any of this
from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ABORT_RQ

from scp.pynetdicom_guard.memory import let_go

_LOG = logging.getLogger(__name__)

_CLOSING = "Sta13"
"""Awaiting the transport connection's close (PS3.8 section 9.2.2): whatever comes is ignored."""
_READ = 1 << 16
_PROVIDER = 0x02
_ABORT_SECONDS = 1.0


def protect(association: Association) -> None:
    """Have everything that may go wrong in an association end it, said in one line."""
    whole: Any = association
    dul, acse, machine = whole.dul, whole.acse, whole.dul.state_machine
    look = dul._is_transport_event

    def look_when_idle() -> bool:
        if not dul.event_queue.empty():
            return False
        if machine.current_state == _CLOSING and _drained(association):
            return True
        return bool(look())

    dul._is_transport_event = _guarded(association, look_when_idle)
    dul._process_recv_primitive = _guarded(association, dul._process_recv_primitive)
    machine.do_action = _guarded(association, machine.do_action)
    acse.negotiate_association = _guarded(association, acse.negotiate_association)
    reactor = _guarded(association, whole._run_reactor)

    def react_and_let_go() -> None:
        reactor()
        let_go(association)

    whole._run_reactor = react_and_let_go


def _guarded(association: Association, step: Callable[..., Any]) -> Callable[..., Any]:
    def attempt(*arguments: Any) -> Any:
        try:
            return step(*arguments)
        except Exception as error:  # noqa: BLE001 - pynetdicom on hostile bytes raises anything
            _give_up(association, error)
            return False

    return attempt


def _give_up(association: Association, error: Exception) -> None:
    """Send an A-ABORT, hang up, and let both threads of the association end."""
    _LOG.warning(
        "%s: aborted: what it sent cannot be processed (%s)",
        association.requestor.address,
        type(error).__name__,
    )
    _LOG.debug("what pynetdicom raised", exc_info=error)
    association.is_aborted, association.is_established = True, False
    association._kill = True  # Association.kill would wait for this very thread
    association.dul.kill_dul()
    _abort(_connection(association))
    association.dul.to_user_queue.put(None)
    evt.trigger(association, evt.EVT_ABORTED, {})


def _abort(connection: socket.socket | None) -> None:
    if connection is None:
        return
    pdu = A_ABORT_RQ()
    pdu.source, pdu.reason_diagnostic = _PROVIDER, 0x00
    with suppress(OSError):
        connection.settimeout(_ABORT_SECONDS)
        connection.sendall(pdu.encode())
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _connection(association: Association) -> socket.socket | None:
    wrapped: Any = association.dul.socket
    connection: socket.socket | None = wrapped.socket if wrapped else None
    return connection


def _drained(association: Association) -> bool:
    """Throw away what has come, without waiting; tell whether there was anything."""
    connection = _connection(association)
    if connection is None:
        return False
    try:
        connection.settimeout(0)
        return bool(connection.recv(_READ))
    except OSError:
        return False
