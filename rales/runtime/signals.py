"""Signals to the node, waited for without a gap."""

from __future__ import annotations

import signal
import socket
from collections.abc import Collection
from types import TracebackType
from typing import Self


class Signals:
    """Takes signals from their default action and queues them; a context manager.

    Python runs a handler in the main thread only, and a lock that waits there is not always woken
    by a signal that another thread took: with a ``threading.Event`` set by a handler some stops
    hung. The interpreter's wakeup descriptor is written to by whichever thread takes the signal,
    also before anybody waits.

    To be entered in the main thread.
    """

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        self._numbers = numbers

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # noqa: FBT003 - its only argument
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno())
        self._before = {number: signal.signal(number, _leave) for number in self._numbers}
        return self

    def wait(self) -> signal.Signals:
        """Return the next signal."""
        return signal.Signals(self._reader.recv(1)[0])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._reader.close()
        self._writer.close()


def _leave(number: int, frame: object) -> None:
    """Do nothing: a handler has to be there for the descriptor to be written to."""
