"""Runs steps on the images of a series in a few threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

THREADS = min(8, os.cpu_count() or 1)
"""Threads that read files, and processes that decode frames. Reading, hashing and numpy release
the interpreter lock."""
_AHEAD = 2
"""Steps that are begun for each thread: steps may hold encoded frames."""


def run_in_order(steps: Iterable[Callable[[], object]], threads: int) -> None:
    """Run steps in threads; after the first step, in their order, that raises, begin no other.

    Raises:
        Exception: That of this step, or of ``steps`` itself.
    """
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[object]] = deque()
        try:
            for step in steps:
                begun.append(pool.submit(step))
                if len(begun) > _AHEAD * threads:
                    begun.popleft().result()
            while begun:
                begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()
