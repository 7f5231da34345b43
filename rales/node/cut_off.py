"""Records the instances whose rows a crash cut off, from their files, before the node serves.

An instance is acknowledged when its file is durable; its row follows in a group commit. Every write
to the state file commits the rows before it, and the node notes every minute that it runs. So a
file without a row was written after that note, and only folders that changed since then are read.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from chestct.errors import NotDicom
from chestct.series import ReceivedInstance
from rales.node.rebuild import SENDER
from rales.state.layout import Layout
from rales.state.store import Database, InstanceStore
from rales.state.store.grouped import BACKLOG
from scp.durable import sync_file, sync_folder
from scp.stored import read_back, sop_instance_uid_of

_LOG = logging.getLogger(__name__)
_SPOOL_FILE = re.compile(r"[0-9a-f]{64}\.dcm")
"""Any other file is left to a person."""
_MARGIN = timedelta(hours=1)
"""For a clock that was set shortly before the crash."""
_LONGEST_SECONDS = 5.0
"""How long the folders may take; housekeeping looks at the rest while the node serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """The number of instances that were recorded, and of torn files."""

    recorded: int = 0
    torn: int = 0


def record_cut_off(database: Database, layout: Layout, *, since: datetime | None) -> CutOff:
    """Record the instances that were stored after ``since`` and have no row.

    A file whose name is not the digest of its content is torn: a power cut came before its fsync,
    so it was never acknowledged, or its disk damaged it. It stays, and a resend replaces it. More
    files than a backlog holds are left alone: the state file was lost or replaced by an older one,
    and a person decides.

    Args:
        database: The state file.
        layout: The data directory.
        since: When the node last noted that it runs; None: it never ran on this state file.

    Raises:
        OutOfResources: The state file cannot be written.
    """
    if since is None:
        return CutOff()
    try:
        paths = list(_without_row(database, layout.spool, since - _MARGIN))
        if len(paths) > BACKLOG:
            _LOG.error(
                "%d images in %s are not in the state file, more than a crash leaves (%d): none is "
                "recorded. Was the state file lost or replaced by an older one? Stop the node; "
                "`rales fsck --rebuild` records them",
                len(paths),
                layout.spool,
                BACKLOG,
            )
            return CutOff()
        return _record(database, paths)
    except OSError as error:
        _LOG.error("the spool cannot be read: %s", error)
        return CutOff()


def _record(database: Database, paths: list[Path]) -> CutOff:
    instances: list[ReceivedInstance] = []
    torn = 0
    for path in paths:
        try:
            instance = read_back(path, calling_ae=SENDER)
            sync_file(path)  # a killed process may not have synced it
            sync_folder(path.parent)
        except (NotDicom, OSError) as error:
            torn += 1
            _LOG.warning("%s was not acknowledged, or its disk damaged it: %s", path, error)
        else:
            instances.append(instance)
    store = InstanceStore(database, on_change=lambda: None)
    with database.transaction():
        # Of two contents under one UID the later one counts, as it did when they arrived.
        for instance in sorted(instances, key=lambda instance: instance.received_at):
            store.record(instance)
    if instances:
        _LOG.warning("%d images that a crash cut off are recorded from their files", len(instances))
    return CutOff(recorded=len(instances), torn=torn)


def _without_row(database: Database, spool: Path, since: datetime) -> Iterator[Path]:
    """Yield the files without a row in the folders that changed after ``since``."""
    end = time.monotonic() + _LONGEST_SECONDS
    return chain.from_iterable(
        _unknown(database, folder)
        for folder in _changed_folders(spool, since)
        if time.monotonic() < end
    )


def _changed_folders(spool: Path, since: datetime) -> list[Path]:
    """Return the folders that changed after ``since``, the latest change first."""
    with os.scandir(spool) as entries:
        changes = [(entry.stat().st_mtime, Path(entry.path)) for entry in entries if entry.is_dir()]
    recent = [change for change in changes if change[0] >= since.timestamp()]
    return [folder for _, folder in sorted(recent, reverse=True)]


def _unknown(database: Database, folder: Path) -> set[Path]:
    """Return the files of a folder that the spool wrote and no row names."""
    try:
        files = {path for path in folder.iterdir() if _SPOOL_FILE.fullmatch(path.name)}
    except OSError as error:
        _LOG.error("the folder %s cannot be read: %s", folder, error)
        return set()
    for path in sorted(files):
        rows = database.rows(
            "SELECT path FROM instances WHERE series_uid IN"
            " (SELECT series_uid FROM instances WHERE sop_instance_uid = ?)",
            (_uid_of(path),),
        )
        known = {database.file_of(row["path"]) for row in rows}
        if path in known:  # a folder holds one series
            return files - known
    return files


def _uid_of(path: Path) -> str:
    """Return the SOP Instance UID of a file; empty if the file cannot be read."""
    try:
        return sop_instance_uid_of(path)
    except OSError:
        return ""
