"""Waits for signals without missing one."""

from __future__ import annotations

import signal
import socket
from collections.abc import Collection
from types import TracebackType
from typing import Self


class Signals:
    """Queues signals instead of their default action; a context manager.

    Python runs handlers in the main thread only, and a signal that another thread receives does
    not always wake a lock on which the main thread waits: with a handler that set a
    ``threading.Event``, some stops hung. Every thread that receives a signal writes to the
    interpreter's wakeup descriptor, even before :meth:`wait` is called.

    Enter it in the main thread.
    """

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        self._numbers = numbers

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # noqa: FBT003 - its only argument
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno())
        self._before = {number: signal.signal(number, _ignore) for number in self._numbers}
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


def _ignore(number: int, frame: object) -> None:
    """Do nothing: without a handler, Python does not write to the wakeup descriptor."""
