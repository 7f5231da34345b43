"""What a conversation with another system may cost: so many bytes, in so much time as a whole.

A time limit for each read does not hold one that trickles, and what is read into memory is for
the other side to say, unless it is counted. So one mechanism stands behind every conversation
that this node begins, over whatever protocol: it knows the sockets, counts what they bring, and
cuts them off from outside when the time is up or the node stops.

What it cannot bound is the look-up of a host name, which the operating system does.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

SLOWEST = 50_000.0
"""Bytes a second that a line is expected to carry."""
_CONNECT_SECONDS = 10.0


class CutOff(ConnectionAbortedError):
    """A conversation was cut off; the message says why."""


class Conversations:
    """Those under way, to be cut off all together when the node stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Allowance] = set()
        self._over = ""

    def cut(self, why: str) -> None:
        """Cut off those under way, and each that begins from now on."""
        with self._lock:
            self._over = why
            present = list(self._open)
        for one in present:
            one.cut(why)

    @property
    def are_over(self) -> bool:
        """Whether they were cut off."""
        return bool(self._over)

    def begin(self, one: Allowance) -> None:
        """Count one among those under way."""
        with self._lock:
            self._open.add(one)
            over = self._over
        if over:
            one.cut(over)

    def end(self, one: Allowance) -> None:
        """Forget one."""
        with self._lock:
            self._open.discard(one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one conversation may take.

    Attributes:
        silence_seconds: The longest wait for an answer, or for the other side to read.
        whole_seconds: From the connecting to the end, however much it says in between.
        most_bytes: That the other side may send in all.
        slowest: Bytes a second that the line is expected to carry.
        setting: Which configuration key allows more time; empty: none does.
        under_way: Where it is counted while it lasts.
    """

    silence_seconds: float
    whole_seconds: float
    most_bytes: int
    slowest: float = SLOWEST
    setting: str = ""
    under_way: Conversations | None = None

    @property
    def connect_seconds(self) -> float:
        """How long a connection, with its TLS handshake, may take to be made."""
        return min(self.silence_seconds, _CONNECT_SECONDS)


def whole_seconds(
    silence_seconds: float, *, messages: int, content: int, slowest: float = SLOWEST
) -> float:
    """Return the time for a conversation of so many requests with so many bytes to send.

    The longest silence for the beginning, for the end and for each answer, and the time that
    the content takes over a line of ``slowest`` bytes a second.
    """
    return silence_seconds * (2 + messages) + content / slowest


class Allowance:
    """Watches one conversation; a context manager that ends with it.

    It holds duplicates of the sockets: to shut one of those down ends the connection, at whatever
    stage it is, in whatever thread it is read or written, and whoever wraps or closes the other.

    Attributes:
        spent: Why it was cut off, for a person; empty while it was not.
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
        """Watch a socket, connected or not yet; at once cut it off when it is too late."""
        with self._lock:
            self._lines.append(socket.socket(fileno=socket.dup(line.fileno())))
            late = self.spent
        if late:
            self.hang_up()

    def take(self, count: int) -> None:
        """Count bytes before they are read into memory, or as soon as they are.

        Raises:
            CutOff: There are too many; the connections are cut.
        """
        self._left -= count
        if self._left < 0:
            raise self.refuse(f"more than {self._bounds.most_bytes} bytes in all")

    def refuse(self, what: str) -> CutOff:
        """Cut the connections off, for being sent so much; return what to raise."""
        self.cut(f"it sends too much: {what}")
        return CutOff(self.spent)

    def check(self, cause: Exception | None = None) -> None:
        """See that the conversation was not cut off.

        Raises:
            CutOff: It was.
        """
        if self.spent:
            raise CutOff(self.spent) from cause

    def cut(self, why: str) -> None:
        """Cut the connections off, from any thread; the first reason counts."""
        with self._lock:
            self.spent = self.spent or why
        self.hang_up()

    def hang_up(self) -> None:
        """Shut the connections down; whoever reads from them reads their end."""
        with self._lock:
            for line in self._lines:
                with suppress(OSError):  # it is closed already
                    line.shutdown(socket.SHUT_RDWR)

    def _end_of_time(self) -> None:
        more = f"; {self._bounds.setting} allows more" if self._bounds.setting else ""
        seconds = self._bounds.whole_seconds
        self.cut(f"it takes too long: not at its end after {seconds:g} s{more}")
