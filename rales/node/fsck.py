"""Compares the spool with the state file: unknown, missing and damaged files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path

from rales.runtime import files
from rales.state.store import Database
from rales.state.store.database import Row
from scp.spool import PARTIAL, content_digest

HANDFUL = 10
"""Up to this many unknown files may be the remains of a power cut; more mean another state file."""


class Fault(StrEnum):
    """What can be wrong with a file of the spool."""

    ORPHAN = "orphan"
    """No row names it. It may have been acknowledged: the state file may be lost or older."""
    HALF_WRITTEN = "half-written"
    """Its name is that of a file being written: it was never acknowledged."""
    RELEASED = "released"
    """Retention released it, and it is still on disk."""
    MISSING = "missing"
    """A row names it, and it is not on disk; a resend restores it."""
    WRONG_SIZE = "wrong size"
    WRONG_DIGEST = "wrong digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault; ``series_uid`` is empty when no row names the file."""

    fault: Fault
    path: Path
    series_uid: str = ""


def examine(database: Database, spool: Path, *, deep: bool) -> Iterator[Finding]:
    """Yield every fault; with ``deep``, read every file and compare its digest.

    A released file is not missing.

    Raises:
        OSError: A file cannot be read.
    """
    return chain.from_iterable(survey(database, spool, deep=deep))


def survey(database: Database, spool: Path, *, deep: bool = False) -> Iterator[list[Finding]]:
    """Yield the faults of one series at a time, so that a running node can pause in between.

    Raises:
        OSError: A file cannot be read.
    """
    seen: set[str] = set()
    series = ""
    while rows := database.rows(
        "SELECT series_uid FROM instances WHERE series_uid > ? ORDER BY series_uid LIMIT 1",
        (series,),
    ):
        series = rows[0]["series_uid"]
        yield _of_series(database, series, spool, seen, deep=deep)
    with os.scandir(spool) if spool.is_dir() else nullcontext(()) as entries:
        others = sorted(entry.name for entry in entries if entry.name not in seen)
    for name in others:
        yield [_unknown(path) for path in sorted(_files(spool / name))]


def _of_series(
    database: Database, series: str, spool: Path, seen: set[str], *, deep: bool
) -> list[Finding]:
    rows = {
        database.file_of(row["path"]): row
        for row in database.rows(
            "SELECT path, size, content_digest, released_at, gone FROM instances"
            " WHERE series_uid = ?",
            (series,),
        )
    }
    on_disk: dict[Path, os.stat_result] = {}
    for folder in {path.parent for path in rows}:
        on_disk |= _files(folder)
        if folder.parent == spool:
            seen.add(folder.name)
    findings = [
        Finding(fault=fault, path=path, series_uid=series)
        for path, row in rows.items()
        if (fault := _fault(path, row, on_disk.get(path), deep=deep))
    ]
    return findings + [_unknown(path) for path in sorted(on_disk.keys() - rows.keys())]


def _files(folder: Path) -> dict[Path, os.stat_result]:
    """Return the files of a folder with their status; nothing for a missing folder."""
    files_here = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    files_here[Path(entry.path)] = entry.stat()
                except FileNotFoundError:  # released, or renamed when it was complete
                    continue
    except (FileNotFoundError, NotADirectoryError):
        pass
    return files_here


def _unknown(path: Path) -> Finding:
    half = path.suffix == PARTIAL
    return Finding(fault=Fault.HALF_WRITTEN if half else Fault.ORPHAN, path=path)


def _fault(path: Path, row: Row, status: os.stat_result | None, *, deep: bool) -> Fault | None:
    if row["released_at"]:
        # Before "gone" is set, its removal is still to come.
        return Fault.RELEASED if status and row["gone"] else None
    if status is None:
        return Fault.MISSING
    if status.st_size != row["size"]:
        return Fault.WRONG_SIZE
    if deep and content_digest(path) != row["content_digest"]:
        return Fault.WRONG_DIGEST
    return None


def set_aside(finding: Finding, quarantine: Path) -> bool:
    """Move a faulty file to ``quarantine``; return False for a missing file.

    A file that was never acknowledged or that retention released is removed instead.

    Raises:
        OSError: The file cannot be moved.
    """
    if finding.fault is Fault.MISSING:
        return False
    if finding.fault in {Fault.HALF_WRITTEN, Fault.RELEASED}:
        finding.path.unlink(missing_ok=True)
        return True
    quarantine.mkdir(mode=0o700, exist_ok=True)
    target = files.free_name(quarantine, finding.path.name)
    files.move(finding.path, target)
    os.utime(target)  # retention.days counts from now
    return True
