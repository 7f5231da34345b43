"""Compares the spool with the state file: what is here and not known, known and not here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rales.store import Database
from scp.spool import PARTIAL

_GROUP_LENGTH_AT = 140
"""Preamble, prefix, and tag, VR and length of (0002,0000): PS3.10 section 7.1."""
_CHUNK = 1 << 20


class Fault(StrEnum):
    """What can be wrong with a file of the spool."""

    ORPHAN = "orphan"
    """No row knows it: it was never acknowledged, or is the half of a write."""
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
    known = set()
    for row in database.rows(
        "SELECT path, size, content_digest, series_uid FROM instances WHERE released_at IS NULL"
    ):
        path = Path(row["path"])
        known.add(path)
        fault = _fault(path, row["size"], row["content_digest"] if deep else None)
        if fault:
            yield Finding(fault=fault, path=path, series_uid=row["series_uid"])
    for path in sorted(spool.glob("*/*")):
        if path not in known:
            yield Finding(fault=Fault.ORPHAN, path=path)


def set_aside(finding: Finding, quarantine: Path) -> bool:
    """Move a file that is not what it should be to ``quarantine``; False: there is none.

    Its place is free then, so that a resend is stored again.

    Raises:
        OSError: It cannot be moved.
    """
    if finding.fault is Fault.MISSING:
        return False
    quarantine.mkdir(mode=0o700, exist_ok=True)
    finding.path.rename(quarantine / finding.path.name)
    return True


def repair(database: Database, spool: Path, quarantine: Path) -> Iterator[Fault]:
    """Set aside what is wrong at first sight, and yield each fault.

    Half-written files are left to the spool, which removes them.

    Raises:
        OSError: A file cannot be looked at or moved.
    """
    for finding in list(examine(database, spool, deep=False)):
        if finding.path.suffix == PARTIAL:
            continue
        set_aside(finding, quarantine)
        yield finding.fault


def _fault(path: Path, size: int, digest: str | None) -> Fault | None:
    if not path.is_file():
        return Fault.MISSING
    if path.stat().st_size != size:
        return Fault.WRONG_SIZE
    if digest is not None and _content_digest(path) != digest:
        return Fault.WRONG_DIGEST
    return None


def _content_digest(path: Path) -> str:
    """Return the digest of what follows the file meta information."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(_GROUP_LENGTH_AT)
        file.seek(int.from_bytes(file.read(4), "little"), 1)
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
