"""Counts what the receiver refuses, and writes the counts down beside its way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from threading import Lock

from chestct.errors import OutOfResources
from chestct.text import printable
from rales.state.store.refusals import OTHER_REASONS, OTHERS, Refusal, RefusalStore
from scp.ports import Peer, Refused

_MOST_WAITING = 1000
"""Different refusals that are counted one by one until they are written."""
_REASON = 200


class RefusalCounter:
    """The receiver's :class:`scp.ports.RefusalCounter`; :meth:`step` is the step of a loop.

    A refusal only counts up a number in memory. What a crash takes of these is a second's.
    """

    def __init__(self, store: RefusalStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[tuple[Peer, Refused, str], Refusal] = {}
        self._lock = Lock()

    def refused(self, peer: Peer, kind: Refused, reason: str) -> None:
        """Count a refusal; neither waits nor raises."""
        now = self._clock()
        with self._lock:
            key = (peer, kind, printable(reason, _REASON))
            if key not in self._waiting and len(self._waiting) >= _MOST_WAITING:
                key = (OTHERS, kind, OTHER_REASONS)
            self._count(key, 1, now, now)

    def step(self, _: datetime | None = None) -> None:
        """Write down what was counted; what cannot be written now waits.

        Raises:
            OutOfResources: The state file cannot be written now.
        """
        with self._lock:
            taken, self._waiting = self._waiting, {}
        if not taken:
            return
        try:
            self._store.add(list(taken.values()))
        except BaseException:
            with self._lock:
                for key, one in taken.items():
                    self._count(key, one.count, one.first_at, one.last_at)
            raise

    def close(self) -> None:
        """Write down what is left, if that is possible."""
        with suppress(OutOfResources):
            self.step()

    def _count(
        self, key: tuple[Peer, Refused, str], count: int, first: datetime, last: datetime
    ) -> None:
        known = self._waiting.get(key)
        self._waiting[key] = Refusal(
            peer=key[0],
            kind=key[1],
            reason=key[2],
            count=count + (known.count if known else 0),
            first_at=min(first, known.first_at) if known else first,
            last_at=max(last, known.last_at) if known else last,
        )
