"""Read regular files only: a pipe could block for ever, and a device may have no end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISFIFO, "is a named pipe, not a file"),
    (stat.S_ISSOCK, "is a socket, not a file"),
    (stat.S_ISCHR, "is a device, not a file"),
    (stat.S_ISBLK, "is a device, not a file"),
    (stat.S_ISDIR, "is a directory, not a file"),
)


class Unreadable(Exception):
    """A path that is not a regular file or cannot be read; the message continues the path."""


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without blocking.

    Raises:
        Unreadable: The path is not a regular file, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise Unreadable(_why(path, error)) from error
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise Unreadable(_kind(mode))
        yield file


def read_unchanged(path: Path, largest: int) -> bytes:
    """Return the content of a regular file of at most ``largest`` bytes.

    Raises:
        Unreadable: The path is not a regular file or cannot be read; or the file is larger, or
            changed during the read.
    """
    try:
        with open_plain(path) as file:
            before = os.fstat(file.fileno())
            if before.st_size > largest:
                raise Unreadable(f"has {before.st_size} bytes, more than the limit of {largest}")
            content = file.read(largest + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise Unreadable(_why(path, error)) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Unreadable("changed while it was read; run the command again when it is complete")
    if len(content) != before.st_size:
        raise Unreadable(f"returned only {len(content)} of {before.st_size} bytes")
    return content


def _kind(mode: int) -> str:
    return next((message for test, message in _KINDS if test(mode)), "is not a file")


def _why(path: Path, error: OSError | ValueError) -> str:
    """Return why a path cannot be opened; for a socket, the error is a misleading ENXIO."""
    if isinstance(error, ValueError):
        return "is not a valid file name"
    try:
        mode = path.stat().st_mode
    except OSError:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {error.strerror}" if stat.S_ISREG(mode) else _kind(mode)
