"""A thread that repeats a step and sleeps until the next step is due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from rales.runtime.clock import utc_now
from rales.runtime.loglimit import LogLimiter

_LOG = logging.getLogger(__name__)

_LONGEST_SLEEP = 1.0
"""Seconds. ``rales retry`` changes the state file from another process and cannot wake a loop."""
_FIRST_FAILURE, _LONGEST_FAILURE = 1.0, 10.0
"""Seconds of the pause after a step that raised; the pause doubles with each failure in a row."""
_QUICK = 0.05
"""Seconds; a step that takes less and is due again at once may be spinning."""
_FIRST_FLOOR, _LONGEST_FLOOR = 0.005, 0.1
"""Seconds of the pause between such steps; the pause doubles with each of them."""


class Loop:
    """Runs ``step`` repeatedly in a thread of its own.

    ``step`` receives the present time and returns when it is due again, or None: when woken.
    A step that raises is logged and repeated after a pause. A step that is always due is slowed
    down. In both cases the node keeps serving.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[datetime], datetime | None],
        *,
        on_beat: Callable[[], object] = lambda: None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Call ``on_beat`` before each step, which is about once a second while idle.

        ``clock`` tells the present time; the times that ``step`` returns are compared with it.
        """
        self._clock = clock
        self._step = step
        self._on_beat = on_beat
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._limiter = LogLimiter(_LOG)
        self._failures = 0
        self._floor = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Run the next step now, unless the last step failed."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        """End the thread after its current step."""
        self._stop.set()
        self._wake.set()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end; return whether it ended."""
        self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._on_beat()
            began = time.monotonic()
            try:
                due = self._step(self._clock())
            except Exception as error:  # noqa: BLE001 - the node keeps serving after any error
                self._limiter.exception(f"{self._thread.name}: a step failed", error)
                self._rest()
                continue
            self._failures = 0
            pause = self._pause(due, time.monotonic() - began)
            if not self._stop.wait(self._floor):
                self._wake.wait(pause)

    def _rest(self) -> None:
        """Wait after a step that raised, even if woken; longer with each failure in a row."""
        seconds = min(_LONGEST_FAILURE, _FIRST_FAILURE * 2.0 ** min(self._failures, 10))
        self._failures += 1
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stop.wait(
            min(left, _LONGEST_SLEEP)
        ):
            self._on_beat()

    def _pause(self, due: datetime | None, took: float) -> float:
        """Return how long to wait for a wake-up; set the floor that is waited in any case."""
        pause = _LONGEST_SLEEP
        if due is not None:
            pause = min(pause, max(0.0, (due - self._clock()).total_seconds()))
        spins = not pause and took < _QUICK
        self._floor = min(_LONGEST_FLOOR, max(_FIRST_FLOOR, 2 * self._floor)) if spins else 0.0
        return pause
