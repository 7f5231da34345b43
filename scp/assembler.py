"""Is this series complete? A pure decision on what is known of it.

A PACS does not say when a series ends. Ordered evidence, the first that holds counts:
the sender stated the number of instances and all are here; or the association has ended,
the slices are contiguous, and nothing more came for the settle time; or nothing came for
the quiet time.

A multi-frame image is a stack by itself, so that one counts as contiguous slices do. What it
announces, the parts of its concatenation, is the least that is waited for: a series may hold
other images beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

_UNEVEN = 0.1
"""A step that differs from the usual one by more than this part of it is a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a series that is being received.

    Attributes:
        count: Instances that are here.
        expected: Number of Series Related Instances, where the sender states it; of multi-frame
            images, the parts of the longest concatenation.
        positions: Of each instance, the distance along the slice normal in mm; None where
            its header gives none.
        last_received_at: When the last instance came.
        association_ended_at: When the last association that sent some of it ended; None
            while one is open.
        multi_frame: Every instance is a multi-frame image.
    """

    count: int
    expected: int | None
    positions: tuple[float | None, ...]
    last_received_at: datetime
    association_ended_at: datetime | None
    multi_frame: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionPolicy:
    """How long to wait; see the module."""

    settle_seconds: float = 2.0
    quiet_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The series is complete; ``reason`` says by which evidence."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil:
    """The series may be complete at ``at``, if nothing comes before."""

    at: datetime
    reason: str


def decide(evidence: Evidence, policy: CompletionPolicy, now: datetime) -> Complete | WaitUntil:
    """Decide on the evidence at ``now``; never waits longer than the evidence needs."""
    announced = evidence.expected is not None
    all_here = evidence.expected is not None and evidence.count >= evidence.expected
    if all_here and not evidence.multi_frame:
        return Complete(reason=f"all {evidence.expected} instances that the sender announced")
    quiet_at = evidence.last_received_at + timedelta(seconds=policy.quiet_seconds)
    ended = evidence.association_ended_at
    if evidence.multi_frame:
        enough, what = all_here or not announced, "multi-frame image whole"
    else:
        enough, what = not announced and is_contiguous(evidence.positions), "slices contiguous"
    if ended is not None and enough:
        last = max(ended, evidence.last_received_at)
        settled_at = min(last + timedelta(seconds=policy.settle_seconds), quiet_at)
        return _at(settled_at, now, f"association ended, {what}, settled")
    return _at(quiet_at, now, f"nothing for {policy.quiet_seconds:g} s")


def _at(due: datetime, now: datetime, reason: str) -> Complete | WaitUntil:
    return Complete(reason=reason) if now >= due else WaitUntil(at=due, reason=reason)


def is_contiguous(positions: tuple[float | None, ...]) -> bool:
    """Tell whether slices lie at even steps without a gap; two at least are needed."""
    known = sorted(position for position in positions if position is not None)
    if len(known) < max(2, len(positions)):
        return False
    steps = [after - before for before, after in pairwise(known)]
    usual = sorted(steps)[len(steps) // 2]
    return usual > 0 and all(abs(step - usual) <= _UNEVEN * usual for step in steps)
