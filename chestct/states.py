"""The states of a job and of a delivery, and the legal transitions of a job."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job."""

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
"""The states that may follow each state.

Only ``rales retry`` moves a job from REJECTED or FAILED to READY, or from DONE or FAILED to
COMPOSED. A job returns from ANALYSING to RECEIVING when its images changed or more may arrive.
SUPERSEDED needs a later revision."""


class DeliveryState(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    STORED = "stored"
    """The destination has the object and has not yet committed to keep it (PS3.4 annex J)."""
    DELIVERED = "delivered"
    REFUSED = "refused"
    REPLACED = "replaced"
    """Refused; the fallback of the configuration was planned instead."""
    WITHDRAWN = "withdrawn"
    """No longer sent: a newer revision replaced it, or the destination left the configuration."""


def may_follow(before: JobState, after: JobState) -> bool:
    """Return whether ``after`` may follow ``before``."""
    return after in LEGAL[before]
