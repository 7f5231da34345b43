"""Writes received instances to durable files: write, fsync, rename; then they are acknowledged.

File names are digests, never text from a message. A refused instance is not kept: its sender knows
and still has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from chestct.errors import OutOfResources
from chestct.uids import Uid, digest
from pynetdicom_guard.budget import Content
from scp.space import FreeSpace, LowWaterMark, free_space

_LOG = logging.getLogger(__name__)
PARTIAL = ".partial"
"""Suffix of a file that is being written."""
GROUP_LENGTH_AT = 140
"""Preamble, prefix, and tag, VR and length of (0002,0000): PS3.10 section 7.1."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A durable Part 10 file.

    ``written``: whether its content was written now, because there was no whole file before.
    """

    path: Path
    content_digest: str
    size: int
    written: bool = field(default=False, compare=False)


class Spool:
    """The folder of received instances; safe to use from many threads."""

    def __init__(
        self, root: Path, *, reserve: int = 0, free: FreeSpace = free_space, tidy: bool = True
    ) -> None:
        """Use the folder ``root``; create it if it is missing.

        Args:
            root: The folder.
            reserve: Bytes that stay free on its disk.
            free: Returns the free bytes.
            tidy: Whether to remove files that a crash left half-written. That lists every folder;
                a caller that lists them anyway uses :meth:`is_left_over`.

        Raises:
            OutOfResources: The folder cannot be used.
        """
        self._root = root
        self._mark = LowWaterMark(root, reserve=reserve, free=free)
        self._durable_folders: set[Path] = set()
        self._run = secrets.token_hex(8)
        try:
            root.mkdir(parents=True, exist_ok=True)
            partials = list(root.glob(f"*/*{PARTIAL}")) if tidy else []
            for partial in partials:
                partial.unlink()
        except OSError as error:
            raise OutOfResources(f"the spool {root} cannot be used: {error.strerror}") from error
        if partials:
            _LOG.warning(
                "%d half-written files removed; their instances were not acknowledged",
                len(partials),
            )

    def is_left_over(self, file: Path) -> bool:
        """Return whether an earlier run left a file half-written; it was never acknowledged."""
        return file.suffix == PARTIAL and not file.name.startswith(self._run)

    def check_room(self, size: int) -> None:
        """Check that ``size`` more bytes may be written; raises as :meth:`LowWaterMark.check`."""
        self._mark.check(size)

    def temporary_file(self) -> IO[bytes]:
        """Return a file without a name; closing it deletes it. May raise an OSError."""
        return tempfile.TemporaryFile(prefix=self._run, suffix=PARTIAL, dir=self._root)

    def write(self, series_uid: Uid, file_meta: bytes, content: Content) -> Spooled:
        """Make one instance durable; return its file.

        An existing file is kept when it is whole and replaced otherwise, so that a resend restores
        what a disk lost or damaged.

        Args:
            series_uid: Its digest names the folder.
            file_meta: Preamble, prefix and File Meta Information (PS3.10 section 7.1).
            content: The data set as received, byte for byte.

        Raises:
            OutOfResources: The file could not be written; nothing of it remains.
        """
        name = hashlib.sha256(content).hexdigest()
        folder = self._root / folder_of(series_uid)
        path = folder / f"{name}.dcm"
        try:
            whole = _has_content(path, file_meta, content)
            # If only the File Meta Information differs, another version or a faulty disk wrote it.
            written = not whole and not holds(path, name)
            if not whole:
                self._mark.check(len(file_meta) + len(content))
            self._make_folder(folder)
            if not whole:
                _write_durably(path, self._run, file_meta, content)
            # Also for an existing file: its writer may have crashed before this.
            _sync_folder(folder)
            size = path.stat().st_size
        except OSError as error:
            raise OutOfResources(f"cannot store: {error.strerror or error}") from error
        return Spooled(path=path, content_digest=name, size=size, written=written)

    def _make_folder(self, folder: Path) -> None:
        """Create the folder durably, once; another thread or an earlier run may have created it."""
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
        elif folder in self._durable_folders:
            return
        _sync_folder(self._root)
        self._durable_folders.add(folder)


def folder_of(series_uid: Uid) -> str:
    """Return the name of the folder of a series."""
    return digest([series_uid])[:16]


def content_digest(path: Path) -> str:
    """Return the SHA-256 of the data set in a file.

    Raises:
        OSError: The file cannot be read.
    """
    content_hash = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(GROUP_LENGTH_AT)
        file.seek(int.from_bytes(file.read(4), "little"), os.SEEK_CUR)
        while chunk := file.read(_CHUNK):
            content_hash.update(chunk)
    return content_hash.hexdigest()


def _has_content(path: Path, *parts: Content) -> bool:
    """Return whether a file exists and holds ``parts``; reads a piece at a time."""
    try:
        with path.open("rb") as file:
            pieces = (
                part[place : place + _CHUNK]
                for part in parts
                for place in range(0, len(part), _CHUNK)
            )
            return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)
    except OSError:
        return False


def holds(path: Path, digest: str) -> bool:
    """Return whether a file exists and its data set has the digest."""
    try:
        return content_digest(path) == digest
    except OSError:  # missing or unreadable: it is written again
        return False


def _write_durably(path: Path, prefix: str, *parts: Content) -> None:
    """Write ``parts`` under a temporary name that begins with ``prefix``, fsync, then rename.

    The caller must sync the folder.
    """
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=PARTIAL, dir=path.parent)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            for part in parts:
                _write_all(file.fileno(), part)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink(missing_ok=True)
        raise


def _write_all(descriptor: int, content: Content) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
