"""Keeps space free on the disk of the spool: refuses instances before the disk is full."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from threading import Lock
from typing import Protocol

from chestct.errors import OutOfResources

_LOG = logging.getLogger(__name__)
_MEGABYTE = 1e6


class FreeSpace(Protocol):
    """Returns the free bytes of the file system of a folder."""

    def __call__(self, folder: Path, /) -> int:
        """Return the free bytes; raise an OSError when they are unknown."""


def free_space(folder: Path, /) -> int:
    """Return the free bytes of the file system of ``folder``."""
    return shutil.disk_usage(folder).free


class LowWaterMark:
    """Keeps ``reserve`` bytes free, for the state file and the results of the stored series."""

    def __init__(self, folder: Path, *, reserve: int, free: FreeSpace = free_space) -> None:
        self._folder = folder
        self._reserve = reserve
        self._free = free
        self._low = False
        self._lock = Lock()

    def check(self, size: int) -> None:
        """Check that ``size`` more bytes may be written; log once when space runs low or returns.

        Raises:
            OutOfResources: Fewer bytes than the reserve would remain.
            OSError: The file system does not tell its free space.
        """
        free = self._free(self._folder)
        low = free - size < self._reserve
        with self._lock:
            changed, self._low = low is not self._low, low
        if changed and low:
            _LOG.error(
                "%.0f MB free on the disk of %s, less than the %.0f MB of node.minimum_free_gb: "
                "Rales refuses images (0xA700) until enough is free",
                free / _MEGABYTE,
                self._folder,
                self._reserve / _MEGABYTE,
            )
        elif changed:
            _LOG.warning("%.0f MB free again: images are accepted", free / _MEGABYTE)
        if low:
            raise OutOfResources("too little free space on the disk of this node")
