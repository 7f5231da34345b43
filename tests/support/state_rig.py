"""A state file with its stores, and a clock that a test sets by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fakes import ManualClock
from latest import latest_of_series

from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid, derive_uid
from rales.state.store import Database, InstanceStore, Job, JobStore

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SERIES = "1.2.3"


def received_instance(
    path: Path, *, series: str = SERIES, number: int = 1, **changes: Any
) -> ReceivedInstance:
    """Return the record of a CT image received at noon; ``changes`` replaces fields."""
    fields: dict[str, Any] = {
        "path": path,
        "sop_class_uid": Uid("1.2.840.10008.5.1.4.1.1.2"),
        "sop_instance_uid": derive_uid(series, str(number)),
        "series_uid": Uid(series),
        "study_uid": Uid("1.2"),
        "patient_key": "p",
        "transfer_syntax_uid": Uid("1.2.840.10008.1.2.1"),
        "content_digest": f"{series}-{number}",
        "size": 10,
        "received_at": NOON,
        "calling_ae": "CT1",
        "slice_position": float(number),
    }
    return ReceivedInstance(**(fields | changes))


class StateRig:
    """The part of a node that every rig shares: its stores and its clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.jobs = JobStore(database)
        self.instances = InstanceStore(database, on_change=lambda: None)
        self.clock = ManualClock(NOON)

    def newest(self, series: str = SERIES) -> Job:
        """Return the newest revision of a series."""
        job = latest_of_series(self.jobs, series)
        assert job is not None
        return job

    def mark_ready(self, series: str = SERIES, *, hold_until: datetime | None = None) -> Job:
        """Declare the newest revision of a series complete, as the assembly does."""
        job = self.newest(series)
        received = Series.of(self.instances.of_series(job.series_uid))
        self.jobs.mark_ready(
            job,
            instances_digest=received.digest,
            count=len(received.instances),
            at=self.clock.now,
            message="complete",
            hold_until=hold_until,
        )
        return self.jobs.get(job.id)

    def claim(self, series: str = SERIES) -> Job:
        """Declare the newest revision of a series complete, and begin its analysis."""
        self.mark_ready(series)
        job = self.jobs.claim(at=self.clock.now)
        assert job is not None
        return job
