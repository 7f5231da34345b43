"""Limits for the associations that this node requests, from connecting to the end of the threads.

pynetdicom (3.0.4) reads into memory as many bytes as a PDU announces, has no time limit once it is
connected, hides why a TLS handshake failed, and keeps a process alive with a thread that waits for
the peer.
"""

# ruff: noqa: SLF001 - pynetdicom has no public place for any of this
from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pynetdicom import evt

from pynetdicom_guard.crash_guard import protect_requestor
from pynetdicom_guard.reactor_gate import put_gate

_JOIN_SECONDS = 5.0
"""How long a thread may take to end after its connection was shut down: it waits for no peer."""


class Limiter(Protocol):
    """Holds the socket of an association, and limits the bytes that arrive on it."""

    def hold(self, line: socket.socket) -> None:
        """Watch a socket, connected or not yet."""

    def take(self, count: int) -> None:
        """Count bytes before they are read; raise an OSError when they are too many."""

    def refuse(self, what: str) -> OSError:
        """Shut the sockets down because too many bytes arrive; return the error to raise."""


class RequestorGuard:
    """Guards one association; :attr:`handlers` and :meth:`tls_arguments` go to ``AE.associate``.

    Attributes:
        is_connected: Whether the connection, with its TLS handshake, was established.
        handshake_error: Why the TLS handshake failed; None when it did not.
    """

    def __init__(self, limiter: Limiter, *, maximum_pdu: int, silence_seconds: float) -> None:
        self.is_connected = False
        self.handshake_error: str | None = None
        self._limiter = limiter
        self._maximum_pdu = maximum_pdu
        self._silence_seconds = silence_seconds
        self._association: Any = None

    @property
    def handlers(self) -> Sequence[tuple[Any, Any]]:
        """Return the event handlers to bind."""
        return ((evt.EVT_ACSE_SENT, self._before_connect), (evt.EVT_CONN_OPEN, self._on_connect))

    def tls_arguments(self, context: ssl.SSLContext, host: str) -> tuple[ssl.SSLContext, str]:
        """Return the ``tls_args`` of a connection whose handshake errors are kept."""
        guard = self

        class GuardedSocket(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - its base
                try:
                    super().do_handshake(block)
                except OSError as error:
                    guard.handshake_error = str(error)
                    raise

            def connect(self, address: Any) -> None:
                try:
                    super().connect(address)
                except OSError:
                    self.close()  # pynetdicom would leave it to the garbage collector
                    raise

        context.sslsocket_class = GuardedSocket
        return context, host

    def close(self) -> None:
        """End the threads of the association and close its socket, after it was shut down."""
        association = self._association
        if association is None:
            return
        association._kill = True  # Association.kill() may wait for ever
        association.dul.kill_dul()
        association._reactor_checkpoint.set()
        for thread in (association.dul, association):
            if thread.ident is not None:
                thread.join(_JOIN_SECONDS)
        if association.dul.socket is not None and association.dul.socket.socket is not None:
            association.dul.socket.socket.close()  # pynetdicom does not if the peer closed first

    def _before_connect(self, event: evt.Event) -> None:
        """Guard the association before it connects (EVT_ACSE_SENT, the request)."""
        if self._association is not None:
            return
        association: Any = event.assoc
        self._association = association
        put_gate(association)
        protect_requestor(association)
        wrapped = association.dul.socket
        wrapped.recv = self._limited(wrapped.recv)
        self._limiter.hold(wrapped.socket)

    def _on_connect(self, event: evt.Event) -> None:
        """Prepare the socket as soon as it is connected (EVT_CONN_OPEN).

        Without a time limit, a peer that stops reading in the middle of an object would hold
        pynetdicom's thread.
        """
        association: Any = event.assoc
        connection: socket.socket = association.dul.socket.socket
        self.is_connected = True
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self._silence_seconds)

    def _limited(self, receive: Callable[[int], bytearray]) -> Callable[[int], bytearray]:
        """Return ``receive`` with limits; it is called with the length that a PDU announces."""

        def limited(size: int) -> bytearray:
            if size > self._maximum_pdu:
                raise self._limiter.refuse(
                    f"a PDU announces {size} bytes; the maximum is {self._maximum_pdu}"
                )
            self._limiter.take(size)
            return receive(size)

        return limited
