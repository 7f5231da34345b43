"""Questions about jobs that change nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from chestct.states import JobState
from rales.state.store.database import Database, from_text, time_or_none, to_text
from rales.state.store.job import Event, Job, job_of


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Conditions on jobs; a condition that is not set excludes no job.

    Attributes:
        since: The job entered its state at this time or later.
        series: The Series Instance UID begins or ends with this text.
        limit: Return the newest jobs only, at most this many.
    """

    states: tuple[JobState, ...] = ()
    since: datetime | None = None
    series: str | None = None
    accession_key: str | None = None
    limit: int | None = None


class JobQueries:
    """Reads jobs and their histories."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: int) -> Job:
        """Return one job.

        Raises:
            KeyError: No job has this number.
        """
        rows = self._database.rows("SELECT * FROM jobs WHERE id = ?", (job_id,))
        if not rows:
            raise KeyError(job_id)
        return self._job(rows[0])

    def in_state(self, state: JobState) -> list[Job]:
        """Return all jobs in ``state``, oldest first."""
        rows = self._database.rows("SELECT * FROM jobs WHERE state = ? ORDER BY id", (state,))
        return [self._job(row) for row in rows]

    def all(self) -> list[Job]:
        """Return every job, oldest first."""
        return [self._job(row) for row in self._database.rows("SELECT * FROM jobs ORDER BY id")]

    def select(self, wanted: JobFilter) -> list[Job]:
        """Return the jobs that meet the conditions, oldest first."""
        where, parameters = _conditions(wanted)
        rows = self._database.rows(
            f"SELECT * FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608 - own text
            (*parameters, -1 if wanted.limit is None else wanted.limit),
        )
        return [self._job(row) for row in reversed(rows)]

    def number(self, wanted: JobFilter) -> int:
        """Return the number of jobs that meet the conditions, without the limit."""
        where, parameters = _conditions(wanted)
        sql = f"SELECT count(*) FROM jobs WHERE {where}"  # noqa: S608 - own text
        return int(self._database.rows(sql, parameters)[0][0])

    def has_newer(self, job: Job) -> bool:
        """Return whether the series of ``job`` has a later revision."""
        rows = self._database.rows(
            "SELECT 1 FROM jobs WHERE series_uid = ? AND revision > ? LIMIT 1",
            (job.series_uid, job.revision),
        )
        return bool(rows)

    def events(self, job_id: int) -> list[Event]:
        """Return the history of a job, oldest first."""
        rows = self._database.rows(
            "SELECT * FROM job_events WHERE job_id = ? ORDER BY id", (job_id,)
        )
        return [
            Event(
                at=from_text(row["at"]),
                before=row["before"],
                after=row["after"],
                message=row["message"],
            )
            for row in rows
        ]

    def next_due(self) -> datetime | None:
        """Return when the next postponed analysis is due."""
        row = self._database.rows(
            "SELECT min(due_at) FROM jobs WHERE state = 'ready' AND due_at IS NOT NULL"
        )[0]
        return time_or_none(row[0])

    def to_plan(self, *, at: datetime) -> list[int]:
        """Return the composed jobs to deliver now, or to supersede."""
        rows = self._database.rows(
            "SELECT id FROM jobs j WHERE state = ? AND (hold_until IS NULL OR hold_until <= ?"
            " OR EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid"
            "  AND n.revision > j.revision)) ORDER BY id",
            (JobState.COMPOSED, to_text(at)),
        )
        return [row["id"] for row in rows]

    def next_to_plan(self) -> datetime | None:
        """Return when the next held result may be delivered."""
        row = self._database.rows("SELECT min(hold_until) FROM jobs WHERE state = 'composed'")[0]
        return time_or_none(row[0])

    def predecessor(self, job: Job) -> Job | None:
        """Return the newest earlier revision of which a destination has, or may have, an object."""
        rows = self._database.rows(
            "SELECT * FROM jobs WHERE series_uid = ? AND revision < ? AND EXISTS"
            " (SELECT 1 FROM deliveries WHERE job_id = jobs.id"
            " AND (sent > 0 OR state IN ('delivered', 'stored')))"
            " ORDER BY revision DESC LIMIT 1",
            (job.series_uid, job.revision),
        )
        return self._job(rows[0]) if rows else None

    def keys_in_use(self, job: Job) -> frozenset[str]:
        """Return the keys of the revisions that :meth:`predecessor` chooses from."""
        rows = self._database.rows(
            "SELECT key FROM jobs WHERE series_uid = ? AND revision < ? AND key IS NOT NULL"
            " AND EXISTS (SELECT 1 FROM deliveries WHERE job_id = jobs.id"
            " AND (sent > 0 OR state IN ('delivered', 'stored')))",
            (job.series_uid, job.revision),
        )
        return frozenset(row["key"] for row in rows)

    def results_of_patient(self, patient_key: str, *, but_study: str) -> list[Job]:
        """Return the newest result of each series of a patient in other studies.

        This includes a failed job whose SR a destination has: the destination refused the SEG.
        """
        rows = self._database.rows(
            "SELECT j.* FROM jobs j WHERE j.result IS NOT NULL AND j.study_uid <> ?"
            " AND (+j.state IN ('composed', 'delivering', 'done') OR (+j.state = 'failed'"
            "  AND EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id"
            "   AND (d.role = 'sr' OR d.role LIKE 'sr-%') AND +d.state = 'delivered')))"
            " AND NOT EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid"
            " AND n.revision > j.revision AND n.result IS NOT NULL)"
            " AND j.series_uid IN (SELECT series_uid FROM instances WHERE patient_key = ?)"
            " ORDER BY j.id",
            (but_study, patient_key),
        )
        return [self._job(row) for row in rows]

    def _job(self, row: sqlite3.Row) -> Job:
        return job_of(row, self._database.file_of)


def _conditions(wanted: JobFilter) -> tuple[str, tuple[object, ...]]:
    """Return a WHERE clause and its parameters."""
    conditions: dict[str, tuple[object, ...]] = {"1": ()}
    if wanted.states:
        marks = ", ".join("?" * len(wanted.states))
        conditions[f"state IN ({marks})"] = tuple(wanted.states)
    if wanted.since is not None:
        conditions["since >= ?"] = (to_text(wanted.since),)
    if wanted.series is not None:
        begins = "substr(series_uid, 1, length(?)) = ?"
        ends = "substr(series_uid, -length(?)) = ?"
        conditions[f"({begins} OR {ends})"] = (wanted.series,) * 4
    if wanted.accession_key is not None:
        conditions["accession_key = ? AND accession_key <> ''"] = (wanted.accession_key,)
    parameters = tuple(value for values in conditions.values() for value in values)
    return " AND ".join(conditions), parameters
