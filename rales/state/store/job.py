"""A job as the state file records it: one analysis of one revision of one series."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chestct.states import JobState
from chestct.uids import Uid
from rales.state.store.database import from_text, time_or_none


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of ``jobs`` at the time it was read.

    Attributes:
        arrivals: Grows with each change of the images while the job is RECEIVING.
        associations: The number of ended associations that brought some of the images.
        hold_until: The series was declared complete before the quiet time. Until then the node
            reports nothing that would be wrong for a part of the series.
        shortfall: How many images are missing, and who says so; empty: none are known to be.
    """

    id: int
    series_uid: Uid
    study_uid: Uid
    calling_ae: str
    revision: int
    state: JobState
    since: datetime
    created_at: datetime
    reason: str
    message: str
    association_ended_at: datetime | None
    instances_digest: str | None
    instance_count: int
    key: str | None
    attempts: int
    due_at: datetime | None
    result: Mapping[str, Any] | None
    released_at: datetime | None = None
    mended: int = 0
    arrivals: int = 0
    associations: int = 0
    hold_until: datetime | None = None
    shortfall: str = ""

    def is_held(self, now: datetime) -> bool:
        """Return whether more images may still show that the job has only a part of its series."""
        return self.hold_until is not None and now < self.hold_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the history of a job."""

    at: datetime
    before: str | None
    after: str
    message: str


def job_of(row: sqlite3.Row, file_of: Callable[[str], object]) -> Job:
    """Return a row of ``jobs`` as a :class:`Job`; ``file_of`` maps a file name to its path."""
    result = json.loads(row["result"]) if row["result"] else None
    return Job(
        id=row["id"],
        series_uid=Uid(row["series_uid"]),
        study_uid=Uid(row["study_uid"]),
        calling_ae=row["calling_ae"],
        revision=row["revision"],
        state=JobState(row["state"]),
        since=from_text(row["since"]),
        created_at=from_text(row["created_at"]),
        reason=row["reason"],
        message=row["message"],
        association_ended_at=time_or_none(row["association_ended_at"]),
        instances_digest=row["instances_digest"],
        instance_count=row["instance_count"],
        key=row["key"],
        attempts=row["attempts"],
        due_at=time_or_none(row["due_at"]),
        result=result and rename_files(result, file_of),
        released_at=time_or_none(row["released_at"]),
        mended=row["mended"],
        arrivals=row["arrivals"],
        associations=row["associations"],
        hold_until=time_or_none(row["hold_until"]),
        shortfall=row["shortfall"],
    )


def rename_files(result: Mapping[str, Any], rename: Callable[[str], object]) -> dict[str, Any]:
    """Return a result (:mod:`rales.state.results`) with each file renamed."""
    renamed = dict(result)
    if "overlay" in result:
        renamed["overlay"] = str(rename(result["overlay"]))
    if "objects" in result:
        renamed["objects"] = [
            item | {"path": str(rename(item["path"]))} for item in result["objects"]
        ]
    return renamed
