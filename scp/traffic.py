"""Which studies associations are bringing right now, and which come image by image.

Known in memory only: after a restart nothing is known, and series wait their quiet time.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from threading import Lock

from chestct.uids import Uid

_FEW = 20
"""Images of a study; an association that brings fewer brings no whole chest."""
_RHYTHM = 2
"""So many short associations one after another announce the next one."""


class Traffic:
    """Is told of every association, from its thread; is asked from others."""

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
        """Note that one more association is bringing a study."""
        with self._lock:
            self._open[study_uid] += 1

    def ended(self, study_uid: Uid, *, images: int) -> None:
        """Note that an association that brought ``images`` of a study has ended."""
        with self._lock:
            self._open[study_uid] -= 1
            if self._open[study_uid] <= 0:
                del self._open[study_uid]
            now = self._monotonic()
            for uid in [one for one, ends in self._short.items() if not self._recent(ends, now)]:
                del self._short[uid]
            if images < _FEW:
                self._short.setdefault(study_uid, deque(maxlen=_RHYTHM)).append(now)

    def is_busy(self, study_uid: Uid) -> bool:
        """Tell whether more of a study is to be expected.

        An association that brought some of it is open, or several short ones followed each
        other.
        """
        with self._lock:
            if self._open[study_uid] > 0:
                return True
            ends = self._short.get(study_uid, deque())
            return self._recent(ends, self._monotonic()) >= _RHYTHM

    def _recent(self, ends: deque[float], now: float) -> int:
        return sum(now - end <= self._window for end in ends)
