"""When what failed is tried again, and when it is given up."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from rales.runtime.clock import nothing_skipped

_MANY = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Exponential: first, doubled each time up to longest; given up after a while.

    ``jitter`` is the part of a pause, 0 to 1, that chance may take away, so that what failed
    together is not tried again together. ``skipped_since`` says what the clock only skipped:
    nothing is given up for that.
    """

    first: timedelta
    longest: timedelta
    give_up_after: timedelta
    jitter: float = 0.0
    skipped_since: Callable[[datetime], timedelta] = nothing_skipped

    def is_spent(self, since: datetime, now: datetime) -> bool:
        """Tell whether what has been tried since ``since`` is to be given up."""
        return now - since - self.skipped_since(since) > self.give_up_after

    def delay(self, attempts: int) -> timedelta:
        """Return the pause after ``attempts`` failed attempts (1 or more)."""
        factor: float = 2.0 ** min(attempts - 1, _MANY - 1)
        pause = min(self.first * factor, self.longest)
        return pause * (1.0 - self.jitter * random.random())  # noqa: S311 - no secret

    def long_delay(self) -> timedelta:
        """Return the pause after what only a change at the other side can mend."""
        return self.delay(_MANY)
