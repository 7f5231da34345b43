"""Jobs: one revision of one series on its way from received to done."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chestct.states import JobState, may_follow
from chestct.uids import Uid
from rales.state.store.database import Database, from_text, to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of ``jobs``, as it was when it was read."""

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
    """Grows with every change of the images while they are received."""
    associations: int = 0
    """How many that brought some of the images have ended."""
    hold_until: datetime | None = None
    """Complete before the quiet time: until then, what speaks for a part is not told."""
    shortfall: str = ""
    """How many images are missing, by whose word; nothing: none that is known of."""

    def is_held(self, now: datetime) -> bool:
        """Tell whether more images may still show that it was a part."""
        return self.hold_until is not None and now < self.hold_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a job's history."""

    at: datetime
    before: str | None
    after: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs are looked for; what is not given excludes none.

    Attributes:
        since: Those whose state is not older.
        series: The beginning or the end of the Series Instance UID.
        limit: So many of them, the newest.
    """

    states: tuple[JobState, ...] = ()
    since: datetime | None = None
    series: str | None = None
    accession_key: str | None = None
    limit: int | None = None


NUMBERS_TAKEN = "job_numbers_taken"
"""The fact that says up to which number jobs of another state file have results here."""


class StateConflict(RuntimeError):
    """A job was not in the state that a change expected; nothing was changed."""


def add_event(
    tx: sqlite3.Connection,
    job_id: int | None,
    before: JobState | None,
    after: JobState,
    *,
    at: str,
    message: str,
) -> None:
    """Append one line to a job's history."""
    tx.execute(
        "INSERT INTO job_events (job_id, at, before, after, message) VALUES (?, ?, ?, ?, ?)",
        (job_id, at, before, after, message),
    )


def change_state(
    tx: sqlite3.Connection,
    job_id: int,
    before: JobState,
    after: JobState,
    *,
    at: str,
    message: str,
    reason: str = "",
) -> None:
    """Move a job from ``before`` to ``after`` and write the event.

    Raises:
        StateConflict: The job is not in ``before`` (any more), the move is not legal, or no
            later revision is there that could supersede it.
    """
    if not may_follow(before, after):
        raise StateConflict(f"no job goes from {before} to {after}")
    if after is JobState.SUPERSEDED and not is_overtaken(tx, job_id):
        raise StateConflict(f"no later revision supersedes job {job_id}")
    changed = tx.execute(
        "UPDATE jobs SET state = ?, since = ?, message = ?, reason = ?, due_at = NULL"
        " WHERE id = ? AND state = ?",
        (after, at, message, reason, job_id, before),
    ).rowcount
    if not changed:
        raise StateConflict(f"job {job_id} is not {before} any more")
    add_event(tx, job_id, before, after, at=at, message=message)


def is_overtaken(tx: sqlite3.Connection, job_id: int) -> bool:
    """Tell whether the series of a job has a later revision."""
    found = tx.execute(
        "SELECT 1 FROM jobs mine JOIN jobs newer ON newer.series_uid = mine.series_uid"
        " AND newer.revision > mine.revision WHERE mine.id = ? LIMIT 1",
        (job_id,),
    ).fetchone()
    return found is not None


def state_of_end(tx: sqlite3.Connection, job: Job, state: JobState, *, at: datetime) -> JobState:
    """Return what becomes of a job that would end in ``state`` without a result.

    Nobody is told of a part: where a later revision has begun that one takes over, and while the
    job is held it goes on collecting.
    """
    if is_overtaken(tx, job.id):
        return JobState.SUPERSEDED
    return JobState.RECEIVING if job.is_held(at) else state


def open_revision(
    tx: sqlite3.Connection,
    *,
    series_uid: str,
    study_uid: str,
    revision: int,
    calling_ae: str,
    at: str,
    message: str,
    accession_key: str = "",
) -> None:
    """Have the images of a series collected for a revision.

    Without an ``accession_key`` it is that of an earlier revision.
    """
    state = JobState.RECEIVING
    job_id = tx.execute(
        "INSERT INTO jobs (id, series_uid, study_uid, calling_ae, revision, state, since,"
        " created_at, accession_key) VALUES (1 + max(coalesce((SELECT max(id) FROM jobs), 0),"
        "  coalesce((SELECT CAST(value AS INTEGER) FROM node WHERE name = ?), 0)),"
        " ?, ?, ?, ?, ?, ?, ?, coalesce(nullif(?, ''),"
        "  (SELECT max(accession_key) FROM jobs WHERE series_uid = ?), ''))",
        (
            NUMBERS_TAKEN,
            series_uid,
            study_uid,
            calling_ae,
            revision,
            state,
            at,
            at,
            accession_key,
            series_uid,
        ),
    ).lastrowid
    add_event(tx, job_id, None, state, at=at, message=message)


class JobStore:
    """Queries and guarded transitions of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: int) -> Job:
        """Return one job.

        Raises:
            KeyError: There is none of that number.
        """
        rows = self._database.rows("SELECT * FROM jobs WHERE id = ?", (job_id,))
        if not rows:
            raise KeyError(job_id)
        return self._job(rows[0])

    def leave_out(self, results: Path) -> None:
        """Give no new job the number of a folder in ``results``.

        It is that of a job of this state file, or of another one, empty or older, that was here
        and may come back: its results must still be what it knows them for.
        """
        folders = results.iterdir() if results.is_dir() else ()
        last = max((int(one.name) for one in folders if one.name.isdecimal()), default=0)
        with self._database.transaction() as tx:
            tx.execute(
                "INSERT INTO node (name, value) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (NUMBERS_TAKEN, str(last)),
            )

    def in_state(self, state: JobState) -> list[Job]:
        """Return all jobs in ``state``, oldest first."""
        rows = self._database.rows("SELECT * FROM jobs WHERE state = ? ORDER BY id", (state,))
        return [self._job(row) for row in rows]

    def give_up(
        self, job_id: int, before: JobState, *, at: datetime, reason: str, message: str
    ) -> None:
        """End a job of which its number is known, and perhaps no more can be read.

        Raises:
            StateConflict: It is not in the state ``before`` (any more).
        """
        with self._database.transaction() as tx:
            change_state(
                tx,
                job_id,
                before,
                JobState.FAILED,
                at=to_text(at),
                reason=reason,
                message=message,
            )

    def all(self) -> list[Job]:
        """Return every job, newest last."""
        return [self._job(row) for row in self._database.rows("SELECT * FROM jobs ORDER BY id")]

    def select(self, wanted: JobFilter) -> list[Job]:
        """Return the jobs that are looked for, newest last."""
        where, parameters = _conditions(wanted)
        rows = self._database.rows(
            f"SELECT * FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608 - own text
            (*parameters, -1 if wanted.limit is None else wanted.limit),
        )
        return [self._job(row) for row in reversed(rows)]

    def number(self, wanted: JobFilter) -> int:
        """Return how many there are without the limit."""
        where, parameters = _conditions(wanted)
        sql = f"SELECT count(*) FROM jobs WHERE {where}"  # noqa: S608 - own text
        return int(self._database.rows(sql, parameters)[0][0])

    def latest_of_series(self, series_uid: str) -> Job | None:
        """Return the newest revision of a series."""
        rows = self._database.rows(
            "SELECT * FROM jobs WHERE series_uid = ? ORDER BY revision DESC LIMIT 1", (series_uid,)
        )
        return self._job(rows[0]) if rows else None

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

    def move(
        self,
        job: Job,
        after: JobState,
        *,
        at: datetime,
        message: str,
        reason: str = "",
    ) -> None:
        """Move ``job`` from the state it was read in to ``after``.

        Raises:
            StateConflict: Somebody else moved it, or the move is not legal.
        """
        with self._database.transaction() as tx:
            change_state(
                tx, job.id, job.state, after, at=to_text(at), message=message, reason=reason
            )

    def mark_ready(
        self,
        job: Job,
        *,
        instances_digest: str,
        count: int,
        at: datetime,
        message: str,
        hold_until: datetime | None = None,
        shortfall: str = "",
    ) -> None:
        """Close the collection of a series: its instance set is fixed from here on.

        Read ``job`` before the images: what came since is not of the set. Until ``hold_until``
        it may turn out to be a part; with a ``shortfall`` it is one.

        Raises:
            StateConflict: The job is not receiving any more, or more images came since it was
                read.
        """
        with self._database.transaction() as tx:
            change_state(
                tx, job.id, JobState.RECEIVING, JobState.READY, at=to_text(at), message=message
            )
            marked = tx.execute(
                "UPDATE jobs SET instances_digest = ?, instance_count = ?, hold_until = ?,"
                " shortfall = ? WHERE id = ? AND arrivals = ?",
                (instances_digest, count, _text(hold_until), shortfall, job.id, job.arrivals),
            ).rowcount
            if not marked:
                raise StateConflict(f"more images came for job {job.id} meanwhile")

    def give_way(self, job: Job, *, at: datetime, message: str) -> JobState:
        """End the analysis of ``job``, which was of no whole series; return its state.

        A later revision has the others; without one the job itself goes on collecting.
        """
        with self._database.transaction() as tx:
            overtaken = is_overtaken(tx, job.id)
            after = JobState.SUPERSEDED if overtaken else JobState.RECEIVING
            change_state(tx, job.id, JobState.ANALYSING, after, at=to_text(at), message=message)
            tx.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (job.id,))
        return after

    def end(
        self, job: Job, state: JobState, *, at: datetime, message: str, reason: str
    ) -> JobState:
        """End ``job`` without a result; return its state.

        Nobody is told of a part: while it is held it goes on collecting, and where a later
        revision has begun that one takes over.
        """
        with self._database.transaction() as tx:
            if is_overtaken(tx, job.id):
                why = f"more images arrived; of those before: {message}"
                return self.give_way(job, at=at, message=why)
            if job.is_held(at):
                why = (
                    f"read early and not analysable ({reason}: {message});"
                    f" waits for more images until {job.hold_until:%H:%M:%S} UTC"
                )
                return self.give_way(job, at=at, message=why)
            self.move(job, state, at=at, message=message, reason=reason)
        return state

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Make what is read, decided and written inside one step, with nothing in between."""
        with self._database.transaction():
            yield

    def note(self, job: Job, message: str) -> bool:
        """Say why a job waits; tell whether that is news."""
        with self._database.transaction() as tx:
            changed = tx.execute(
                "UPDATE jobs SET message = ? WHERE id = ? AND state = ? AND message <> ?",
                (message, job.id, job.state, message),
            ).rowcount
        return bool(changed)

    def claim(self, *, at: datetime) -> Job | None:
        """Take the job that has been ready and due longest into ANALYSING; count the attempt.

        One that is tried again stands behind all that were ready before it fell due: no
        series delays the others by more than one attempt at a time.
        """
        now = to_text(at)
        with self._database.transaction() as tx:
            row = tx.execute(
                "SELECT id, attempts FROM jobs INDEXED BY jobs_to_claim WHERE state = 'ready'"
                " AND (due_at IS NULL OR due_at <= ?) ORDER BY coalesce(due_at, since), id LIMIT 1",
                (now,),
            ).fetchone()
            if row is None:
                return None
            change_state(
                tx,
                row["id"],
                JobState.READY,
                JobState.ANALYSING,
                at=now,
                message=f"attempt {row['attempts'] + 1}",
            )
            tx.execute("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", (row["id"],))
            claimed = tx.execute("SELECT * FROM jobs WHERE id = ?", (row["id"],)).fetchone()
        return self._job(claimed)

    def postpone(self, job: Job, *, due_at: datetime, at: datetime, message: str) -> None:
        """Put an analysing job back to READY, not before ``due_at``."""
        with self._database.transaction() as tx:
            change_state(
                tx, job.id, JobState.ANALYSING, JobState.READY, at=to_text(at), message=message
            )
            tx.execute("UPDATE jobs SET due_at = ? WHERE id = ?", (to_text(due_at), job.id))

    def put_back(
        self, job: Job, *, at: datetime, message: str, due_at: datetime | None = None
    ) -> None:
        """Put an analysing job back to READY as if it had not been claimed; due then or at once."""
        with self._database.transaction() as tx:
            change_state(
                tx, job.id, JobState.ANALYSING, JobState.READY, at=to_text(at), message=message
            )
            tx.execute(
                "UPDATE jobs SET attempts = attempts - 1, due_at = ? WHERE id = ?",
                (to_text(due_at) if due_at else None, job.id),
            )

    def composed(
        self,
        job: Job,
        *,
        key: str,
        result: Mapping[str, Any],
        at: datetime,
        message: str,
        hold: bool = False,
    ) -> None:
        """Record that the result objects of ``job`` are durable.

        ``hold``: they may be of a part, and wait while ``job`` is held.
        """
        with self._database.transaction() as tx:
            change_state(
                tx, job.id, JobState.ANALYSING, JobState.COMPOSED, at=to_text(at), message=message
            )
            tx.execute(
                "UPDATE jobs SET key = ?, result = ?,"
                " hold_until = CASE WHEN ? THEN hold_until END WHERE id = ?",
                (key, json.dumps(_with_files(result, self._named)), hold, job.id),
            )
            # Of a job that is analysed again, with other models: what went out was another object.
            tx.executemany(
                "UPDATE deliveries SET sop_instance_uid = ?, state = 'pending', attempts = 0,"
                " sent = 0, created_at = ?, due_at = ?, settled_at = NULL"
                " WHERE job_id = ? AND role = ? AND sop_instance_uid <> ?",
                [
                    (
                        one["sop_instance_uid"],
                        to_text(at),
                        to_text(at),
                        job.id,
                        one["role"],
                        one["sop_instance_uid"],
                    )
                    for one in result.get("objects", ())
                ],
            )

    def to_plan(self, *, at: datetime) -> list[int]:
        """Return the jobs whose results may be delivered now, or are of no use any more."""
        rows = self._database.rows(
            "SELECT id FROM jobs j WHERE state = ? AND (hold_until IS NULL OR hold_until <= ?"
            " OR EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid"
            "  AND n.revision > j.revision)) ORDER BY id",
            (JobState.COMPOSED, to_text(at)),
        )
        return [row["id"] for row in rows]

    def next_to_plan(self) -> datetime | None:
        """Return when the next result that is held may be delivered."""
        row = self._database.rows(
            "SELECT min(hold_until) FROM jobs WHERE state = ?", (JobState.COMPOSED,)
        )[0]
        return from_text(row[0]) if row[0] else None

    def next_due(self) -> datetime | None:
        """Return when the next postponed job is due."""
        row = self._database.rows(
            "SELECT min(due_at) FROM jobs WHERE state = ? AND due_at IS NOT NULL", (JobState.READY,)
        )[0]
        return from_text(row[0]) if row[0] else None

    def predecessor(self, job: Job) -> Job | None:
        """Return the newest earlier revision of which something is, or may be, somewhere."""
        rows = self._database.rows(
            "SELECT * FROM jobs WHERE series_uid = ? AND revision < ? AND EXISTS"
            " (SELECT 1 FROM deliveries WHERE job_id = jobs.id"
            " AND (sent > 0 OR state IN ('delivered', 'stored')))"
            " ORDER BY revision DESC LIMIT 1",
            (job.series_uid, job.revision),
        )
        return self._job(rows[0]) if rows else None

    def keys_in_use(self, job: Job) -> frozenset[str]:
        """Return the keys of earlier revisions of which something is, or may be, somewhere."""
        rows = self._database.rows(
            "SELECT key FROM jobs WHERE series_uid = ? AND revision < ? AND key IS NOT NULL"
            " AND EXISTS (SELECT 1 FROM deliveries WHERE job_id = jobs.id"
            " AND (sent > 0 OR state IN ('delivered', 'stored')))",
            (job.series_uid, job.revision),
        )
        return frozenset(row["key"] for row in rows)

    def results_of_patient(self, patient_key: str, *, but_study: str) -> list[Job]:
        """Return the newest result of each series of a patient in other studies.

        Also of a series that failed because a destination refused the SEG: its report stands
        where it was taken.
        """
        rows = self._database.rows(
            "SELECT j.* FROM jobs j WHERE j.result IS NOT NULL AND j.study_uid <> ?"
            " AND (+j.state IN ('composed', 'delivering', 'done') OR (+j.state = 'failed'"
            "  AND EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id"
            "   AND d.role IN ('sr', 'sr-labelmap') AND +d.state = 'delivered')))"
            " AND NOT EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid"
            " AND n.revision > j.revision AND n.result IS NOT NULL)"
            " AND j.series_uid IN (SELECT series_uid FROM instances WHERE patient_key = ?)"
            " ORDER BY j.id",
            (but_study, patient_key),
        )
        return [self._job(row) for row in rows]

    def has_newer(self, job: Job) -> bool:
        """Tell whether the series has a later revision."""
        rows = self._database.rows(
            "SELECT 1 FROM jobs WHERE series_uid = ? AND revision > ? LIMIT 1",
            (job.series_uid, job.revision),
        )
        return bool(rows)

    def recover(self, *, interruptions: int, at: datetime) -> int:
        """Bring jobs that a stop interrupted back to where they can go on; return how many.

        A kill or a power cut is seldom the fault of the series that was in hand, so it does
        not cost one of its attempts. But a series that takes the whole machine down must not
        do so for ever: ``interruptions`` of them end it. A series that was being received
        stays as it is: its association was cut off by the stop, not released, and its sender
        will try again. A series whose newest revision is superseded, by nothing then, is
        collected again.
        """
        now = to_text(at)
        with self._database.transaction() as tx:
            rows = tx.execute(
                "SELECT * FROM jobs WHERE state = ?", (JobState.ANALYSING,)
            ).fetchall()
            for row in rows:
                number, after = row["interruptions"] + 1, JobState.READY
                if number >= interruptions:
                    after = state_of_end(tx, _job(row, None), JobState.FAILED, at=at)
                change_state(
                    tx,
                    row["id"],
                    JobState.ANALYSING,
                    after,
                    at=now,
                    reason="interrupted" if after is JobState.FAILED else "",
                    message=f"the node was killed during its analysis ({number} times)",
                )
                tx.execute(
                    "UPDATE jobs SET interruptions = ?, attempts = attempts - 1 WHERE id = ?",
                    (number, row["id"]),
                )
            lost = tx.execute(
                "SELECT * FROM jobs j WHERE state = ? AND NOT EXISTS (SELECT 1 FROM jobs n"
                " WHERE n.series_uid = j.series_uid AND n.revision > j.revision)",
                (JobState.SUPERSEDED,),
            ).fetchall()
            for row in lost:
                why = "no revision had taken over: the series is collected again"
                open_revision(
                    tx,
                    series_uid=row["series_uid"],
                    study_uid=row["study_uid"],
                    revision=row["revision"] + 1,
                    calling_ae=row["calling_ae"],
                    at=now,
                    message=why,
                )
        return len(rows) + len(lost)

    def retry(self, job: Job, *, at: datetime) -> JobState:
        """Start a finished job again by hand; return the state it goes to.

        A job without results, or whose result files are lost or damaged, is analysed again; with
        the same models and settings that gives the same objects. One that failed at a
        destination is tried there again; one that is done is delivered everywhere again (the
        objects keep their UIDs, so a destination that has them already shows no duplicate).
        Either goes to the destinations that were configured since, too: its deliveries are
        planned again.

        Raises:
            StateConflict: The job is under way, or a newer revision has taken over.
        """
        with self._database.transaction() as tx:
            if is_overtaken(tx, job.id):
                raise StateConflict("a newer revision of this series has taken over")
            if job.state not in {JobState.DONE, JobState.REJECTED, JobState.FAILED}:
                raise StateConflict("the series has not ended yet: it is under way")
            present = self.get(job.id)
            if present.released_at is not None:
                released = f"{present.released_at:%Y-%m-%d}"
                raise StateConflict(f"retention released its images on {released}")
            whole = present.result and not damaged_files(present.result)
            after = JobState.COMPOSED if whole else JobState.READY
            change_state(tx, job.id, job.state, after, at=to_text(at), message="retried by hand")
            tx.execute("UPDATE jobs SET attempts = 0, interruptions = 0 WHERE id = ?", (job.id,))
            tx.execute(
                # Due at once and given up no sooner, also where the clock of whoever retries is
                # ahead of the node's, or behind the time at which it last ran.
                "UPDATE deliveries SET state = 'pending', attempts = 0,"
                " due_at = min(created_at, ?), created_at = max(?, coalesce("
                "  (SELECT value FROM node WHERE name = 'clock_seen'), '')),"
                " settled_at = NULL WHERE job_id = ?"
                " AND (state IN ('refused', 'withdrawn') OR ? = 'done')",
                (to_text(at), to_text(at), job.id, job.state),
            )
        return after

    def _job(self, row: sqlite3.Row) -> Job:
        result = json.loads(row["result"]) if row["result"] else None
        return _job(row, _with_files(result, self._placed) if result else None)

    def _named(self, file: str) -> str:
        return self._database.name_of(Path(file))

    def _placed(self, name: str) -> str:
        return str(self._database.file_of(name))


def _conditions(wanted: JobFilter) -> tuple[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {"1": ()}
    if wanted.states:
        marks = ", ".join("?" * len(wanted.states))
        found[f"state IN ({marks})"] = tuple(wanted.states)
    if wanted.since is not None:
        found["since >= ?"] = (to_text(wanted.since),)
    if wanted.series is not None:
        begins = "substr(series_uid, 1, length(?)) = ?"
        ends = "substr(series_uid, -length(?)) = ?"
        found[f"({begins} OR {ends})"] = (wanted.series,) * 4
    if wanted.accession_key is not None:
        found["accession_key = ? AND accession_key <> ''"] = (wanted.accession_key,)
    return " AND ".join(found), tuple(one for values in found.values() for one in values)


def _text(at: datetime | None) -> str | None:
    return to_text(at) if at else None


def _job(row: sqlite3.Row, result: Mapping[str, Any] | None) -> Job:
    def time(name: str) -> datetime | None:
        return from_text(row[name]) if row[name] else None

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
        association_ended_at=time("association_ended_at"),
        instances_digest=row["instances_digest"],
        instance_count=row["instance_count"],
        key=row["key"],
        attempts=row["attempts"],
        due_at=time("due_at"),
        result=result,
        released_at=time("released_at"),
        mended=row["mended"],
        arrivals=row["arrivals"],
        associations=row["associations"],
        hold_until=time("hold_until"),
        shortfall=row["shortfall"],
    )


def damaged_files(result: Mapping[str, Any]) -> list[str]:
    """Return the roles of the objects whose files are lost, unreadable or not what was made."""
    return [one["role"] for one in result.get("objects", ()) if not _is_whole(one)]


def _is_whole(stored: Mapping[str, Any]) -> bool:
    try:
        content = Path(stored["path"]).read_bytes()
    except OSError:
        return False
    wanted = stored.get("digest")
    return bool(content) and (not wanted or hashlib.sha256(content).hexdigest() == wanted)


def _with_files(result: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """Return what a result says (:mod:`rales.state.results`) with its files renamed."""
    renamed = dict(result)
    if "overlay" in result:
        renamed["overlay"] = rename(result["overlay"])
    if "objects" in result:
        renamed["objects"] = [one | {"path": rename(one["path"])} for one in result["objects"]]
    return renamed
