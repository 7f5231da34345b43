"""Looks after the files of a running node, a little at a time.

At the start, whether the spool is what the state file says; every day, what no series needs any
more. Nothing that was ever acknowledged is moved, and where much seems to be wrong nothing is
changed at all: the state file may be another one, or a disk not mounted.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from chestct.states import JobState
from rales.node.fsck import HANDFUL, Fault, Finding, survey
from rales.node.rebuild import take_in
from rales.state.layout import Layout
from rales.state.store import Database, InstanceStore, RetentionStore
from scp.spool import Spool

_LOG = logging.getLogger(__name__)

_FIRST_SECONDS = 0.25
_WORK_SECONDS = 0.005
_PAUSE_SECONDS = 1.5
"""A three-hundredth of one core: 10 million files take a day, and no C-STORE notices."""
_AGAIN_SECONDS = 86_400.0

_SAID = {
    Fault.ORPHAN: "in spool/ are unknown to the state file: nothing is touched. Was it lost, or an "
    "older one put in its place? Stop the node; `rales fsck --rebuild` takes them in again",
    Fault.MISSING: "of the state file are not in spool/. Is its disk mounted? A resend brings each "
    "back; `rales fsck` names them",
    Fault.WRONG_SIZE: "have another size than was recorded. A resend brings each back; `rales fsck "
    "--deep` names all that is damaged",
}


class HousekeepingWorker:
    """One step of the housekeeping loop.

    Args:
        instances: Takes in the few images that a power cut left unrecorded.
        keep: How long files stay in quarantine; none: until somebody removes them.
        on_checked: Told in one line what the check of the spool found.
    """

    def __init__(
        self,
        *,
        database: Database,
        instances: InstanceStore,
        spool: Spool,
        layout: Layout,
        keep: timedelta | None,
        on_checked: Callable[[str], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._instances = instances
        self._retention = RetentionStore(database)
        self._spool = spool
        self._layout = layout
        self._keep = keep
        self._on_checked = on_checked
        self._monotonic = monotonic
        self._began = time.time()
        self._work = self._check_then_tidy()
        self._budget = _FIRST_SECONDS
        self._next = monotonic()

    def step(self, now: datetime) -> datetime | None:
        """Go on for a moment; return when to go on again."""
        began = self._monotonic()
        if began < self._next:
            return now + timedelta(seconds=self._next - began)
        pause = _AGAIN_SECONDS
        for _ in self._work:
            if self._monotonic() - began >= self._budget:
                pause = _PAUSE_SECONDS
                break
        else:
            self._work = self._tidy()
        self._budget = _WORK_SECONDS
        self._next = self._monotonic() + pause
        return now + timedelta(seconds=pause)

    def _check_then_tidy(self) -> Iterator[None]:
        try:
            yield from self._check()
        except OSError as error:
            _LOG.error("the check of the spool ended early: %s", error)
            self._on_checked(f"not checked: {error.strerror}")
        yield from self._tidy()

    def _check(self) -> Iterator[None]:
        """Compare spool and state file, and say what is wrong."""
        counts: Counter[Fault] = Counter()
        unknown: list[Path] = []
        for found in survey(self._database, self._layout.spool):
            for one in self._still_wrong(found):
                counts[one.fault] += 1
                if one.fault is Fault.ORPHAN and len(unknown) <= HANDFUL:
                    unknown.append(one.path)
                if one.fault is not Fault.HALF_WRITTEN and counts[one.fault] == HANDFUL + 1:
                    # The count may take hours to be whole.
                    _LOG.error("more than %d images %s", HANDFUL, _SAID[one.fault])
            yield
        if counts[Fault.HALF_WRITTEN]:
            _LOG.warning(
                "%d half-written files removed; none was acknowledged", counts[Fault.HALF_WRITTEN]
            )
        if 0 < counts[Fault.ORPHAN] <= HANDFUL:
            counts[Fault.ORPHAN] -= sum(self._take_in(path) for path in unknown)
        wrong = {fault: counts[fault] for fault in _SAID if counts[fault]}
        for fault, count in wrong.items():
            _LOG.error("%d images %s", count, _SAID[fault])
        told = ", ".join(f"{count} {fault}" for fault, count in wrong.items())
        self._on_checked(f"{told}: rales fsck names them" if wrong else "all there")

    def _still_wrong(self, found: Sequence[Finding]) -> Iterator[Finding]:
        """Leave out what is under way, and do what needs nobody's decision."""
        for one in found:
            if one.fault is Fault.HALF_WRITTEN:
                if self._spool.is_left_over(one.path):
                    one.path.unlink(missing_ok=True)
                    yield one
            elif one.fault is Fault.RELEASED:
                self._retention.remove_again(one.series_uid, one.path)
            elif one.fault is Fault.ORPHAN:
                if self._is_old(one.path):
                    yield one
            elif not self._retention.let_go(one.series_uid, one.path):
                yield one

    def _is_old(self, path: Path) -> bool:
        """Tell whether a file is not one that is being received just now."""
        try:
            return path.stat().st_mtime < self._began
        except FileNotFoundError:
            return False

    def _take_in(self, path: Path) -> bool:
        taken = take_in(self._instances, path)
        if taken.trouble:
            _LOG.warning("%s cannot be taken in: %s", path, taken.trouble)
            return False
        _LOG.warning("%s was not recorded before the node was stopped: taken in now", path)
        return True

    def _tidy(self) -> Iterator[None]:
        """Remove results and quarantined files that nobody needs any more."""
        removed = unknown = 0
        for folder in _entries(self._layout.results):
            state = self._state_of(folder)
            if state == _ENDED:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
            unknown += state == _UNKNOWN
            yield
        if removed:
            _LOG.info("%d folders with results of ended jobs removed", removed)
        if unknown:
            _LOG.warning(
                "%d folders in %s belong to no job of the state file: left alone",
                unknown,
                self._layout.results,
            )
        yield from self._empty_quarantine()

    def _state_of(self, folder: Path) -> str:
        rows = self._database.rows(
            "SELECT state, result IS NOT NULL AS composed, released_at FROM jobs WHERE id = ?",
            (int(folder.name) if folder.name.isdecimal() else -1,),
        )
        if not rows:
            return _UNKNOWN
        state, composed, released = rows[0]
        gave_up = state in {JobState.FAILED, JobState.REJECTED} and not composed
        return _ENDED if released or gave_up or state == JobState.SUPERSEDED else _NEEDED

    def _empty_quarantine(self) -> Iterator[None]:
        if self._keep is None:
            return
        removed, oldest = 0, time.time() - self._keep.total_seconds()
        for path in _entries(self._layout.quarantine):
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
            yield
        if removed:
            _LOG.info("%d files removed from quarantine: retention.days", removed)


_ENDED, _NEEDED, _UNKNOWN = "ended", "needed", "unknown"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
