"""Free space on the disk of the spool: refuse before it is full, and take again by itself."""

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
    """Tells how many bytes may still be written below a folder."""

    def __call__(self, folder: Path, /) -> int:
        """Return the bytes; an OSError when that cannot be told."""


def free_space(folder: Path, /) -> int:
    """Ask the file system."""
    return shutil.disk_usage(folder).free


class LowWaterMark:
    """Keeps ``reserve`` bytes free, for the state file and the results of what is here."""

    def __init__(self, folder: Path, *, reserve: int, free: FreeSpace = free_space) -> None:
        self._folder = folder
        self._reserve = reserve
        self._free = free
        self._low = False
        self._lock = Lock()

    def check(self, size: int) -> None:
        """Let ``size`` more bytes in; says it once when space runs low and once when it is back.

        Raises:
            OutOfResources: Less than the reserve would be left.
            OSError: The file system does not tell.
        """
        free = self._free(self._folder)
        low = free - size < self._reserve
        with self._lock:
            changed, self._low = low is not self._low, low
        if changed and low:
            _LOG.error(
                "%.0f MB free on the disk of %s, node.minimum_free_gb asks for %.0f: images are "
                "refused (0xA700) until there is more",
                free / _MEGABYTE,
                self._folder,
                self._reserve / _MEGABYTE,
            )
        elif changed:
            _LOG.warning("%.0f MB free again: images are taken", free / _MEGABYTE)
        if low:
            raise OutOfResources("too little free space on the disk of this node")
