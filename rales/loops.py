"""A thread that does one step again and again, sleeping until the next one is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from rales.clock import utc_now

_LOG = logging.getLogger(__name__)

_LONGEST_SLEEP = 1.0
"""Seconds; ``rales retry`` changes the state file from outside and cannot wake a loop."""


class Loop:
    """Runs ``step`` in a thread of its own.

    ``step`` gets the present and returns when it wants to be called next, or None for
    "when woken". A step that raises is logged and tried again: the node keeps serving.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[datetime], datetime | None],
        *,
        on_beat: Callable[[], object] = lambda: None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Call ``on_beat`` before each step: about once a second while nothing is to do.

        ``clock`` says what the present is; times that ``step`` returns are compared with it.
        """
        self._clock = clock
        self._step = step
        self._on_beat = on_beat
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next step done now."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        """Have the thread end after its present step."""
        self._stopping = True
        self._wake.set()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end; tell whether it has."""
        self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._on_beat()
            due: datetime | None = None
            try:
                due = self._step(self._clock())
            except Exception:  # noqa: BLE001 - whatever it was, the node goes on serving
                _LOG.exception("%s: a step failed; it will be tried again", self._thread.name)
            if not self._stopping:
                self._wake.wait(self._pause(due))

    def _pause(self, due: datetime | None) -> float:
        if due is None:
            return _LONGEST_SLEEP
        return min(_LONGEST_SLEEP, max(0.0, (due - self._clock()).total_seconds()))
