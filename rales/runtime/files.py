"""Moves and copies files; after a power cut the old or the new file is complete."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_COPY = ".copy"


def move(source: Path, target: Path) -> None:
    """Move a file, also to another file system; a complete file exists at every moment.

    Raises:
        OSError: The file cannot be moved; it stays in its place.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(source, target)
        source.unlink()
    sync_folder(target.parent)


def copy(source: Path, target: Path) -> None:
    """Copy a file with its times; ``target`` appears when it is complete and durable.

    Raises:
        OSError: The file cannot be copied; no part of the copy is left.
    """
    partial = target.with_name(f"{target.name}{_COPY}")
    try:
        shutil.copy2(source, partial)
        sync(partial)
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def sync(file: Path) -> None:
    """Make the content of a file durable."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_name(folder: Path, name: str) -> Path:
    """Return an unused path in ``folder``: ``name``, or ``name`` with a number appended."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path
