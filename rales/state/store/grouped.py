"""Records acknowledged instances in groups: one commit for all that arrived meanwhile.

The file of an instance is durable before 0x0000 and holds every fact of its row, so the row may
follow. It follows within :data:`DELAY_SECONDS`, and before any other write to the state file: no
decision is made while acknowledged instances wait. After a crash, the next start records the rest
from their files (:mod:`rales.node.cut_off`).

Only a SOP Instance UID that neither the state file nor the backlog knows is acknowledged before its
row is committed. A repetition, other content under a known UID, and a resend of a released or
damaged file change rows in ways that no file shows: these wait for their commit.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from threading import Condition, Event, Thread

from chestct.errors import OutOfResources
from chestct.series import ReceivedInstance
from chestct.uids import Uid
from rales.state.store.database import Database
from rales.state.store.instances import InstanceStore
from scp.ports import AssociationEnd, Recorded

_LOG = logging.getLogger(__name__)

DELAY_SECONDS = 0.025
"""How long an acknowledged instance waits for others that are recorded with it."""
BACKLOG = 256
"""Acknowledged instances that may wait; the next one waits for room before its answer."""
_PATIENCE_SECONDS = 30.0
"""How long an instance waits for room: as long as SQLite waits for another process."""
_FIRST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 2.0


@dataclass(slots=True, eq=False)
class _Entry:
    """An instance of the backlog; ``outcome`` is set when it is committed or cannot be recorded."""

    instance: ReceivedInstance
    acknowledged: bool = False
    outcome: Recorded | Exception | None = None


class GroupedIntake:
    """The receiver's :class:`scp.ports.Intake`; safe to use from many threads.

    While the state file cannot be written, acknowledged instances stay in the backlog, their commit
    is tried again, and further instances are refused.
    """

    def __init__(
        self,
        database: Database,
        store: InstanceStore,
        *,
        delay_seconds: float = DELAY_SECONDS,
        backlog: int = BACKLOG,
    ) -> None:
        self._database = database
        self._store = store
        self._delay = delay_seconds
        self._most = backlog
        self._entries: dict[_Entry, None] = {}
        self._uids: Counter[Uid] = Counter()
        self._failure = ""
        self._changed = Condition()
        self._recording = False
        self._closing = Event()
        database.before_each_write(self._record_backlog)
        self._thread = Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def record(self, instance: ReceivedInstance) -> Recorded:
        """Accept an instance whose file is durable; the answer 0x0000 follows.

        Raises:
            OutOfResources: It cannot be recorded now; see :meth:`InstanceStore.record`.
        """
        if self._failure:
            self.flush()  # there may be space again
        entry = _Entry(instance)
        is_first = self._add(entry)
        try:
            if is_first and not self._store.knows(instance.sop_instance_uid):
                self._acknowledge(entry)
                return Recorded.NEW
            self.flush()
        except BaseException:
            if not self._withdraw(entry) and isinstance(entry.outcome, Recorded):
                return entry.outcome  # another thread committed it meanwhile
            raise
        if isinstance(entry.outcome, Exception):
            raise entry.outcome
        assert entry.outcome is not None
        return entry.outcome

    def association_ended(
        self, series_uids: frozenset[Uid], calling_ae: str, how: AssociationEnd, at: datetime
    ) -> None:
        """Record the end of an association, after the instances that it brought."""
        self._store.association_ended(series_uids, calling_ae, how, at)

    def flush(self) -> None:
        """Commit every instance that is in the backlog.

        Raises:
            OutOfResources: The state file cannot be written now.
        """
        with self._database.transaction():
            pass  # the backlog is recorded before any transaction begins

    def close(self) -> None:
        """Commit the backlog and stop; the next start records what cannot be committed now."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()
        try:
            self.flush()
        except OutOfResources as error:
            _LOG.error(
                "%d acknowledged instances are not recorded yet (%s): the next start records them "
                "from their files",
                len(self._entries),
                error,
            )
        self._database.before_each_write(None)

    def _add(self, entry: _Entry) -> bool:
        """Add to the backlog; return whether nothing in it has the same SOP Instance UID."""
        with self._changed:
            self._changed.wait_for(self._may_add, _PATIENCE_SECONDS)
            if self._failure:
                raise OutOfResources(self._failure)
            if len(self._entries) >= self._most:
                raise OutOfResources(
                    f"{self._most} received instances wait for the state file: too many to add one"
                )
            uid = entry.instance.sop_instance_uid
            is_first = not self._uids[uid]
            self._uids[uid] += 1
            self._entries[entry] = None
            self._changed.notify_all()
            return is_first

    def _may_add(self) -> bool:
        return bool(self._failure) or len(self._entries) < self._most

    def _acknowledge(self, entry: _Entry) -> None:
        with self._changed:
            if isinstance(entry.outcome, Exception):
                raise entry.outcome
            if self._failure and entry.outcome is None:
                raise OutOfResources(self._failure)
            entry.acknowledged = True

    def _withdraw(self, entry: _Entry) -> bool:
        """Take an instance that is refused out of the backlog; False: it is not in it any more."""
        with self._changed:
            return self._take_out([entry]) == 1

    def _take_out(self, entries: list[_Entry]) -> int:
        """Take entries out of the backlog; return how many were in it. ``_changed`` is held."""
        present = [entry for entry in entries if entry in self._entries]
        for entry in present:
            del self._entries[entry]
            uid = entry.instance.sop_instance_uid
            self._uids[uid] -= 1
            if not self._uids[uid]:
                del self._uids[uid]
        if not self._entries:
            self._failure = ""
        self._changed.notify_all()
        return len(present)

    def _record_backlog(self) -> None:
        """Commit the backlog in one transaction; the calling thread holds the state file."""
        if self._recording:
            return
        with self._changed:
            batch = list(self._entries)
        if not batch:
            return
        self._recording = True
        try:
            with self._database.transaction():
                outcomes = [self._outcome(entry) for entry in batch]
        except OutOfResources as error:
            self._note_failure(str(error))
            raise
        finally:
            self._recording = False
        with self._changed:
            for entry, outcome in zip(batch, outcomes, strict=True):
                entry.outcome = outcome
            if self._failure:
                _LOG.warning("the state file can be written again: %d images recorded", len(batch))
            self._failure = ""
            self._take_out(batch)

    def _outcome(self, entry: _Entry) -> Recorded | Exception:
        """Record one instance inside the transaction; an error over it stops no other."""
        try:
            return self._store.record(entry.instance)
        except sqlite3.OperationalError:  # the whole transaction fails
            raise
        except Exception as error:  # noqa: BLE001 - returned to its sender, or logged
            if entry.acknowledged:
                _LOG.exception(
                    "%s cannot be recorded; the next start tries again", entry.instance.path
                )
            return error

    def _note_failure(self, failure: str) -> None:
        with self._changed:
            if not self._failure:
                _LOG.error(
                    "%d received instances wait to be recorded: %s. Rales tries again, and refuses "
                    "images (0xA700) until it succeeds",
                    len(self._entries),
                    failure,
                )
            self._failure = failure
            self._changed.notify_all()

    def _run(self) -> None:
        """Commit the backlog a moment after an instance entered it, until :meth:`close`."""
        pause = self._delay
        while self._wait_for_entries():
            self._closing.wait(pause)
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 - the next attempt may succeed
                if not isinstance(error, OutOfResources):
                    _LOG.exception("the backlog of received instances could not be recorded")
                pause = min(max(2 * pause, _FIRST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)
            else:
                pause = self._delay

    def _wait_for_entries(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closing.is_set())
        return not self._closing.is_set()
