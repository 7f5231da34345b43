"""A copy of everything a node holds, made while it runs, and the way back.

First a snapshot of the state file, then the files that its rows name: whatever comes later is not
in the snapshot, and images never change once they are written. ``backup.json``, written last,
says that the copy is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from chestct.errors import ConfigError, OutOfResources
from rales.runtime import files
from rales.state.layout import Layout
from rales.state.store import Database
from scp.spool import holds

Say = Callable[[str], object]

_WHOLE = "backup.json"
_DIGESTS = "results.sha256"
_EVERY = 1000
_OF_A_NODE = frozenset({"node.lock", "lost+found"})
"""What an empty folder may hold: the lock of who restores, and what a new disk comes with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied; ``missing`` and ``damaged`` files were not."""

    series: int
    images: int
    results: int
    missing: int
    damaged: int = 0


def back_up(layout: Layout, target: Path, say: Say = lambda _line: None) -> Copied:
    """Copy what the node of ``layout`` holds to ``target``; the node may run.

    Raises:
        ConfigError: There is nothing to copy, or ``target`` is not empty.
        OutOfResources: It cannot be written.
    """
    if not layout.state.exists():
        raise ConfigError(f"{layout.state} does not exist: nothing to back up")
    _begin(target, "backup")
    copy = Layout(target)
    with _disk(target):
        _snapshot(layout.state, copy.state)
        with closing(Database(copy.state)) as state:
            images, missing = _link_images(state, layout, say)
            results = _copy_results(state, layout, copy)
            series = state.rows("SELECT count(DISTINCT series_uid) FROM jobs")[0][0]
        copied = Copied(series=series, images=images, results=results, missing=missing)
        facts = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": version("rales"),
            "state_sha256": _sha256(copy.state),
            "series": copied.series,
            "images": copied.images,
            "results": copied.results,
        }
        os.sync()
        (target / _WHOLE).write_text(json.dumps(facts, indent=2) + "\n")
        files.sync(target / _WHOLE)
        files.sync_folder(target)
    return copied


def restore(source: Path, layout: Layout, say: Say = lambda _line: None) -> Copied:
    """Copy a backup to the empty data folder of ``layout``, and compare every digest.

    The state file gets its name last: what was cut off is no data folder that a node starts on.

    Raises:
        ConfigError: ``source`` is no whole backup, or the data folder is not empty.
        OutOfResources: It cannot be written.
    """
    facts = _facts(source)
    _begin(layout.data_dir, "data folder")
    copy = Layout(source)
    with _disk(layout.data_dir):
        unfinished = layout.state.with_name("restoring.sqlite")
        files.copy(copy.state, unfinished)
        if _sha256(unfinished) != facts["state_sha256"]:
            unfinished.unlink()
            raise ConfigError(f"{copy.state} is damaged: it has another digest than {_WHOLE} says")
        with closing(Database(unfinished)) as state:
            images, missing, damaged = _copy_images(state, source, say)
            series = state.rows("SELECT count(DISTINCT series_uid) FROM jobs")[0][0]
        results, lost = _restore_results(copy, layout)
        os.sync()
        unfinished.rename(layout.state)
        files.sync_folder(layout.data_dir)
    return Copied(
        series=series, images=images, results=results, missing=missing, damaged=damaged + lost
    )


def _begin(folder: Path, what: str) -> None:
    """Make an empty folder for patient data.

    Raises:
        ConfigError: There is something in it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        here = {path.name for path in folder.iterdir()} - _OF_A_NODE
    except OSError as error:
        raise ConfigError(f"the {what} {folder} cannot be used: {error.strerror}") from error
    if here:
        raise ConfigError(
            f"the {what} {folder} is not empty ({min(here)}, {len(here)} in all): nothing is "
            "written over; name an empty one, or remove what an interrupted attempt left"
        )


def _snapshot(state: Path, copy: Path) -> None:
    """Copy the state file as it is at one moment; whoever writes to it does not wait."""
    copy.touch(mode=0o600)
    uri = f"{state.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as live, closing(sqlite3.connect(copy)) as target:
        live.backup(target)


def _link_images(state: Database, layout: Layout, say: Say) -> tuple[int, int]:
    """Link, or copy to another file system, the images that the snapshot names."""
    images = missing = 0
    made: set[Path] = set()
    live_uri = f"{layout.state.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(live_uri, uri=True)) as live:
        for name, target, row in _images(state):
            if target.parent not in made:
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                made.add(target.parent)
            try:
                _link(layout.data_dir / name, target)
                images += 1
            except FileNotFoundError:
                missing += not _follow_release(state, live, row["series_uid"], name)
            if (images + missing) % _EVERY == 0:
                say(f"{images} images ...")
    return images, missing


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        files.copy(source, target)


def _follow_release(state: Database, live: sqlite3.Connection, series: str, name: str) -> bool:
    """Note in the snapshot that retention let go of an image meanwhile; False: it did not."""
    row = live.execute(
        "SELECT released_at FROM instances WHERE series_uid = ? AND path = ?", (series, name)
    ).fetchone()
    if row is None or row[0] is None:
        return False
    with state.transaction() as tx:
        tx.execute(
            "UPDATE instances SET released_at = ?, gone = 1 WHERE series_uid = ? AND path = ?",
            (row[0], series, name),
        )
        tx.execute(
            "UPDATE jobs SET released_at = ?, holds = 0 WHERE series_uid = ?", (row[0], series)
        )
    return True


def _images(state: Database) -> Iterator[tuple[str, Path, sqlite3.Row]]:
    """Yield name, place and row of every image that is kept, a page at a time."""
    last = 0
    while page := state.rows(
        "SELECT rowid, path, content_digest, series_uid FROM instances"
        " WHERE rowid > ? AND released_at IS NULL ORDER BY rowid LIMIT ?",
        (last, _EVERY),
    ):
        for row in page:
            if not row["path"].startswith("/"):
                yield row["path"], state.file_of(row["path"]), row
        last = page[-1]["rowid"]


def _copy_results(state: Database, layout: Layout, copy: Layout) -> int:
    """Copy the results of the jobs of the snapshot, and write down their digests."""
    lines = []
    rows = state.rows("SELECT id FROM jobs WHERE result IS NOT NULL AND released_at IS NULL")
    for row in rows:
        folder = layout.results / f"{row['id']:08d}"
        with suppress(FileNotFoundError):  # released meanwhile, or lost before
            for path in sorted(folder.iterdir()):
                place = copy.results / folder.name / path.name
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                files.copy(path, place)
                lines.append(f"{_sha256(place)}  {place.relative_to(copy.data_dir)}\n")
    (copy.data_dir / _DIGESTS).write_text("".join(lines))
    return len(lines)


def _facts(source: Path) -> dict[str, str]:
    try:
        facts = json.loads((source / _WHOLE).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{source} is no whole backup: {_WHOLE}, which is written last, is not there or cannot "
            "be read"
        ) from error
    return {name: str(value) for name, value in facts.items()}


def _copy_images(state: Database, source: Path, say: Say) -> tuple[int, int, int]:
    """Copy the images, compare their digests, and leave out what is damaged."""
    images = missing = damaged = 0
    for name, target, row in _images(state):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            files.copy(source / name, target)
        except FileNotFoundError:
            missing += 1
            continue
        if not holds(target, row["content_digest"]):
            target.unlink()
            damaged += 1
            continue
        images += 1
        if images % _EVERY == 0:
            say(f"{images} images ...")
    return images, missing, damaged


def _restore_results(copy: Layout, layout: Layout) -> tuple[int, int]:
    """Copy the results; return how many, and how many were lost or damaged."""
    results = lost = 0
    for line in (copy.data_dir / _DIGESTS).read_text().splitlines():
        digest, name = line.split("  ", 1)
        target = layout.data_dir / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            files.copy(copy.data_dir / name, target)
        if target.exists() and _sha256(target) == digest:
            results += 1
        else:
            target.unlink(missing_ok=True)
            lost += 1
    return results, lost


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into an error with a reason."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise OutOfResources(f"{folder} cannot be written: {error}") from error
