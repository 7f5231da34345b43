"""Ends an association as a whole when pynetdicom raises, instead of one of its two threads.

pynetdicom (3.0.4) serves a connection with two threads. Bytes that pass its parsers may break its
state machine, negotiation or services. The exception ends one thread; the other may then wait for
ever with its socket open. pynetdicom also reads on before it acts on what it has read, so it waits
for the rest of a message that it will refuse anyway.
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

_LOG = logging.getLogger(__name__)

AWAITING_CLOSE = "Sta13"
"""State in which everything that arrives is ignored (PS3.8 section 9.2.2)."""
_READ_BYTES = 1 << 16
_SERVICE_PROVIDER = 0x02
"""Source of an A-ABORT (PS3.8 table 9-26)."""
_ABORT_SECONDS = 1.0


def protect_acceptor(association: Association, on_end: Callable[[Association], None]) -> None:
    """End an accepted association, with one log line, when pynetdicom raises.

    ``on_end`` is called when the association's own thread ends.
    """
    whole: Any = association
    is_transport_event = whole.dul._is_transport_event

    def is_transport_event_when_idle() -> bool:
        if not whole.dul.event_queue.empty():
            return False
        if whole.dul.state_machine.current_state == AWAITING_CLOSE and _drain(association):
            return True
        return bool(is_transport_event())

    whole.dul._is_transport_event = is_transport_event_when_idle
    _guard(whole.dul, "_is_transport_event", association, _abort)
    _guard(whole.dul, "_process_recv_primitive", association, _abort)
    _guard(whole.dul.state_machine, "do_action", association, _abort)
    _guard(whole.acse, "negotiate_association", association, _abort)
    _guard(whole, "_run_reactor", association, _abort)
    run_reactor = whole._run_reactor

    def run_reactor_to_its_end() -> None:
        run_reactor()
        on_end(association)

    whole._run_reactor = run_reactor_to_its_end


def protect_requestor(association: Association) -> None:
    """End a requested association when pynetdicom raises; its caller sees no answer."""
    whole: Any = association
    _guard(whole.dul.state_machine, "do_action", association, _wake_caller)
    _guard(whole, "_run_reactor", association, _wake_caller)


def connection_of(association: Association) -> socket.socket | None:
    """Return the socket of an association; None when the connection is closed."""
    wrapped: Any = association.dul.socket
    connection: socket.socket | None = wrapped.socket if wrapped else None
    return connection


def _guard(
    owner: Any, name: str, association: Association, end: Callable[[Association, Exception], None]
) -> None:
    """Replace a method of ``owner`` by one that calls ``end`` instead of raising."""
    setattr(owner, name, _guarded(getattr(owner, name), association, end))


def aborting(method: Callable[..., Any], association: Association) -> Callable[..., Any]:
    """Return a method that ends an accepted association, with one log line, instead of raising."""
    return _guarded(method, association, _abort)


def _guarded(
    method: Callable[..., Any],
    association: Association,
    end: Callable[[Association, Exception], None],
) -> Callable[..., Any]:
    def guarded(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:  # noqa: BLE001 - pynetdicom on hostile bytes raises anything
            _LOG.debug("pynetdicom raised", exc_info=error)
            association.is_aborted, association.is_established = True, False
            association.dul.kill_dul()
            end(association, error)
            association.dul.to_user_queue.put(None)
            return False

    return guarded


def _abort(association: Association, error: Exception) -> None:
    """Send an A-ABORT and close the connection; both threads of the association end."""
    _LOG.warning(
        "%s: aborted: pynetdicom cannot process what the peer sent (%s)",
        association.requestor.address,
        type(error).__name__,
    )
    whole: Any = association
    whole._kill = True  # Association.kill would wait for the thread that runs this
    connection = connection_of(association)
    if connection is not None:
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = _SERVICE_PROVIDER, 0x00
        with suppress(OSError):
            connection.settimeout(_ABORT_SECONDS)
            connection.sendall(pdu.encode())
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    evt.trigger(association, evt.EVT_ABORTED, {})


def _wake_caller(association: Association, _: Exception) -> None:
    association.dimse.msg_queue.put((None, None))


def _drain(association: Association) -> bool:
    """Discard what has arrived, without waiting; return whether anything had."""
    connection = connection_of(association)
    if connection is None:
        return False
    try:
        connection.settimeout(0)
        return bool(connection.recv(_READ_BYTES))
    except OSError:
        return False
