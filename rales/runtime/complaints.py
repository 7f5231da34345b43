"""Logs unexpected exceptions so that one that repeats itself does not fill the log."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable

_PAUSE = 600.0
"""Seconds in which the repetitions of an exception are only counted."""
_MOST = 100
"""Different exceptions that are remembered."""


class Complaints:
    """Says the first of each kind of exception with its traceback, the others as a number.

    Of one kind are exceptions of the same type that were raised in the same line for the same
    purpose.
    """

    def __init__(
        self, log: logging.Logger, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._lock = threading.Lock()
        self._said: dict[tuple[str, ...], tuple[float, int]] = {}

    def say(self, what: str, error: Exception) -> None:
        """Log ``error``, which was met in ``what``, unless it was said a short while ago."""
        kind, now = (what, *_origin(error)), self._seconds()
        with self._lock:
            since, unsaid = self._said.get(kind, (None, 0))
            if since is not None and now - since < _PAUSE:
                self._said[kind] = (since, unsaid + 1)
                return
            while len(self._said) >= _MOST:
                del self._said[next(iter(self._said))]
            self._said[kind] = (now, 0)
        if since is None:
            self._log.error(
                "%s: %s; what repeats itself is only counted",
                what,
                type(error).__name__,
                exc_info=error,
            )
        else:
            self._log.error("%s: %s again, %d times", what, type(error).__name__, unsaid + 1)


def _origin(error: Exception) -> tuple[str, str]:
    """Return the type of an exception, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return type(error).__qualname__, where
