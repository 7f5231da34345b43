"""The instances that are durable, and the jobs that they open."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

from chestct.errors import OutOfResources
from chestct.series import ReceivedInstance
from chestct.states import JobState
from chestct.uids import Uid
from rales.state.store.database import Database, from_text, to_text
from rales.state.store.job import Job
from rales.state.store.mending import mend, set_back
from rales.state.store.transitions import change_state, open_revision
from scp.ports import AssociationEnd, Recorded


class InstanceStore:
    """An :class:`scp.ports.Intake` that commits each instance; opens jobs for their series.

    The receiver of a node records through :class:`~rales.state.store.grouped.GroupedIntake`.
    """

    def __init__(self, database: Database, *, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` after each event that may complete a series."""
        self._database = database
        self._on_change = on_change

    def record(self, instance: ReceivedInstance) -> Recorded:
        """Record an instance whose bytes are durable; open or extend the job of its series.

        A repetition changes nothing, in whatever transfer syntax. New values under a known SOP
        Instance UID replace the old ones, which stay on disk and in the table. Bytes that
        retention had released are kept again and open no new job. A file that had been lost or
        damaged restarts the job that failed because of it (:mod:`rales.state.store.mending`).

        Raises:
            OutOfResources: The state file cannot be written, or retention removed the file at
                this moment. The sender has to send the instance again.
        """
        with self._database.transaction() as tx:
            recorded = _insert(
                tx, instance, self._database.name_of(instance.path), self._database.file_of
            )
            if recorded is not Recorded.REPEATED:
                _open_job(tx, instance, recorded=recorded)
        return recorded

    def association_ended(
        self,
        series_uids: frozenset[Uid],
        calling_ae: str,  # noqa: ARG002 - the port names it; the log has it
        how: AssociationEnd,
        at: datetime,
    ) -> None:
        """Count an association that brought images of ``series_uids``; record its release.

        Only a release says that the sender had nothing more to send. After an abort, half a
        series may look whole: it waits the quiet time, so that the sender can try again.
        """
        released = to_text(at) if how is AssociationEnd.RELEASED else None
        with self._database.transaction() as tx:
            tx.executemany(
                "UPDATE jobs SET association_ended_at = ?, associations = associations + 1"
                " WHERE series_uid = ? AND +state = ?",
                [(released, uid, JobState.RECEIVING) for uid in sorted(series_uids)],
            )
        self._on_change()

    def unavailable(
        self,
        job: Job,
        images: Collection[str],
        *,
        due_at: datetime | None,
        at: datetime,
        message: str,
    ) -> JobState:
        """Put back an analysing job that could not read ``images``; see :func:`set_back`.

        Raises:
            StateConflict: The job is not analysing any more.
        """
        with self._database.transaction() as tx:
            return set_back(tx, job, images=images, due_at=due_at, at=at, message=message)

    def knows(self, sop_instance_uid: Uid) -> bool:
        """Return whether the state file has a row of an instance, with whatever content."""
        return bool(
            self._database.rows(
                "SELECT 1 FROM instances WHERE sop_instance_uid = ? LIMIT 1", (sop_instance_uid,)
            )
        )

    def of_series(self, series_uid: Uid) -> list[ReceivedInstance]:
        """Return the current instances of a series."""
        rows = self._database.rows(
            "SELECT * FROM instances WHERE series_uid = ? AND current = 1", (series_uid,)
        )
        return [_instance(row, self._database.file_of(row["path"])) for row in rows]

    def contested(self, series_uid: Uid) -> dict[Uid, int]:
        """Return, for each SOP Instance UID that several images share, the number of images.

        One image in two transfer syntaxes counts once.
        """
        rows = self._database.rows(
            "SELECT sop_instance_uid, count(*) AS images FROM instances WHERE series_uid = ?"
            " GROUP BY sop_instance_uid, transfer_syntax_uid HAVING count(*) > 1 ORDER BY images",
            (series_uid,),
        )
        return {Uid(row["sop_instance_uid"]): row["images"] for row in rows}

    def released(self, series_uid: Uid) -> int:
        """Return how many current instances of a series retention has released."""
        rows = self._database.rows(
            "SELECT count(*) FROM instances"
            " WHERE series_uid = ? AND current = 1 AND released_at IS NOT NULL",
            (series_uid,),
        )
        return int(rows[0][0])

    def is_released(self, instance: ReceivedInstance) -> bool:
        """Return whether retention has released this content."""
        rows = self._database.rows(
            "SELECT 1 FROM instances WHERE sop_instance_uid = ? AND content_digest = ?"
            " AND released_at IS NOT NULL",
            (instance.sop_instance_uid, instance.content_digest),
        )
        return bool(rows)


def _insert(
    tx: sqlite3.Connection, instance: ReceivedInstance, name: str, file_of: Callable[[str], Path]
) -> Recorded:
    same = tx.execute(
        "SELECT current, size, released_at, faulty FROM instances"
        " WHERE sop_instance_uid = ? AND content_digest = ?",
        _content(instance),
    ).fetchone()
    if same:
        _renew(tx, instance, same)
        if same["current"]:
            mend(tx, instance, faulty=bool(same["faulty"]))
            return Recorded.REPEATED
    # The "+" makes the planner search by the UID alone: a series may have thousands of images.
    current = tx.execute(
        "SELECT * FROM instances WHERE sop_instance_uid = ? AND +series_uid = ? AND +current = 1",
        (instance.sop_instance_uid, instance.series_uid),
    ).fetchone()
    equal = bool(current) and _has_same_values(current, instance)
    # Of two encodings the first one is current, as long as its file can be read.
    takes_over = not equal or _is_unreadable(current, file_of(current["path"]))
    if takes_over:
        tx.execute(
            "UPDATE instances SET current = 0 WHERE sop_instance_uid = ? AND +series_uid = ?",
            (instance.sop_instance_uid, instance.series_uid),
        )
    if same:
        tx.execute(
            "UPDATE instances SET current = ? WHERE sop_instance_uid = ? AND content_digest = ?",
            (takes_over, *_content(instance)),
        )
    else:
        _add(tx, instance, name, current=takes_over)
    if equal and takes_over:
        mend(tx, instance, faulty=True)
    if equal:
        return Recorded.REPEATED
    return Recorded.REPLACED if current else Recorded.NEW


def _renew(tx: sqlite3.Connection, instance: ReceivedInstance, row: sqlite3.Row) -> None:
    """Update the row of content that came again: keep a released file, correct the size."""
    if row["released_at"]:
        if not instance.path.exists():
            raise OutOfResources(
                "retention has just removed the earlier copy of this instance: send it again"
            )
        tx.execute(
            "UPDATE instances SET released_at = NULL, gone = 0"
            " WHERE sop_instance_uid = ? AND content_digest = ?",
            _content(instance),
        )
    if row["size"] != instance.size:  # another version of Rales writes other File Meta Information
        tx.execute(
            "UPDATE instances SET size = ? WHERE sop_instance_uid = ? AND content_digest = ?",
            (instance.size, *_content(instance)),
        )


def _content(instance: ReceivedInstance) -> tuple[str, str]:
    return instance.sop_instance_uid, instance.content_digest


def _has_same_values(row: sqlite3.Row, instance: ReceivedInstance) -> bool:
    """Return whether a recorded image is ``instance`` in another transfer syntax."""
    return bool(instance.value_digest) and row["value_digest"] == instance.value_digest


def _is_unreadable(row: sqlite3.Row, file: Path) -> bool:
    return bool(row["released_at"] or row["faulty"]) or not file.exists()


def _add(tx: sqlite3.Connection, instance: ReceivedInstance, name: str, *, current: bool) -> None:
    tx.execute(
        "INSERT INTO instances (sop_instance_uid, content_digest, value_digest, series_uid,"
        " study_uid, sop_class_uid, transfer_syntax_uid, patient_key, path, size, slice_position,"
        " expected_instances, calling_ae, received_at, current)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            instance.sop_instance_uid,
            instance.content_digest,
            instance.value_digest,
            instance.series_uid,
            instance.study_uid,
            instance.sop_class_uid,
            instance.transfer_syntax_uid,
            instance.patient_key,
            name,
            instance.size,
            instance.slice_position,
            instance.expected_instances,
            instance.calling_ae,
            to_text(instance.received_at),
            current,
        ),
    )


def _open_job(tx: sqlite3.Connection, instance: ReceivedInstance, *, recorded: Recorded) -> None:
    """Make sure the series has a job in RECEIVING; supersede a job that is READY."""
    at = to_text(instance.received_at)
    last = tx.execute(
        "SELECT id, revision, state FROM jobs WHERE series_uid = ? ORDER BY revision DESC LIMIT 1",
        (instance.series_uid,),
    ).fetchone()
    if last and last["state"] == JobState.RECEIVING:
        tx.execute(
            "UPDATE jobs SET association_ended_at = NULL, arrivals = arrivals + 1 WHERE id = ?",
            (last["id"],),
        )
        return
    revision = last["revision"] + 1 if last else 1
    why = f"{recorded} instance after revision {revision - 1}" if last else "first instance"
    open_revision(
        tx,
        series_uid=instance.series_uid,
        study_uid=instance.study_uid,
        revision=revision,
        calling_ae=instance.calling_ae,
        at=at,
        message=f"{why} from {instance.calling_ae}",
        accession_key=instance.accession_key,
    )
    if last and last["state"] == JobState.READY:
        change_state(
            tx,
            last["id"],
            JobState.READY,
            JobState.SUPERSEDED,
            at=at,
            message=f"more instances arrived: revision {revision} takes over",
        )


def _instance(row: sqlite3.Row, path: Path) -> ReceivedInstance:
    return ReceivedInstance(
        path=path,
        sop_class_uid=Uid(row["sop_class_uid"]),
        sop_instance_uid=Uid(row["sop_instance_uid"]),
        series_uid=Uid(row["series_uid"]),
        study_uid=Uid(row["study_uid"]),
        patient_key=row["patient_key"],
        transfer_syntax_uid=Uid(row["transfer_syntax_uid"]),
        content_digest=row["content_digest"],
        value_digest=row["value_digest"],
        size=row["size"],
        received_at=from_text(row["received_at"]),
        calling_ae=row["calling_ae"],
        slice_position=row["slice_position"],
        expected_instances=row["expected_instances"],
    )
