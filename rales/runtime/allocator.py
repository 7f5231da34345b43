"""Has the C library give memory back that nobody uses (glibc; elsewhere nothing is done).

A node has hundreds of threads in its life, and glibc an arena for each eight at a time on every
core: what one of them freed would stay with the process.
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
"""Bytes from which a block is given back as soon as it is freed. Fixed, as glibc would raise it to
the largest block that was ever freed."""
_EVERY = timedelta(seconds=10)


def spare_memory() -> None:
    """Limit what freed memory stays with this process; to be called before its threads start."""
    library = _library()
    if library is None:
        return
    if not (library.mallopt(_ARENA_MAX, _ARENAS) and library.mallopt(_MMAP_THRESHOLD, _LARGE)):
        _LOG.warning("the C library keeps memory that was freed: mallopt is refused")


def give_back(now: datetime) -> datetime:
    """Give back what lies free between what is used; a step of a loop."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)
    return now + _EVERY


def _library() -> Any:
    """Return the C library where it is one that has both; musl has neither."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
