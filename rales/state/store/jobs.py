"""Guarded changes of jobs: each revision of a series on its way from received to done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from chestct.states import JobState
from rales.state.store.database import to_text
from rales.state.store.job import Job, rename_files
from rales.state.store.queries import JobQueries
from rales.state.store.recovery import reopen, replace_objects, restart, resume
from rales.state.store.transitions import (
    NUMBERS_TAKEN,
    StateConflict,
    change_state,
    is_overtaken,
)


class JobStore(JobQueries):
    """Reads jobs and changes them; each change of a state expects the state that was read."""

    def leave_out(self, results: Path) -> None:
        """Give no new job the number of a folder in ``results``.

        Such a folder may belong to a job of another state file, empty or older, that was here
        and may come back: the job must find its own results then.
        """
        folders = results.iterdir() if results.is_dir() else ()
        numbers = (int(folder.name) for folder in folders if folder.name.isdecimal())
        with self._database.transaction() as tx:
            tx.execute(
                "INSERT INTO node (name, value) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (NUMBERS_TAKEN, str(max(numbers, default=0))),
            )

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Run the reads, decisions and changes of a block as one transaction."""
        with self._database.transaction():
            yield

    def move(
        self, job: Job, after: JobState, *, at: datetime, message: str, reason: str = ""
    ) -> None:
        """Move ``job`` from the state it was read in to ``after``.

        Raises:
            StateConflict: Another change came first, or the move is not legal.
        """
        with self._database.transaction() as tx:
            change_state(
                tx, job.id, job.state, after, at=to_text(at), message=message, reason=reason
            )

    def give_up(
        self, job_id: int, before: JobState, *, at: datetime, reason: str, message: str
    ) -> None:
        """End a job as FAILED by its number alone: the rest of its row may be unreadable.

        Raises:
            StateConflict: The job is not in the state ``before`` any more.
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

    def note(self, job: Job, message: str) -> bool:
        """Record why a job waits; return whether the message is new."""
        with self._database.transaction() as tx:
            changed = tx.execute(
                "UPDATE jobs SET message = ? WHERE id = ? AND state = ? AND message <> ?",
                (message, job.id, job.state, message),
            ).rowcount
        return bool(changed)

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
        """Declare a series complete: its set of instances is fixed from here on.

        Read ``job`` before its instances, so that a later instance is noticed. Until
        ``hold_until`` the job may prove to have a part of the series only; with a ``shortfall``
        it is known to.

        Raises:
            StateConflict: The job is not receiving any more, or more images arrived since it
                was read.
        """
        with self._database.transaction() as tx:
            change_state(
                tx, job.id, JobState.RECEIVING, JobState.READY, at=to_text(at), message=message
            )
            held = to_text(hold_until) if hold_until else None
            marked = tx.execute(
                "UPDATE jobs SET instances_digest = ?, instance_count = ?, hold_until = ?,"
                " shortfall = ? WHERE id = ? AND arrivals = ?",
                (instances_digest, count, held, shortfall, job.id, job.arrivals),
            ).rowcount
            if not marked:
                raise StateConflict(f"more images came for job {job.id} meanwhile")

    def claim(self, *, at: datetime) -> Job | None:
        """Move the job that has been ready and due longest to ANALYSING; count the attempt.

        A repeated job queues behind the jobs that were ready before it fell due: no series
        delays the others by more than one attempt at a time.
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
            number = row["attempts"] + 1
            change_state(
                tx,
                row["id"],
                JobState.READY,
                JobState.ANALYSING,
                at=now,
                message=f"attempt {number}",
            )
            tx.execute("UPDATE jobs SET attempts = ? WHERE id = ?", (number, row["id"]))
            return self.get(row["id"])

    def postpone(self, job: Job, *, due_at: datetime, at: datetime, message: str) -> None:
        """Move an analysing job back to READY, due at ``due_at``."""
        with self._database.transaction() as tx:
            change_state(
                tx, job.id, JobState.ANALYSING, JobState.READY, at=to_text(at), message=message
            )
            tx.execute("UPDATE jobs SET due_at = ? WHERE id = ?", (to_text(due_at), job.id))

    def put_back(
        self, job: Job, *, at: datetime, message: str, due_at: datetime | None = None
    ) -> None:
        """Move an analysing job back to READY without counting the attempt.

        It is due at ``due_at``; None: at once.
        """
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

        With ``hold``, the results may be of a part of the series: they wait while ``job`` is held.
        """
        now = to_text(at)
        stored = rename_files(result, lambda file: self._database.name_of(Path(file)))
        with self._database.transaction() as tx:
            change_state(tx, job.id, JobState.ANALYSING, JobState.COMPOSED, at=now, message=message)
            tx.execute(
                "UPDATE jobs SET key = ?, result = ?,"
                " hold_until = CASE WHEN ? THEN hold_until END WHERE id = ?",
                (key, json.dumps(stored), hold, job.id),
            )
            replace_objects(tx, job.id, stored, now)

    def end(
        self, job: Job, state: JobState, *, at: datetime, message: str, reason: str
    ) -> JobState:
        """End an analysing job without a result, unless it has only a part; return its state.

        No verdict on a part is reported: a later revision takes over, or a job that is held goes
        on receiving.
        """
        with self._database.transaction():
            if self.has_newer(job):
                why = f"more images arrived; without them: {message}"
                return self.give_way(job, at=at, message=why)
            if job.is_held(at):
                why = (
                    f"analysed early, without a result ({reason}: {message});"
                    f" waits for more images until {job.hold_until:%H:%M:%S} UTC"
                )
                return self.give_way(job, at=at, message=why)
            self.move(job, state, at=at, message=message, reason=reason)
        return state

    def give_way(self, job: Job, *, at: datetime, message: str) -> JobState:
        """End the analysis of ``job``, which has only a part of its series; return its state.

        A later revision has the other images; without one, the job itself goes on receiving.
        """
        with self._database.transaction() as tx:
            overtaken = is_overtaken(tx, job.id)
            after = JobState.SUPERSEDED if overtaken else JobState.RECEIVING
            change_state(tx, job.id, JobState.ANALYSING, after, at=to_text(at), message=message)
            tx.execute("UPDATE jobs SET attempts = 0 WHERE id = ?", (job.id,))
        return after

    def recover(self, *, interruptions: int, at: datetime) -> int:
        """Return interrupted jobs to where they can go on after a start; return how many.

        An analysing job is READY again. A crash or a power cut is seldom the fault of the series
        under analysis, so it costs none of its attempts; but after ``interruptions`` crashes the
        job fails, so that no series takes the machine down for ever. A receiving job stays as it
        is: the stop aborted its association, and the sender will try again. A series whose newest
        revision is superseded, by no other then, is received again.
        """
        with self._database.transaction() as tx:
            analysing = self.in_state(JobState.ANALYSING)
            for job in analysing:
                resume(tx, job, interruptions=interruptions, at=at)
            return len(analysing) + reopen(tx, to_text(at))

    def retry(self, job: Job, after: JobState, *, at: datetime) -> None:
        """Start an ended job again by hand, from ``after``: READY or COMPOSED.

        A job that failed at a destination is delivered there again; a job that is done is
        delivered everywhere again, under the same UIDs, so that no destination shows a duplicate.
        Planning the deliveries adds the destinations that were configured since.

        Raises:
            StateConflict: The job has not ended, has another result than ``job``, is superseded,
                or retention has released its images.
        """
        with self._database.transaction() as tx:
            if is_overtaken(tx, job.id):
                raise StateConflict("a newer revision of this series has taken over")
            if job.state not in {JobState.DONE, JobState.REJECTED, JobState.FAILED}:
                raise StateConflict("the series is still in progress")
            present = self.get(job.id)
            if present.released_at is not None:
                released = f"{present.released_at:%Y-%m-%d}"
                raise StateConflict(f"retention released its images on {released}")
            if present.result != job.result:
                raise StateConflict("the series was analysed again meanwhile")
            change_state(tx, job.id, job.state, after, at=to_text(at), message="retried by hand")
            restart(tx, job, to_text(at))
