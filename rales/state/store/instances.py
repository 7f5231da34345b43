"""Which instances are durable, and of which series."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

from chestct.errors import OutOfResources
from chestct.series import ReceivedInstance
from chestct.states import JobState
from chestct.uids import Uid
from rales.state.store.alike import is_lost, says_the_same
from rales.state.store.database import Database, from_text, to_text
from rales.state.store.jobs import Job, change_state, open_revision
from rales.state.store.mending import mend, set_back
from scp.ports import AssociationEnd, Recorded


class InstanceStore:
    """The receiver's :class:`scp.ports.Intake`: records instances and opens jobs for them."""

    def __init__(self, database: Database, *, on_change: Callable[[], None]) -> None:
        """Record into ``database`` and call ``on_change`` after what may complete a series."""
        self._database = database
        self._on_change = on_change

    def record(self, instance: ReceivedInstance) -> Recorded:
        """Record an instance whose bytes are durable; open or extend its series' job.

        The same again changes nothing, in whatever transfer syntax. Other values under the
        same SOP Instance UID take the place of the old ones, which stay on disk and in the
        table. Bytes that retention had let go of are kept again, and open no new job. A file
        that was lost or damaged starts the job again that failed of it
        (:mod:`rales.state.store.mending`).

        Raises:
            OutOfResources: The state file cannot be written, or retention removed the file at
                this moment: the sender has to send it again.
        """
        with self._database.transaction() as tx:
            recorded = _insert(
                tx, instance, self._database.name_of(instance.path), self._database.file_of
            )
            if recorded is not Recorded.REPEATED:
                _open_job(tx, instance, late=recorded)
        return recorded

    def association_ended(
        self,
        series_uids: frozenset[Uid],
        calling_ae: str,  # noqa: ARG002 - the port names it; the log has it
        how: AssociationEnd,
        at: datetime,
    ) -> None:
        """Count an association that brought some of ``series_uids``; note its release.

        Only a release says that the sender had no more to send. After an abort, half a
        series may look whole too: it waits the quiet time, in which the sender may try
        again.
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
        """Put an analysing job that could not read ``images`` back; see :func:`set_back`.

        Raises:
            StateConflict: The job is not analysing any more.
        """
        with self._database.transaction() as tx:
            return set_back(tx, job, images=images, due_at=due_at, at=at, message=message)

    def of_series(self, series_uid: Uid) -> list[ReceivedInstance]:
        """Return the current instances of a series."""
        rows = self._database.rows(
            "SELECT * FROM instances WHERE series_uid = ? AND current = 1", (series_uid,)
        )
        return [_instance(row, self._database.file_of(row["path"])) for row in rows]

    def contested(self, series_uid: Uid) -> dict[Uid, int]:
        """Return how many images came under one SOP Instance UID, where there were several.

        The same image in two transfer syntaxes is one.
        """
        rows = self._database.rows(
            "SELECT sop_instance_uid, count(*) AS images FROM instances WHERE series_uid = ?"
            " GROUP BY sop_instance_uid, transfer_syntax_uid HAVING count(*) > 1 ORDER BY images",
            (series_uid,),
        )
        return {Uid(row["sop_instance_uid"]): row["images"] for row in rows}

    def released(self, series_uid: Uid) -> int:
        """Return how many current instances of a series retention has let go of."""
        rows = self._database.rows(
            "SELECT count(*) FROM instances"
            " WHERE series_uid = ? AND current = 1 AND released_at IS NOT NULL",
            (series_uid,),
        )
        return int(rows[0][0])

    def is_released(self, instance: ReceivedInstance) -> bool:
        """Tell whether retention has let go of this very content."""
        rows = self._database.rows(
            "SELECT 1 FROM instances WHERE sop_instance_uid = ? AND content_digest = ?"
            " AND released_at IS NOT NULL",
            (instance.sop_instance_uid, instance.content_digest),
        )
        return bool(rows)

    def count(self) -> int:
        """Return how many instances were ever recorded."""
        return int(self._database.rows("SELECT count(*) FROM instances")[0][0])


def _insert(
    tx: sqlite3.Connection, instance: ReceivedInstance, name: str, file_of: Callable[[str], Path]
) -> Recorded:
    same = tx.execute(
        "SELECT current, size, released_at, faulty FROM instances"
        " WHERE sop_instance_uid = ? AND content_digest = ?",
        (instance.sop_instance_uid, instance.content_digest),
    ).fetchone()
    if same and same["released_at"]:
        if not instance.path.exists():
            raise OutOfResources("retention removed the earlier copy at this moment")
        tx.execute(
            "UPDATE instances SET released_at = NULL, gone = 0"
            " WHERE sop_instance_uid = ? AND content_digest = ?",
            (instance.sop_instance_uid, instance.content_digest),
        )
    if same and same["size"] != instance.size:  # written anew by a version that names itself
        tx.execute(
            "UPDATE instances SET size = ? WHERE sop_instance_uid = ? AND content_digest = ?",
            (instance.size, instance.sop_instance_uid, instance.content_digest),
        )
    if same and same["current"]:
        mend(tx, instance, faulty=bool(same["faulty"]))
        return Recorded.REPEATED
    # By the UID alone: a series may have thousands, and the planner does not know.
    current = tx.execute(
        "SELECT * FROM instances WHERE sop_instance_uid = ? AND +series_uid = ? AND +current = 1",
        (instance.sop_instance_uid, instance.series_uid),
    ).fetchone()
    equal = bool(current) and says_the_same(current, file_of(current["path"]), instance)
    # Of two encodings the first counts, as long as its file can be read.
    takes_over = not equal or is_lost(current, file_of(current["path"]))
    if takes_over:
        tx.execute(
            "UPDATE instances SET current = 0 WHERE sop_instance_uid = ? AND +series_uid = ?",
            (instance.sop_instance_uid, instance.series_uid),
        )
    if same:
        tx.execute(
            "UPDATE instances SET current = ? WHERE sop_instance_uid = ? AND content_digest = ?",
            (takes_over, instance.sop_instance_uid, instance.content_digest),
        )
    else:
        _add(tx, instance, name, current=takes_over)
    if equal and takes_over:
        mend(tx, instance, faulty=True)
    if equal:
        return Recorded.REPEATED
    return Recorded.REPLACED if current else Recorded.NEW


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


def _open_job(tx: sqlite3.Connection, instance: ReceivedInstance, *, late: Recorded) -> None:
    """See that the series has a job in RECEIVING; supersede one that still waits its turn."""
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
    why = f"{late} instance after revision {revision - 1}" if last else "first instance"
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
