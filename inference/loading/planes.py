"""The HU planes of a series in one block of memory, which grows as its slices arrive."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BYTES = np.dtype(np.int16).itemsize


class Planes:
    """int16 HU planes of one size, each at a number of its own.

    The kernel moves the block by its page tables when the block grows, and :meth:`ordered` moves
    the planes inside the block: the volume is never in memory twice.
    """

    def __init__(self, rows: int, columns: int) -> None:
        """Start with no plane."""
        self.shape = (rows, columns)
        self._plane_bytes = rows * columns * _BYTES
        self._block: mmap.mmap | None = None

    @property
    def size(self) -> int:
        """The bytes of the block."""
        return len(self._block) if self._block is not None else 0

    @property
    def count(self) -> int:
        """The number of planes that there is room for."""
        return self.size // self._plane_bytes

    def reserve(self, count: int) -> None:
        """Make room for the planes 0 to ``count`` - 1; no plane may be in use meanwhile.

        Raises:
            MemoryError: The process may not have so much memory.
        """
        size = count * self._plane_bytes
        if size <= self.size:
            return
        try:
            if self._block is None:
                self._block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            else:
                self._block.resize(size)
        except OSError as error:
            raise MemoryError(f"no memory for {count} slices ({size} bytes)") from error

    def plane(self, number: int) -> NDArray[np.int16]:
        """Return plane ``number`` (row, column), writable."""
        assert self._block is not None
        content = np.frombuffer(
            self._block,
            dtype=np.int16,
            count=self.shape[0] * self.shape[1],
            offset=number * self._plane_bytes,
        )
        return content.reshape(self.shape)

    def ordered(self, numbers: Sequence[int]) -> NDArray[np.int16]:
        """Return the planes of ``numbers``, in this order: (slice, row, column).

        They are moved inside the block: afterwards plane k is the former plane ``numbers[k]``.
        """
        wanted = set(numbers)
        rest = (number for number in range(max(numbers) + 1) if number not in wanted)
        self._permute([*numbers, *rest])
        assert self._block is not None
        rows, columns = self.shape
        content = np.frombuffer(self._block, dtype=np.int16, count=len(numbers) * rows * columns)
        return content.reshape(len(numbers), rows, columns)

    def _permute(self, sources: list[int]) -> None:
        """Move plane ``sources[k]`` to k, for every k, along the cycles of the permutation."""
        for start in range(len(sources)):
            if sources[start] == start:
                continue
            first = self.plane(start).copy()
            place = start
            while sources[place] != start:
                source = sources[place]
                self.plane(place)[...] = self.plane(source)
                sources[place], place = place, source
            self.plane(place)[...] = first
            sources[place] = place
