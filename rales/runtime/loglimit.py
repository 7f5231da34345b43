"""Keeps messages that repeat from filling the log."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable

_PAUSE_SECONDS = 600.0
"""Repetitions within this time are counted, not logged."""
_MOST_MESSAGES = 100
"""Different messages that are remembered."""


class LogLimiter:
    """Logs the first of several equal messages; later only how many followed.

    Two exceptions are equal if they have the same type and were raised by the same line during
    the same activity. Safe to use from several threads.
    """

    def __init__(
        self, log: logging.Logger, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._lock = threading.Lock()
        self._logged: dict[tuple[str, ...], tuple[float, int]] = {}

    def exception(self, activity: str, error: Exception) -> None:
        """Log an unexpected ``error`` of ``activity``, the first time with its traceback."""
        kind = type(error).__name__
        repetitions = self._repetitions((activity, *_origin(error)))
        if repetitions == 0:
            self._log.error("%s: %s; repetitions are only counted", activity, kind, exc_info=error)
        elif repetitions:
            self._log.error("%s: %s again, %d times", activity, kind, repetitions)

    def warning(self, message: str) -> None:
        """Log a warning."""
        repetitions = self._repetitions((message,))
        if repetitions == 0:
            self._log.warning("%s", message)
        elif repetitions:
            self._log.warning("%s: again, %d times", message, repetitions)

    def _repetitions(self, message: tuple[str, ...]) -> int | None:
        """Return how often a message was repeated since it was last logged.

        0: it is new. None: it was logged a short while ago, and must not be logged now.
        """
        now = self._seconds()
        with self._lock:
            since, unlogged = self._logged.get(message, (None, 0))
            if since is not None and now - since < _PAUSE_SECONDS:
                self._logged[message] = (since, unlogged + 1)
                return None
            while len(self._logged) >= _MOST_MESSAGES:
                del self._logged[next(iter(self._logged))]
            self._logged[message] = (now, 0)
        return 0 if since is None else unlogged + 1


def _origin(error: Exception) -> tuple[str, str]:
    """Return the type of an exception, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    line = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return type(error).__qualname__, line
