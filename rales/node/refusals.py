"""Counts the refusals of the receiver, and writes the counts to the state file later."""

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
"""Different refusals to count each by itself until they are written."""
_REASON = 200


class RefusalCounter:
    """The receiver's :class:`scp.ports.RefusalCounter`; :meth:`step` is the step of a loop.

    A refusal only increases a number in memory; a crash loses the refusals of a second.
    """

    def __init__(self, store: RefusalStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[tuple[Peer, Refused, str], Refusal] = {}
        self._lock = Lock()

    def refused(self, peer: Peer, kind: Refused, reason: str) -> None:
        """Count a refusal; never wait or raise."""
        now = self._clock()
        with self._lock:
            key = (peer, kind, printable(reason, _REASON))
            if key not in self._waiting and len(self._waiting) >= _MOST_WAITING:
                key = (OTHERS, kind, OTHER_REASONS)
            self._count(key, 1, now, now)

    def step(self, _: datetime | None = None) -> None:
        """Write the counts; counts that cannot be written now wait.

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
                for key, refusal in taken.items():
                    self._count(key, refusal.count, refusal.first_at, refusal.last_at)
            raise

    def close(self) -> None:
        """Write the remaining counts, if that is possible."""
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
