"""Makes glibc return freed memory to the operating system; does nothing with another C library.

A node starts hundreds of threads in its life. By default glibc keeps up to eight arenas per core
for them, and memory freed in an arena stays with the process.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from datetime import datetime, timedelta
from typing import Any

_LOG = logging.getLogger(__name__)

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Parameters of mallopt(3)."""
_ARENAS = 2
_LARGE = 256 * 1024
"""Bytes. A block of at least this size is returned as soon as it is freed. The value is fixed here
because glibc would raise it to the size of the largest block ever freed."""
_INTERVAL = timedelta(seconds=10)


def limit_freed_memory() -> None:
    """Limit the freed memory that this process keeps; call it before any thread starts."""
    library = _library()
    if library is None:
        return
    if not (library.mallopt(_ARENA_MAX, _ARENAS) and library.mallopt(_MMAP_THRESHOLD, _LARGE)):
        _LOG.warning("mallopt failed: the C library keeps freed memory, and the process may grow")


def trim_memory(now: datetime) -> datetime:
    """Return free memory between used blocks to the operating system; the step of a loop."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)
    return now + _INTERVAL


def _library() -> Any:
    """Return the C library if it has mallopt and malloc_trim (glibc); None otherwise (musl)."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
