"""The clock of the node: it is steady within a run, and records when the wall clock was set.

The clock of a machine may be hours off at boot and be corrected minutes later. A wait of two
seconds must not become a wait of two hours, and no result may be given up or deleted because the
clock jumped by a month. So the node counts time from its start with the monotonic clock. It
notices and records every jump of the wall clock, and leaves it out of every duration that decides
something (:meth:`NodeClock.skipped_since`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """Return the time of the machine's clock, with time zone UTC."""
    return datetime.now(UTC)


def nothing_skipped(since: datetime) -> timedelta:  # noqa: ARG001 - a clock that is never set
    """Return no time: :meth:`NodeClock.skipped_since` of a clock that is never set."""
    return timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A jump of the wall clock.

    Attributes:
        at: The time right after the jump.
        skipped: How far the clock was set ahead; negative if it was set back.
    """

    at: datetime
    skipped: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The present time with the start of steady time, read together so that they match.

    Attributes:
        steady_since: When the node began to listen, or the clock last jumped. That nothing arrived
            before then proves nothing.
    """

    now: datetime
    steady_since: datetime


class NodeClock:
    """Tells the present time and measures durations. Safe to use from several threads."""

    def __init__(
        self,
        *,
        jumps: Iterable[Jump] = (),
        wall: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at the time of ``wall``; ``jumps`` are the jumps of earlier runs."""
        self._lock = threading.Lock()
        self._wall = wall
        self._monotonic = monotonic
        self._anchor = wall()
        self._anchored_at = monotonic()
        self._jumps = list(jumps)
        self._steady_since = self._anchor

    def now(self) -> datetime:
        """Return the present time; it jumps only in :meth:`follow`."""
        with self._lock:
            return self._now()

    def moment(self) -> Moment:
        """Return the present time and the start of steady time."""
        with self._lock:
            return Moment(now=self._now(), steady_since=self._steady_since)

    def begin_to_listen(self) -> None:
        """Note that instances can arrive from now on."""
        with self._lock:
            self._steady_since = self._now()

    def deviation(self) -> timedelta:
        """Return how far the wall clock is ahead of this clock; negative if it is behind."""
        with self._lock:
            return self._wall() - self._now()

    def follow(self) -> Jump:
        """Set this clock to the wall clock; return the jump."""
        with self._lock:
            wall = self._wall()
            jump = Jump(at=wall, skipped=wall - self._now())
            self._jumps.append(jump)
            self._anchor, self._anchored_at = wall, self._monotonic()
            self._steady_since = wall
            return jump

    def skipped_since(self, since: datetime) -> timedelta:
        """Return how much of the time from ``since`` until now was skipped by jumps.

        Subtract it from a duration before that duration decides to give up or delete something.
        """
        with self._lock:
            return sum((jump.skipped for jump in self._jumps if jump.at > since), timedelta())

    def _now(self) -> datetime:
        return self._anchor + timedelta(seconds=self._monotonic() - self._anchored_at)
