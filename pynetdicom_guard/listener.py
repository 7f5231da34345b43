"""The listening socket, with or without TLS.

pynetdicom (3.0.4) shakes hands inside its accept loop: one peer that connects and stays silent
keeps all others out. Here each handshake has its own thread and a time limit.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import ThreadedAssociationServer

_LOG = logging.getLogger(__name__)

_BACKLOG = 512
"""Connections that may wait to be accepted. With socketserver's 5, a burst retries for 1 s."""
_HANDSHAKE_SECONDS = 10.0
_HANDSHAKES = 64
"""Handshakes at the same time; beyond, the oldest is closed."""

TlsContext = Callable[[], ssl.SSLContext]
"""Returns the TLS context for the next connection; a new one after the certificate changed."""


class Listener(ThreadedAssociationServer):
    """An association server that shakes hands outside its accept loop."""

    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, *arguments: Any, tls: TlsContext | None = None, **options: Any) -> None:
        self._tls = tls
        self._shaking: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(*arguments, **options)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands where TLS is on, and pass the connection to a new association."""
        if self._tls is not None:
            request = self._shake_hands(request, str(client_address[0]), self._tls)
        if request is not None:
            super().finish_request(request, client_address)

    def service_actions(self) -> None:
        """Close connections whose handshake takes too long (called twice a second)."""
        super().service_actions()
        self._close_slow(_HANDSHAKE_SECONDS)

    def server_close(self) -> None:
        """Close the listening socket and the connections that are not yet associations."""
        super().server_close()
        self._close_slow(0.0)

    def _shake_hands(
        self, plain: socket.socket, address: str, tls: TlsContext
    ) -> ssl.SSLSocket | None:
        """Return the connection over TLS; None when the handshake fails."""
        with self._lock:
            self._shaking[plain] = time.monotonic()
            oldest = list(self._shaking)[:-_HANDSHAKES]
        for connection in oldest:
            _hang_up(connection)
        try:
            secure = tls().wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            plain.close()
            self._forget(plain)
            _LOG.warning("%s: closed: TLS cannot start: %s", address, error)
            return None
        with self._lock:
            # wrap_socket takes the descriptor over, so only the new socket can be shut down.
            self._shaking[secure] = self._shaking.pop(plain, 0.0)
        try:
            secure.settimeout(_HANDSHAKE_SECONDS)
            secure.do_handshake()
            secure.settimeout(None)
        except (OSError, ValueError) as error:
            secure.close()
            _LOG.warning("%s: closed: the TLS handshake failed: %s", address, error)
            return None
        finally:
            self._forget(secure)
        return secure

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._shaking.pop(connection, None)

    def _close_slow(self, seconds: float) -> None:
        now = time.monotonic()
        with self._lock:
            slow = [
                connection for connection, began in self._shaking.items() if now - began >= seconds
            ]
        for connection in slow:
            _hang_up(connection)


def _hang_up(connection: socket.socket) -> None:
    """Shut a connection down; the thread that shakes hands on it then fails and ends."""
    with suppress(OSError):
        # Not SSLSocket.shutdown, which drops the TLS state while that thread uses it.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def listen(ae: AE, address: tuple[str, int], *, tls: TlsContext | None, handlers: Any) -> Listener:
    """Listen in a thread of its own and return at once.

    Raises:
        OSError: The address cannot be bound.
    """
    listener = ae.make_server(address, evt_handlers=handlers, server_class=Listener, tls=tls)
    assert isinstance(listener, Listener)
    threading.Thread(target=listener.serve_forever, name="AcceptorServer", daemon=True).start()
    ae._servers.append(listener)  # noqa: SLF001 - as AE.start_server does; AE.shutdown looks there
    return listener
