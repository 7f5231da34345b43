"""What data sets that are being received may take, over all associations.

Each association is sure of the memory for an image of the usual size, so that nobody who sends
much can keep a scanner out. What is larger goes to disk, and draws on a budget that all share.
"""

from __future__ import annotations

from threading import Lock

SURE = 1 << 20
"""Bytes in memory that each association is sure of: a CT image of 512 x 512 has 530,000."""


class Budget:
    """Bytes on disk for data sets on their way; safe to use from many threads."""

    def __init__(self, total: int) -> None:
        self._lock = Lock()
        self._free = self._total = total

    @property
    def taken(self) -> int:
        """How much is taken now."""
        with self._lock:
            return self._total - self._free

    def take(self, count: int) -> bool:
        """Take ``count`` bytes; False, and nothing taken, when there are fewer."""
        with self._lock:
            if count > self._free:
                return False
            self._free -= count
            return True

    def give_back(self, count: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._free += count


class Share:
    """What one association may take: its own memory, and the budget of all."""

    def __init__(self, budget: Budget, *, sure: int = SURE) -> None:
        self.memory = Budget(sure)
        self.disk = budget
