"""Durable files of received instances: written, fsynced, renamed, then acknowledged.

Names are made of digests alone, never of what a message says. A refused object is not
kept: its sender was told so and still has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from chestct.errors import OutOfResources
from chestct.uids import Uid, digest
from scp.space import FreeSpace, LowWaterMark, free_space

_LOG = logging.getLogger(__name__)
PARTIAL = ".partial"
"""Suffix of a file that is being written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A durable Part 10 file."""

    path: Path
    content_digest: str
    size: int


class Spool:
    """The folder of received instances; safe to use from many threads."""

    def __init__(self, root: Path, *, reserve: int = 0, free: FreeSpace = free_space) -> None:
        """Use ``root``, making it when missing, and remove what a crash left half-written.

        Nothing is written that would leave fewer than ``reserve`` bytes ``free``.

        Raises:
            OutOfResources: The folder cannot be used.
        """
        self._root = root
        self._mark = LowWaterMark(root, reserve=reserve, free=free)
        self._durable_folders: set[Path] = set()
        try:
            root.mkdir(parents=True, exist_ok=True)
            partials = list(root.glob(f"*/*{PARTIAL}"))
            for partial in partials:
                partial.unlink()
        except OSError as error:
            raise OutOfResources(f"the spool {root} cannot be used: {error.strerror}") from error

        if partials:
            _LOG.warning("%d half-written files removed; none was acknowledged", len(partials))

    def write(self, series_uid: Uid, file_meta: bytes, content: bytes) -> Spooled:
        """Make one instance durable and return where.

        Args:
            series_uid: Decides the folder, by digest.
            file_meta: Preamble, prefix and file meta information (PS3.10 section 7.1).
            content: The data set as received; not changed by a byte.

        Raises:
            OutOfResources: The file could not be written; nothing of it is left.
        """
        name = hashlib.sha256(content).hexdigest()
        folder = self._root / digest([series_uid])[:16]
        path = folder / f"{name}.dcm"
        try:
            if not path.exists():
                self._mark.check(len(file_meta) + len(content))
            self._make_folder(folder)
            if not path.exists():
                _write_durably(path, file_meta, content)
            # Also for a file that was there: whoever wrote it may not have come so far.
            _sync_folder(folder)
        except OSError as error:
            raise OutOfResources(f"cannot store: {error.strerror or error}") from error
        return Spooled(path=path, content_digest=name, size=len(file_meta) + len(content))

    def _make_folder(self, folder: Path) -> None:
        """Make the folder durable, once; another thread or an earlier run may have made it."""
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
        elif folder in self._durable_folders:
            return
        _sync_folder(self._root)
        self._durable_folders.add(folder)


def _write_durably(path: Path, *parts: bytes) -> None:
    """Write ``parts`` so that a file of that name is whole; its folder is still to be synced."""
    handle, name = tempfile.mkstemp(suffix=PARTIAL, dir=path.parent)
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


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
