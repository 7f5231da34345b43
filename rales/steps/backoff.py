"""When a failed attempt is repeated, and when it is given up."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from rales.runtime.clock import nothing_skipped

LONGEST = 31
"""A number of attempts after which :meth:`BackOff.delay` has surely reached the longest pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Exponential pauses between attempts.

    Attributes:
        first: The pause after the first attempt; each further pause is twice as long.
        longest: No pause is longer.
        give_up_after: No attempt is repeated after this time.
        jitter: The part of a pause, 0 to 1, that chance may take away, so that items that failed
            together are not repeated together.
        skipped_since: The time since a moment that the clock skipped; it gives nothing up.
    """

    first: timedelta
    longest: timedelta
    give_up_after: timedelta
    jitter: float = 0.0
    skipped_since: Callable[[datetime], timedelta] = nothing_skipped

    def next_attempt(self, attempts: int, *, since: datetime, now: datetime) -> datetime | None:
        """Return when to repeat an item after ``attempts`` failures; None: give it up.

        The item exists since ``since``.
        """
        if now - since - self.skipped_since(since) > self.give_up_after:
            return None
        return now + self.delay(attempts)

    def delay(self, attempts: int) -> timedelta:
        """Return the pause after ``attempts`` failed attempts (1 or more)."""
        factor: float = 2.0 ** min(attempts - 1, LONGEST - 1)
        pause = min(self.first * factor, self.longest)
        return pause * (1.0 - self.jitter * random.random())  # noqa: S311 - no secret
