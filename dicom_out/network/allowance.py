"""Limits a conversation with another system: its bytes, and its time as a whole.

A time limit for each read does not stop a peer that trickles, and the peer decides how much is
read into memory unless the bytes are counted. So every conversation that this node begins, over
any protocol, has one mechanism: it holds the sockets, counts the bytes that arrive, and cuts the
conversation off from outside when the time is up or the node stops.

It cannot limit the look-up of a host name, which the operating system does.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

SLOWEST = 50_000.0
"""Bytes per second that a line is expected to carry."""
_CONNECT_SECONDS = 10.0


class CutOff(ConnectionAbortedError):
    """A conversation was cut off; the message says why."""


class Conversations:
    """The conversations under way, which are cut off together when the node stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Allowance] = set()
        self._over = ""

    def cut(self, why: str) -> None:
        """Cut off the conversations under way, and each one that begins later."""
        with self._lock:
            self._over = why
            under_way = list(self._open)
        for allowance in under_way:
            allowance.cut(why)

    @property
    def are_over(self) -> bool:
        """Whether the conversations were cut off."""
        return bool(self._over)

    def begin(self, allowance: Allowance) -> None:
        """Add a conversation that begins."""
        with self._lock:
            self._open.add(allowance)
            over = self._over
        if over:
            allowance.cut(over)

    def end(self, allowance: Allowance) -> None:
        """Remove a conversation that ends."""
        with self._lock:
            self._open.discard(allowance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The limits of one conversation.

    Attributes:
        silence_seconds: The longest wait for an answer, or for the peer to read.
        whole_seconds: The longest time from connecting to the end, whatever the peer sends.
        most_bytes: Bytes that the peer may send in all.
        slowest: Bytes per second that the line is expected to carry.
        setting: The configuration key that allows more time; empty: there is none.
        under_way: The conversations that this one belongs to while it lasts.
    """

    silence_seconds: float
    whole_seconds: float
    most_bytes: int
    slowest: float = SLOWEST
    setting: str = ""
    under_way: Conversations | None = None

    @property
    def connect_seconds(self) -> float:
        """How long connecting, with the TLS handshake, may take."""
        return min(self.silence_seconds, _CONNECT_SECONDS)


def whole_seconds(
    silence_seconds: float, *, messages: int, content: int, slowest: float = SLOWEST
) -> float:
    """Return the time limit of a conversation with ``messages`` requests of ``content`` bytes.

    It is the longest silence for the beginning, the end and each answer, and the time that the
    content takes over a line of ``slowest`` bytes per second.
    """
    return silence_seconds * (2 + messages) + content / slowest


class Allowance:
    """Limits one conversation; a context manager.

    It holds duplicates of the sockets. Shutting a duplicate down ends the connection at any stage,
    in whatever thread it is read or written, and whoever wraps or closes the original.

    Attributes:
        spent: Why the conversation was cut off, for a person; empty while it was not.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.spent = ""
        self._bounds = bounds
        self._left = bounds.most_bytes
        self._lines: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(bounds.whole_seconds, self._end_of_time)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        if self._bounds.under_way is not None:
            self._bounds.under_way.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._bounds.under_way is not None:
            self._bounds.under_way.end(self)
        with self._lock:
            lines, self._lines = self._lines, []
        for line in lines:
            line.close()

    def hold(self, line: socket.socket) -> None:
        """Hold a socket, connected or not yet; cut it off at once if the conversation was."""
        with self._lock:
            self._lines.append(socket.socket(fileno=socket.dup(line.fileno())))
            late = self.spent
        if late:
            self.hang_up()

    def take(self, count: int) -> None:
        """Count bytes before or as soon as they are read into memory.

        Raises:
            CutOff: They exceed the limit; the conversation is cut off.
        """
        self._left -= count
        if self._left < 0:
            raise self.refuse(f"more than {self._bounds.most_bytes} bytes in all")

    def refuse(self, what: str) -> CutOff:
        """Cut the conversation off because the peer sends too much; return the error to raise."""
        self.cut(f"it sends too much: {what}")
        return CutOff(self.spent)

    def check(self, cause: Exception | None = None) -> None:
        """Check that the conversation was not cut off.

        Raises:
            CutOff: It was cut off.
        """
        if self.spent:
            raise CutOff(self.spent) from cause

    def cut(self, why: str) -> None:
        """Cut the conversation off, from any thread; the first reason is kept."""
        with self._lock:
            self.spent = self.spent or why
        self.hang_up()

    def hang_up(self) -> None:
        """Shut the connections down; their readers see the end of the stream."""
        with self._lock:
            for line in self._lines:
                with suppress(OSError):  # it is closed already
                    line.shutdown(socket.SHUT_RDWR)

    def _end_of_time(self) -> None:
        more = f"; {self._bounds.setting} allows more" if self._bounds.setting else ""
        seconds = self._bounds.whole_seconds
        self.cut(f"it takes too long: not at its end after {seconds:g} s{more}")
