"""A gate for pynetdicom's reactor thread, so that no response is lost.

In pynetdicom 3.0.4 a service user pauses the reactor of its association before it sends and
waits for ``_is_paused``. The reactor sets that flag *before* it looks at the gate, so the
user can see it while the reactor is on its way through an open gate; the reactor then takes
the response off the queue ("Received unexpected C-STORE service message") and the request
times out. :meth:`Gate.close_and_wait` returns only when the reactor stands at the gate.
"""

from __future__ import annotations

from threading import Condition


class Gate:
    """Stands in for the association's ``_reactor_checkpoint``, a ``threading.Event``."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._open = True
        self._waiting = False

    def is_set(self) -> bool:
        """Tell whether the gate is open."""
        return self._open

    def set(self) -> None:
        """Open the gate."""
        with self._condition:
            self._open = True
            self._condition.notify_all()

    def clear(self) -> None:
        """Close the gate for whoever comes next."""
        with self._condition:
            self._open = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at the gate until it is open (the reactor calls this)."""
        with self._condition:
            self._waiting = not self._open
            self._condition.notify_all()
            passed = self._condition.wait_for(lambda: self._open, timeout)
            self._waiting = False
            return passed

    def close_and_wait(self, timeout: float) -> bool:
        """Close the gate and wait until the reactor stands at it; tell whether it does."""
        with self._condition:
            self._open = False
            return self._condition.wait_for(lambda: self._waiting, timeout)
