"""The life of a job and of a delivery: names and legal transitions."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a series stands."""

    RECEIVING = "receiving"
    READY = "ready"
    ANALYSING = "analysing"
    COMPOSED = "composed"
    DELIVERING = "delivering"
    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"
    SUPERSEDED = "superseded"


LEGAL: dict[JobState, frozenset[JobState]] = {
    JobState.RECEIVING: frozenset({JobState.READY, JobState.REJECTED}),
    JobState.READY: frozenset({JobState.ANALYSING, JobState.SUPERSEDED}),
    JobState.ANALYSING: frozenset(
        {
            JobState.RECEIVING,
            JobState.READY,
            JobState.COMPOSED,
            JobState.REJECTED,
            JobState.FAILED,
            JobState.SUPERSEDED,
        }
    ),
    JobState.COMPOSED: frozenset({JobState.DELIVERING, JobState.FAILED, JobState.SUPERSEDED}),
    JobState.DELIVERING: frozenset({JobState.DONE, JobState.FAILED, JobState.SUPERSEDED}),
    JobState.DONE: frozenset({JobState.COMPOSED, JobState.READY}),
    JobState.REJECTED: frozenset({JobState.READY}),
    JobState.FAILED: frozenset({JobState.READY, JobState.COMPOSED}),
    JobState.SUPERSEDED: frozenset(),
}
"""From each state, the states that may follow. READY after REJECTED or FAILED, and
COMPOSED after DONE or FAILED, happen only by hand (``rales retry``). RECEIVING after ANALYSING:
the images are others by now, or more of them may come. SUPERSEDED needs a later revision."""


class DeliveryState(StrEnum):
    """Where one object stands at one destination."""

    PENDING = "pending"
    STORED = "stored"
    """Taken by a destination that has yet to commit to keep it (PS3.4 annex J)."""
    DELIVERED = "delivered"
    REFUSED = "refused"
    REPLACED = "replaced"
    """Refused, and what the configuration names in its place was planned."""
    WITHDRAWN = "withdrawn"
    """Not sent (any more): a newer revision took over first, or its destination is not
    configured any more."""


def may_follow(before: JobState, after: JobState) -> bool:
    """Tell whether ``after`` is a legal successor of ``before``."""
    return after in LEGAL[before]
