"""Writes received instances to durable files; then they are acknowledged.

A new file is written, renamed to the digest of its content, and synced: one fsync, because on ext4
and XFS the fsync of a file also makes its name durable (:mod:`scp.durable`). The name proves that
the file is whole: a power cut before the fsync may leave a torn file, but its digest differs from
its name, and it was never acknowledged. A file that already has its name is never put at risk: its
replacement is synced before it takes the name.

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Condition
from typing import IO

from chestct.errors import OutOfResources
from chestct.uids import Uid, digest
from pynetdicom_guard.budget import Content
from scp.durable import fsync_keeps_names, sync_file, sync_folder
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
        self._claims = _Claims()
        self._run = secrets.token_hex(8)
        try:
            root.mkdir(parents=True, exist_ok=True)
            partials = list(root.glob(f"*/*{PARTIAL}")) if tidy else []
            for partial in partials:
                partial.unlink()
            self._keeps_names = fsync_keeps_names(root)
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

    def write(
        self,
        series_uid: Uid,
        file_meta: bytes,
        content: Content,
        *,
        digest: str | None = None,
        received_at: datetime | None = None,
    ) -> Spooled:
        """Make one instance durable; return its file. See :meth:`writing`."""
        with self.writing(
            series_uid, file_meta, content, digest=digest, received_at=received_at
        ) as spooled:
            return spooled

    @contextmanager
    def writing(
        self,
        series_uid: Uid,
        file_meta: bytes,
        content: Content,
        *,
        digest: str | None = None,
        received_at: datetime | None = None,
    ) -> Iterator[Spooled]:
        """Make one instance durable and yield its file; remove a new file if the block raises.

        No other thread writes the same content meanwhile. A file that its sender was refused must
        not stay: a start takes a file without a row for an acknowledged instance.

        An existing file is kept when it is whole and replaced otherwise, so that a resend restores
        what a disk lost or damaged.

        Args:
            series_uid: Its digest names the folder.
            file_meta: Preamble, prefix and File Meta Information (PS3.10 section 7.1).
            content: The data set as received, byte for byte.
            digest: Its SHA-256 in hexadecimal, where that is known.
            received_at: The modification time of the file, from which a lost row is rebuilt.

        Raises:
            OutOfResources: The file could not be written; nothing of it remains.
        """
        name = digest or hashlib.sha256(content).hexdigest()
        path = self._root / folder_of(series_uid) / f"{name}.dcm"
        file = _File(path=path, parts=(file_meta, content), received_at=received_at)
        with self._claims.claim(path):
            try:
                is_new = not path.exists()
                written = self._write(file) if is_new else self._renew(file, name)
                size = path.stat().st_size
            except OSError as error:
                raise OutOfResources(f"cannot store: {error.strerror or error}") from error
            try:
                yield Spooled(path=path, content_digest=name, size=size, written=written)
            except BaseException:
                if is_new:
                    path.unlink(missing_ok=True)
                raise

    def _write(self, file: _File) -> bool:
        """Write a file whose name is free: write, rename, fsync."""
        self._mark.check(file.size)
        folder = file.path.parent
        self._make_folder(folder)
        with file.partial(self._run) as (descriptor, name):
            name.replace(file.path)
            try:
                os.fsync(descriptor)
                if not self._keeps_names:
                    sync_folder(folder)
            except BaseException:
                file.path.unlink(missing_ok=True)
                raise
        return True

    def _renew(self, file: _File, name: str) -> bool:
        """Keep an existing file that is whole, or replace it; return whether content was lost."""
        lost = False
        if _has_content(file.path, *file.parts):
            sync_file(file.path)  # its writer may have crashed before this
        else:
            # If only the File Meta Information differs, another sender, another version or a
            # faulty disk wrote it.
            lost = not holds(file.path, name)
            self._mark.check(file.size)
            with file.partial(self._run) as (descriptor, partial):
                os.fsync(descriptor)
                partial.replace(file.path)
        sync_folder(file.path.parent)
        sync_folder(self._root)
        return lost

    def _make_folder(self, folder: Path) -> None:
        """Create the folder, durably; another thread or an earlier run may have created it."""
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
        elif folder in self._durable_folders:
            return
        if not self._keeps_names:
            sync_folder(self._root)
        self._durable_folders.add(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file to write: its final path, its bytes, and when they were received."""

    path: Path
    parts: tuple[Content, ...]
    received_at: datetime | None

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return sum(map(len, self.parts))

    @contextmanager
    def partial(self, prefix: str) -> Iterator[tuple[int, Path]]:
        """Yield descriptor and path of a file with the bytes, under a temporary name.

        The temporary name is gone afterwards.
        """
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=PARTIAL, dir=self.path.parent)
        try:
            for part in self.parts:
                _write_all(handle, part)
            if self.received_at is not None:
                nanoseconds = round(self.received_at.timestamp() * 1e6) * 1000
                os.utime(handle, ns=(nanoseconds, nanoseconds))
            yield handle, Path(name)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)


class _Claims:
    """Lets one thread at a time work on a path."""

    def __init__(self) -> None:
        self._claimed: set[Path] = set()
        self._changed = Condition()

    @contextmanager
    def claim(self, path: Path) -> Iterator[None]:
        """Wait until no other thread claims ``path``; claim it for the block."""
        with self._changed:
            self._changed.wait_for(lambda: path not in self._claimed)
            self._claimed.add(path)
        try:
            yield
        finally:
            with self._changed:
                self._claimed.discard(path)
                self._changed.notify_all()


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


def _write_all(descriptor: int, content: Content) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
