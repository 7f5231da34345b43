"""Files that can be read to their end: no pipe that waits, no device that never ends."""

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
    (stat.S_ISDIR, "is a folder, not a file"),
)


class Unreadable(Exception):
    """Something that is no file, or cannot be read; the message continues its name."""


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; nothing is waited for.

    Raises:
        Unreadable: It is none, or cannot be opened.
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
        Unreadable: It is none, cannot be read, is larger, or changed while it was read.
    """
    try:
        with open_plain(path) as file:
            before = os.fstat(file.fileno())
            if before.st_size > largest:
                raise Unreadable(f"has {before.st_size} bytes, at most {largest} are read")
            content = file.read(largest + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise Unreadable(_why(path, error)) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Unreadable("changed while it was read; start again when it is complete")
    if len(content) != before.st_size:
        raise Unreadable(f"gave {len(content)} of {before.st_size} bytes")
    return content


def _kind(mode: int) -> str:
    return next((said for test, said in _KINDS if test(mode)), "is no file")


def _why(path: Path, error: OSError | ValueError) -> str:
    """Say why a path cannot be opened; a socket says no such device."""
    if isinstance(error, ValueError):
        return "has a name that no file has"
    try:
        mode = path.stat().st_mode
    except OSError:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {error.strerror}" if stat.S_ISREG(mode) else _kind(mode)
