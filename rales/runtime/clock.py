"""The time that the node decides by: steady within a run, corrected where the clock was set.

The clock of a machine may be hours off when it boots and be corrected minutes later. A wait of
two seconds must not become one of two hours then, and nothing may be given up or released
because a clock says that a month has passed. So the present is counted from the start by the
monotonic clock, and what the wall clock skipped meanwhile is noticed, recorded, and left out of
every duration that decides (:meth:`NodeClock.skipped_since`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """Return the time of this machine's clock as an aware datetime."""
    return datetime.now(UTC)


def nothing_skipped(since: datetime) -> timedelta:  # noqa: ARG001 - a clock that is never set
    """Stand in for :meth:`NodeClock.skipped_since` where the clock is never set."""
    return timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A stretch that the clock skipped.

    Attributes:
        at: The time right after it.
        skipped: How far the clock was set ahead; negative: set back.
    """

    at: datetime
    skipped: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The present, and since when it has been counted; read at once, so that they belong together.

    Attributes:
        steady_since: When the node began to listen or the clock last jumped: silence before it
            proves nothing.
    """

    now: datetime
    steady_since: datetime


class NodeClock:
    """The present, and how long something has lasted. Safe to use from several threads."""

    def __init__(
        self,
        *,
        jumps: Iterable[Jump] = (),
        wall: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at the time of ``wall``; ``jumps`` are those of earlier runs."""
        self._lock = threading.Lock()
        self._wall = wall
        self._monotonic = monotonic
        self._anchor = wall()
        self._anchored_at = monotonic()
        self._jumps = list(jumps)
        self._steady_since = self._anchor

    def now(self) -> datetime:
        """Return the present: it never jumps, but at :meth:`follow`."""
        with self._lock:
            return self._now()

    def moment(self) -> Moment:
        """Return the present with when it began."""
        with self._lock:
            return Moment(now=self._now(), steady_since=self._steady_since)

    def begin_to_listen(self) -> None:
        """Note that from now on something can arrive."""
        with self._lock:
            self._steady_since = self._now()

    def deviation(self) -> timedelta:
        """Return how far the wall clock is ahead of the present; negative: behind."""
        with self._lock:
            return self._wall() - self._now()

    def follow(self) -> Jump:
        """Take over the time of the wall clock; return the jump that this makes."""
        with self._lock:
            wall = self._wall()
            jump = Jump(at=wall, skipped=wall - self._now())
            self._jumps.append(jump)
            self._anchor, self._anchored_at = wall, self._monotonic()
            self._steady_since = wall
            return jump

    def skipped_since(self, since: datetime) -> timedelta:
        """Return how much of the time from ``since`` until now the clock only skipped.

        Take it off a duration before something is given up or released because of it.
        """
        with self._lock:
            return sum((one.skipped for one in self._jumps if one.at > since), timedelta())

    def _now(self) -> datetime:
        return self._anchor + timedelta(seconds=self._monotonic() - self._anchored_at)
