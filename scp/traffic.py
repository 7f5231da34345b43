"""Knows which studies open associations are sending, and which arrive image by image.

It is kept in memory only: after a restart it is empty, and series wait for their quiet time.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from threading import Lock

from chestct.uids import Uid

_WHOLE_CHEST = 20
"""An association with fewer images of a study does not bring a whole chest."""
_SHORT_ASSOCIATIONS = 2
"""After this many short associations, Rales expects another short association."""


class Traffic:
    """The traffic of all associations; their threads report it, and other threads ask for it."""

    def __init__(
        self, *, window_seconds: float = 30.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Remember short associations for ``window_seconds``."""
        self._window = window_seconds
        self._monotonic = monotonic
        self._lock = Lock()
        self._open: Counter[Uid] = Counter()
        self._short: dict[Uid, deque[float]] = {}

    def began(self, study_uid: Uid) -> None:
        """Record that one more association sends a study."""
        with self._lock:
            self._open[study_uid] += 1

    def ended(self, study_uid: Uid, *, images: int) -> None:
        """Record that an association that sent ``images`` of a study has ended."""
        with self._lock:
            self._open[study_uid] -= 1
            if self._open[study_uid] <= 0:
                del self._open[study_uid]
            now = self._monotonic()
            for uid in [u for u, ends in self._short.items() if not self._recent(ends, now)]:
                del self._short[uid]
            if images < _WHOLE_CHEST:
                self._short.setdefault(study_uid, deque(maxlen=_SHORT_ASSOCIATIONS)).append(now)

    def is_busy(self, study_uid: Uid) -> bool:
        """Return whether more images of a study are expected.

        They are if an association that has sent images of the study is open, or if two short
        associations ended within the window.
        """
        with self._lock:
            if self._open[study_uid] > 0:
                return True
            ends = self._short.get(study_uid, deque())
            return self._recent(ends, self._monotonic()) >= _SHORT_ASSOCIATIONS

    def _recent(self, ends: deque[float], now: float) -> int:
        return sum(now - end <= self._window for end in ends)
