"""Bytes that data sets may take while they arrive, over all associations.

Each association is sure of the memory for an image of the usual size, so that a peer that sends
much cannot keep a scanner out. A larger data set goes to disk and draws on a budget that all
associations share.
"""

from __future__ import annotations

import mmap
from threading import Lock
from typing import IO, Protocol

Content = bytes | mmap.mmap
"""The bytes of a data set, in memory or in a file."""

BYTES_OF_ONE_ASSOCIATION = 1 << 20
"""Memory that each association is sure of: a CT image of 512 x 512 has 530,000 bytes."""


class Scratch(Protocol):
    """Temporary files."""

    def check_room(self, size: int) -> None:
        """Check that ``size`` more bytes may be written; raise OutOfResources or OSError if not."""

    def temporary_file(self) -> IO[bytes]:
        """Return a file without a name; closing the file deletes it."""


class Budget:
    """A number of bytes to take from and give back to; safe to use from many threads."""

    def __init__(self, total: int) -> None:
        self._lock = Lock()
        self._free = self._total = total

    @property
    def taken(self) -> int:
        """Bytes that are taken now."""
        with self._lock:
            return self._total - self._free

    def take(self, count: int) -> bool:
        """Take ``count`` bytes; return False, and take nothing, when fewer are free."""
        with self._lock:
            if count > self._free:
                return False
            self._free -= count
            return True

    def give_back(self, count: int) -> None:
        """Give back ``count`` bytes."""
        with self._lock:
            self._free += count


class Share:
    """The budgets of one association: memory of its own, and the disk budget of all."""

    def __init__(self, disk: Budget, *, memory: int = BYTES_OF_ONE_ASSOCIATION) -> None:
        self.memory = Budget(memory)
        self.disk = disk
