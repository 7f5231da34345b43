"""Notices that somebody set the clock of the machine, and reports it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from rales.runtime.clock import Jump, NodeClock, utc_now
from rales.state.store.clock import ClockStore

_LOG = logging.getLogger(__name__)

_TOLERANCE = timedelta(seconds=1)
"""Time services correct smaller differences gradually."""
_LOOK_EVERY = timedelta(seconds=1)
_NOTE_EVERY = timedelta(minutes=1)
_LONG_STOP = timedelta(hours=1)


def resumed_clock(
    store: ClockStore,
    *,
    wall: Callable[[], datetime] = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
) -> NodeClock:
    """Return the clock of a starting node; record the time that it skipped since it last ran.

    A node that was off for a month looks like a clock that was set a month ahead. Neither gives up
    a delivery or releases an image: durations count only the time that the node runs.
    """
    now, seen = wall(), store.seen()
    if seen is None:
        store.note_running(now)
        return NodeClock(wall=wall, monotonic=monotonic)
    gap = Jump(at=now, skipped=now - seen)
    store.record_stop(gap)
    if gap.skipped < -_TOLERANCE:
        _LOG.warning(
            "the clock is %s behind the time at which this node last ran (%s): it was set back."
            " Waits keep their length. Check the time service",
            -gap.skipped,
            f"{seen:%Y-%m-%d %H:%M:%S} UTC",
        )
    elif gap.skipped > _LONG_STOP:
        _LOG.info(
            "this node last ran %s ago; retention and giving up do not count that time",
            gap.skipped,
        )
    return NodeClock(jumps=store.jumps(), wall=wall, monotonic=monotonic)


class ClockWatch:
    """One step of the loop that compares the node's time with the machine's clock."""

    def __init__(self, clock: NodeClock, store: ClockStore) -> None:
        self._clock = clock
        self._store = store
        self._noted = clock.now()

    def step(self, now: datetime) -> datetime:
        """Follow a clock that was set; record now and then that the node runs."""
        if abs(self._clock.deviation()) > _TOLERANCE:
            jump = self._store.follow(self._clock.follow)
            self._noted = jump.at
            _LOG.warning(
                "the clock was set %s by %s; waits, retention and giving up leave that out",
                "ahead" if jump.skipped > timedelta() else "back",
                abs(jump.skipped),
            )
            return jump.at + _LOOK_EVERY
        if now - self._noted >= _NOTE_EVERY:
            self._store.note_running(now)
            self._noted = now
        return now + _LOOK_EVERY
