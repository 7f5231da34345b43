"""What a peer that is asked may answer in all: so many bytes, in so much time.

pynetdicom (3.0.4) collects in memory what a PDU's length promises and what a message holds, and
waits anew for each response; requests keeps whatever a web service sends. A peer that is broken or
hostile must cost neither memory nor the time of the analysis that waits.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pynetdicom import evt


class TooMuch(ConnectionAbortedError):
    """The peer sends more than it may."""


class Allowance:
    """Counts what comes over one DIMSE association and cuts it off when it is too much or too late.

    Attributes:
        spent: Why it was cut off, for a person; empty while it was not.
    """

    def __init__(self, most_bytes: int) -> None:
        self.spent = ""
        self._left = most_bytes
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def watch(self, event: evt.Event) -> None:
        """Stand between an association and its socket once it is connected (EVT_CONN_OPEN)."""
        association: Any = event.assoc
        wrapped = association.dul.socket
        if wrapped is None or wrapped.socket is None:
            return
        wrapped.recv = self._counted(wrapped.recv)
        with self._lock:
            self._socket = wrapped.socket
            late = self.spent
        if late:
            shut(wrapped.socket)

    @contextmanager
    def lasting(self, seconds: float) -> Iterator[None]:
        """Cut the line after so long."""
        timer = threading.Timer(seconds, self._cut, args=["it takes too long"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _counted(self, receive: Callable[[int], bytearray]) -> Callable[[int], bytearray]:
        def counted(size: int) -> bytearray:
            self._left -= size
            if self._left < 0:
                self._cut("it sends too much")
                raise TooMuch(self.spent)
            return receive(size)

        return counted

    def _cut(self, why: str) -> None:
        with self._lock:
            self.spent = self.spent or why
            line = self._socket
        if line is not None:
            shut(line)


def shut(line: socket.socket) -> None:
    """End a connection from any thread; whoever reads from it reads its end."""
    with suppress(OSError):  # it is closed already
        socket.socket.shutdown(line, socket.SHUT_RDWR)  # under TLS too, whose state stays
