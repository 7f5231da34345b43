"""Copy the data directory of a running node, and restore such a copy.

A backup is a snapshot of the state file, and the files that it names. Files that arrive later are
not in the snapshot, and images never change once they are written. ``backup.json`` is written
last: it shows that the backup is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from chestct.errors import ConfigError
from rales.runtime import files
from rales.state.layout import Layout
from rales.state.snapshot import (
    check_state,
    count_series,
    disk_errors,
    follow_release,
    jobs_with_results,
    kept_images,
    take_snapshot,
)
from rales.state.store import Database
from scp.spool import holds

Say = Callable[[str], object]

_COMPLETE = "backup.json"
_DIGESTS = "results.sha256"
_EVERY = 1000
_IGNORED = frozenset({"node.lock", "lost+found"})
"""Names that an empty directory may contain: the lock of `rales restore`, and what mkfs creates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """The number of copied series and files; ``missing`` and ``damaged`` files are not copied."""

    series: int
    images: int
    results: int
    missing: int
    damaged: int = 0


def back_up(layout: Layout, target: Path, say: Say = lambda _line: None) -> Copied:
    """Copy a data directory to ``target``; the node may be running.

    Raises:
        ConfigError: There is no state file, or ``target`` is not empty.
        OutOfResources: ``target`` cannot be written.
    """
    if not layout.state.exists():
        raise ConfigError(f"{layout.state} does not exist: nothing to back up")
    with disk_errors(target):
        check_state(layout.state)
    _create_empty(target, "backup directory")
    copy = Layout(target)
    with disk_errors(target):
        take_snapshot(layout.state, copy.state)
        with closing(Database(copy.state)) as state:
            images, missing = _link_images(state, layout, say)
            results = _copy_results(state, layout, copy)
            series = count_series(state)
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
        (target / _COMPLETE).write_text(json.dumps(facts, indent=2) + "\n")
        files.sync(target / _COMPLETE)
        files.sync_folder(target)
    return copied


def restore(source: Path, layout: Layout, say: Say = lambda _line: None) -> Copied:
    """Copy a backup to an empty data directory, and compare every digest.

    The state file gets its name last, so that no node starts on an incomplete restore.

    Raises:
        ConfigError: ``source`` is not a complete backup, this version cannot read its state file,
            or the data directory is not empty.
        OutOfResources: The data directory cannot be written.
    """
    facts = _facts(source)
    _create_empty(layout.data_dir, "data directory")
    copy = Layout(source)
    with disk_errors(layout.data_dir):
        unfinished = layout.state.with_name("restoring.sqlite")
        files.copy(copy.state, unfinished)
        if _sha256(unfinished) != facts["state_sha256"]:
            unfinished.unlink()
            raise ConfigError(
                f"{copy.state} is damaged: its digest differs from the one in {_COMPLETE}"
            )
        try:
            check_state(unfinished, named=copy.state)
        except ConfigError:
            for part in layout.data_dir.glob(f"{unfinished.name}*"):
                part.unlink()
            raise
        with closing(Database(unfinished)) as state:
            images, missing, damaged = _copy_images(state, source, say)
            series = count_series(state)
        results, lost = _restore_results(copy, layout)
        os.sync()
        unfinished.rename(layout.state)
        files.sync_folder(layout.data_dir)
    return Copied(
        series=series, images=images, results=results, missing=missing, damaged=damaged + lost
    )


def _create_empty(folder: Path, kind: str) -> None:
    """Create a directory for patient data, or check that it is empty.

    Raises:
        ConfigError: The directory is not empty.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()} - _IGNORED
    except OSError as error:
        raise ConfigError(f"the {kind} {folder} cannot be used: {error.strerror}") from error
    if names:
        raise ConfigError(
            f"the {kind} {folder} is not empty ({min(names)}, {len(names)} in all): use an empty "
            "one, or remove the files of an interrupted attempt"
        )


def _link_images(state: Database, layout: Layout, say: Say) -> tuple[int, int]:
    """Link, or copy to another file system, the images that the snapshot names."""
    images = missing = 0
    created: set[Path] = set()
    for image in kept_images(state):
        folder = image.path.parent
        if folder not in created:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            created.add(folder)
        try:
            _link(layout.data_dir / image.name, image.path)
            images += 1
        except FileNotFoundError:
            missing += not follow_release(state, layout.state, image)
        if (images + missing) % _EVERY == 0:
            say(f"{images} images ...")
    return images, missing


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or a file system without hard links
        files.copy(source, target)


def _copy_results(state: Database, layout: Layout, copy: Layout) -> int:
    """Copy the results of the jobs in the snapshot, and write their digests to a file."""
    lines = []
    for job_id in jobs_with_results(state):
        folder = layout.results / f"{job_id:08d}"
        with suppress(FileNotFoundError):  # released meanwhile, or lost earlier
            for path in sorted(folder.iterdir()):
                target = copy.results / folder.name / path.name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                files.copy(path, target)
                lines.append(f"{_sha256(target)}  {target.relative_to(copy.data_dir)}\n")
    (copy.data_dir / _DIGESTS).write_text("".join(lines))
    return len(lines)


def _facts(source: Path) -> dict[str, str]:
    try:
        facts = json.loads((source / _COMPLETE).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{source} is not a complete backup: {_COMPLETE}, which is written last, is missing or "
            "unreadable"
        ) from error
    return {name: str(value) for name, value in facts.items()}


def _copy_images(state: Database, source: Path, say: Say) -> tuple[int, int, int]:
    """Copy the images and compare their digests; do not keep damaged ones."""
    images = missing = damaged = 0
    for image in kept_images(state):
        image.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            files.copy(source / image.name, image.path)
        except FileNotFoundError:
            missing += 1
            continue
        if not holds(image.path, image.content_digest):
            image.path.unlink()
            damaged += 1
            continue
        images += 1
        if images % _EVERY == 0:
            say(f"{images} images ...")
    return images, missing, damaged


def _restore_results(copy: Layout, layout: Layout) -> tuple[int, int]:
    """Copy the results; return the number of good files, and of missing or damaged ones."""
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
