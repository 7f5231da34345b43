"""A gate for pynetdicom's reactor thread, so that it takes no response from a waiting caller.

In pynetdicom 3.0.4 a service user clears the checkpoint of the association's reactor before it
sends, and waits for ``_is_paused``. The reactor sets that flag *before* it waits at the
checkpoint. The user may therefore see the flag while the reactor passes an open checkpoint; the
reactor then takes the response off the queue ("Received unexpected C-STORE service message") and
the request times out. :meth:`ReactorGate.close_and_wait` returns only when the reactor waits.
"""

from __future__ import annotations

from threading import Condition
from typing import Any

from pynetdicom.association import Association

_PARK_SECONDS = 0.1


class ReactorGate:
    """Replaces the association's ``_reactor_checkpoint``, a ``threading.Event``."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._open = True
        self._waiting = False

    def set(self) -> None:
        """Open the gate."""
        with self._condition:
            self._open = True
            self._condition.notify_all()

    def clear(self) -> None:
        """Close the gate."""
        with self._condition:
            self._open = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the gate is open; the reactor calls this."""
        with self._condition:
            self._waiting = not self._open
            self._condition.notify_all()
            passed = self._condition.wait_for(lambda: self._open, timeout)
            self._waiting = False
            return passed

    def close_and_wait(self, timeout: float) -> bool:
        """Close the gate, wait for the reactor to stop at it, and return whether it did."""
        with self._condition:
            self._open = False
            return self._condition.wait_for(lambda: self._waiting, timeout)


def put_gate(association: Association) -> None:
    """Give an association that has not started a reactor gate."""
    whole: Any = association
    whole._reactor_checkpoint = ReactorGate()  # noqa: SLF001 - it has no public name


def gate_of(association: Association) -> ReactorGate:
    """Return the gate of an association."""
    whole: Any = association
    gate: ReactorGate = whole._reactor_checkpoint  # noqa: SLF001 - likewise
    return gate


def park_reactor(association: Association) -> bool:
    """Park the reactor before a request; return whether the association still stands.

    Waits for a reactor that is busy (on a starved machine): a request that is sent before the
    reactor is parked may lose its response.
    """
    while association.is_established and association.is_alive():
        if gate_of(association).close_and_wait(_PARK_SECONDS):
            return True
    return False
