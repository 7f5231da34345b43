"""Computes the digests of values while the files of their data sets are written.

A digest takes as long as to receive the data set. It and fsync leave Python's lock to others.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TypeVar

from scp.headers import Header, Parsed

_Result = TypeVar("_Result")


class ValueDigests:
    """Threads that compute digests."""

    def __init__(self, threads: int) -> None:
        """Start the threads now: the number of threads of the node then stays the same."""
        self._pool = ThreadPoolExecutor(threads, "value-digest")
        started = Barrier(threads + 1)
        for _ in range(threads):
            self._pool.submit(started.wait)
        started.wait()

    def during(self, write: Callable[[], _Result], parsed: Parsed) -> tuple[_Result, Header]:
        """Return the result of ``write``, and the header with the digest of the values."""
        digest = self._pool.submit(parsed.value_digest)
        try:
            result = write()
        finally:
            digest.exception()  # waits: the caller may release the bytes of the data set
        return result, replace(parsed.header, value_digest=digest.result())
