"""Compares the spool with the state file: what is here and not known, known and not here."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path

from rales.runtime import files
from rales.state.store import Database
from scp.spool import PARTIAL, content_digest

HANDFUL = 10
"""So many files may be taken for what a power cut left; more look like another state file."""


class Fault(StrEnum):
    """What can be wrong with a file of the spool."""

    ORPHAN = "orphan"
    """No row knows it. It may have been acknowledged all the same, when the state file was lost
    or is older than it."""
    HALF_WRITTEN = "half-written"
    """It has the name of a file that is being written: it was never acknowledged."""
    RELEASED = "released"
    """Retention let go of it, and it is still here."""
    MISSING = "missing"
    """A row names it and it is gone; a resend brings it back."""
    WRONG_SIZE = "wrong size"
    WRONG_DIGEST = "wrong digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault; ``series_uid`` is empty where no row knows the file."""

    fault: Fault
    path: Path
    series_uid: str = ""


def examine(database: Database, spool: Path, *, deep: bool) -> Iterator[Finding]:
    """Yield every fault; ``deep`` reads every file and compares its digest.

    What retention released is not missing.

    Raises:
        OSError: A file cannot be read.
    """
    return chain.from_iterable(survey(database, spool, deep=deep))


def survey(database: Database, spool: Path, *, deep: bool = False) -> Iterator[list[Finding]]:
    """Do the same a series at a time, so that a running node can do it bit by bit.

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
    here: dict[Path, os.stat_result] = {}
    for folder in {path.parent for path in rows}:
        here |= _files(folder)
        if folder.parent == spool:
            seen.add(folder.name)
    found = [
        Finding(fault=fault, path=path, series_uid=series)
        for path, row in rows.items()
        if (fault := _fault(path, row, here.get(path), deep=deep))
    ]
    return found + [_unknown(path) for path in sorted(here.keys() - rows.keys())]


def _files(folder: Path) -> dict[Path, os.stat_result]:
    """Return what is in a folder; a folder that is not there is empty."""
    found = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found[Path(entry.path)] = entry.stat()
                except FileNotFoundError:  # released or finished since
                    continue
    except (FileNotFoundError, NotADirectoryError):
        pass
    return found


def _unknown(path: Path) -> Finding:
    half = path.suffix == PARTIAL
    return Finding(fault=Fault.HALF_WRITTEN if half else Fault.ORPHAN, path=path)


def _fault(
    path: Path, row: sqlite3.Row, here: os.stat_result | None, *, deep: bool
) -> Fault | None:
    if row["released_at"]:
        # Until it is gone, its removal is still to come.
        return Fault.RELEASED if here and row["gone"] else None
    if here is None:
        return Fault.MISSING
    if here.st_size != row["size"]:
        return Fault.WRONG_SIZE
    if deep and content_digest(path) != row["content_digest"]:
        return Fault.WRONG_DIGEST
    return None


def set_aside(finding: Finding, quarantine: Path) -> bool:
    """Move a file that is not what it should be to ``quarantine``; False: there is none.

    Its place is free then. What was never acknowledged, or released, is removed.

    Raises:
        OSError: It cannot be moved.
    """
    if finding.fault is Fault.MISSING:
        return False
    if finding.fault in {Fault.HALF_WRITTEN, Fault.RELEASED}:
        finding.path.unlink(missing_ok=True)
        return True
    quarantine.mkdir(mode=0o700, exist_ok=True)
    target = files.free_name(quarantine, finding.path.name)
    files.move(finding.path, target)
    os.utime(target)  # what retention.days counts from
    return True
