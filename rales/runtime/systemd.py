"""Reports the state of the node to systemd (sd_notify(3)): ready, stopping, alive."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

_LOG = logging.getLogger(__name__)


class Notifier:
    """Sends states to the socket named by NOTIFY_SOCKET; does nothing without such a socket."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of Linux' abstract names.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def __call__(self, state: str) -> None:
        """Send one state, such as ``READY=1``; a failure is logged, never raised."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(1.0)
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            _LOG.warning("systemd did not receive %s: %s", state, error)


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return the watchdog interval that systemd asks of this process; None without a watchdog."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None


class Watchdog:
    """Pings systemd's watchdog while every watched loop makes progress.

    One of the loops sends the ping, not a thread of its own: if that loop hangs on a lock, on the
    state file or on a disk, the ping stops too. Deliveries are not watched: a slow destination is
    not a fault of the node.
    """

    def __init__(
        self,
        send: Callable[[str], None],
        *,
        limit_seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._limit = limit_seconds
        self._clock = clock
        self._last: dict[str, float] = {}
        self._pinged = float("-inf")

    def watch_loop(self, name: str) -> Callable[[], object]:
        """Watch the loop ``name``; return the function that it calls in each turn."""
        self._last[name] = self._clock()
        return lambda: self._note(name)

    def drive_watchdog(self, name: str) -> Callable[[], None]:
        """Do the same for the loop that also sends the ping."""
        self._last[name] = self._clock()
        return lambda: self._ping(self._note(name))

    def _note(self, name: str) -> float:
        now = self._last[name] = self._clock()
        return now

    def _ping(self, now: float) -> None:
        if self._limit is None or now - self._pinged < self._limit / 4:
            return
        late = [name for name, last in self._last.items() if now - last > self._limit]
        if late:
            _LOG.error(
                "no progress within %g s: %s; systemd's watchdog is not pinged and will restart "
                "the node",
                self._limit,
                ", ".join(late),
            )
        else:
            self._send("WATCHDOG=1")
        self._pinged = now
