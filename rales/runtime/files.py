"""Moving and copying files so that a power cut leaves the old one or the new one, whole."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_COPY = ".copy"


def move(source: Path, target: Path) -> None:
    """Move a file, also to another file system; nothing of it is lost at any moment.

    Raises:
        OSError: It cannot be moved; it stays where it was.
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
    """Copy a file with its times; ``target`` is there when it is whole and durable.

    Raises:
        OSError: It cannot be copied; nothing of it is left.
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
    """Return a path in ``folder`` that nothing has: ``name``, or with a number behind it."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path
