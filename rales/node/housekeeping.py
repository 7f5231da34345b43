"""Checks and tidies the files of a running node, a little at a time.

After the start it compares the spool with the state file; every day it removes files that no series
needs any more. It never moves an acknowledged image. When much looks wrong it changes nothing: the
state file may be another one, or a disk may not be mounted.
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
"""Together 1/300 of one core: 10 million files take a day, and no C-STORE is delayed."""
_AGAIN_SECONDS = 86_400.0

_REPORTS = {
    Fault.ORPHAN: "in spool/ are unknown to the state file; they stay where they are. Was the "
    "state file lost or replaced by an older one? Stop the node; `rales fsck --rebuild` records "
    "them again",
    Fault.MISSING: "of the state file are not in spool/. Is its disk mounted? A resend restores "
    "each; `rales fsck` lists them",
    Fault.WRONG_SIZE: "differ in size from the state file. A resend restores each; `rales fsck "
    "--deep` lists all damaged images",
}


class HousekeepingWorker:
    """One step of the housekeeping loop.

    Args:
        instances: Records the few images that a power cut left unrecorded.
        keep: How long files stay in quarantine; None: until somebody removes them.
        on_checked: Receives the result of the check in one line.
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
        """Work for a moment; return when to continue."""
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
            _LOG.error("the check of the spool stopped early: %s", error)
            self._on_checked(f"not checked: {error.strerror}")
        yield from self._tidy()

    def _check(self) -> Iterator[None]:
        """Compare spool and state file, and report the differences."""
        counts: Counter[Fault] = Counter()
        unknown: list[Path] = []
        for findings in survey(self._database, self._layout.spool):
            for finding in self._confirm(findings):
                fault = finding.fault
                counts[fault] += 1
                if fault is Fault.ORPHAN and len(unknown) <= HANDFUL:
                    unknown.append(finding.path)
                if fault is not Fault.HALF_WRITTEN and counts[fault] == HANDFUL + 1:
                    # Report it now: the whole count may take hours.
                    _LOG.error("more than %d images %s", HANDFUL, _REPORTS[fault])
            yield
        if counts[Fault.HALF_WRITTEN]:
            _LOG.warning(
                "removed %d half-written files; none was acknowledged", counts[Fault.HALF_WRITTEN]
            )
        if 0 < counts[Fault.ORPHAN] <= HANDFUL:
            counts[Fault.ORPHAN] -= sum(self._take_in(path) for path in unknown)
        wrong = {fault: counts[fault] for fault in _REPORTS if counts[fault]}
        for fault, count in wrong.items():
            _LOG.error("%d images %s", count, _REPORTS[fault])
        summary = ", ".join(f"{count} {fault}" for fault, count in wrong.items())
        self._on_checked(f"{summary}: rales fsck lists them" if wrong else "all there")

    def _confirm(self, findings: Sequence[Finding]) -> Iterator[Finding]:
        """Yield the faults that remain; repair those that need no decision, skip work under way."""
        for finding in findings:
            if finding.fault is Fault.HALF_WRITTEN:
                if self._spool.is_left_over(finding.path):
                    finding.path.unlink(missing_ok=True)
                    yield finding
            elif finding.fault is Fault.RELEASED:
                self._retention.remove_again(finding.series_uid, finding.path)
            elif finding.fault is Fault.ORPHAN:
                if self._is_old(finding.path):
                    yield finding
            elif not self._retention.is_released(finding.series_uid, finding.path):
                yield finding

    def _is_old(self, path: Path) -> bool:
        """Return whether a file is older than this run of the node."""
        try:
            return path.stat().st_mtime < self._began
        except FileNotFoundError:
            return False

    def _take_in(self, path: Path) -> bool:
        taken = take_in(self._instances, path)
        if taken.trouble:
            _LOG.warning("%s cannot be recorded: %s", path, taken.trouble)
            return False
        _LOG.warning("%s was not recorded before the node was stopped; it is recorded now", path)
        return True

    def _tidy(self) -> Iterator[None]:
        """Remove result folders and quarantined files that no job needs any more."""
        removed = unknown = 0
        for folder in _entries(self._layout.results):
            state = self._state_of(folder)
            if state == _ENDED:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
            unknown += state == _UNKNOWN
            yield
        if removed:
            _LOG.info("removed %d result folders of ended jobs", removed)
        if unknown:
            _LOG.warning(
                "%d folders in %s belong to no job of the state file; they stay",
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
            _LOG.info("removed %d files from quarantine, after retention.days", removed)


_ENDED, _NEEDED, _UNKNOWN = "ended", "needed", "unknown"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
