"""What systemd is told of the node's life (sd_notify(3)): ready, stopping, alive."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

_LOG = logging.getLogger(__name__)


class Notifier:
    """Sends states to the socket that systemd named in NOTIFY_SOCKET; without one, nowhere."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of Linux' abstract names.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def __call__(self, state: str) -> None:
        """Send one state, such as ``READY=1``; a lost message is logged, never raised."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.settimeout(1.0)
                end.sendto(state.encode(), self._address)
        except OSError as error:
            _LOG.warning("systemd could not be told %s: %s", state, error)


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return how often systemd wants to hear of this process, or None when it does not."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None


class Pulse:
    """Pings the watchdog while every loop that must not stand still gets round.

    The ping is sent by one of these loops, not by a thread that does nothing else: there is
    none when it hangs on a lock, on the state file, on a disk that does not answer.
    Deliveries do not count: a slow destination is no fault of the node.
    """

    def __init__(
        self,
        send: Callable[[str], None],
        *,
        patience: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._patience = patience
        self._clock = clock
        self._last: dict[str, float] = {}
        self._pinged = float("-inf")

    def expect(self, name: str) -> Callable[[], object]:
        """Return what the loop ``name`` calls each time it gets round."""
        self._last[name] = self._clock()
        return lambda: self._note(name)

    def lead(self, name: str) -> Callable[[], None]:
        """Return the same for the one loop that sends the ping."""
        self._last[name] = self._clock()
        return lambda: self._ping(self._note(name))

    def _note(self, name: str) -> float:
        now = self._last[name] = self._clock()
        return now

    def _ping(self, now: float) -> None:
        if self._patience is None or now - self._pinged < self._patience / 4:
            return
        late = [one for one, last in self._last.items() if now - last > self._patience]
        if late:
            _LOG.error("no sign of life from %s: the watchdog is not answered", ", ".join(late))
        else:
            self._send("WATCHDOG=1")
        self._pinged = now
