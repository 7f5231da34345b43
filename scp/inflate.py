"""Inflates deflated data sets, up to a limit."""

from __future__ import annotations

import mmap
import zlib
from typing import Any

from chestct.errors import NotDicom, OutOfResources
from pynetdicom_guard.budget import Content, Scratch

_STEP = 1 << 20
_IN_MEMORY = 1 << 24
_RATIO = 16
"""A deflated data set may have 16 MiB or 16 times its size when inflated. Images stay far below,
and a bomb (up to 1032 times) must not take the memory."""


def inflate(content: Content, scratch: Scratch | None) -> Content:
    """Return the inflated data set (PS3.5 annex A.5): in memory, or if large in a file.

    Args:
        content: The deflated data set.
        scratch: Where the file is; None: always in memory.

    Raises:
        NotDicom: It is cut off, or exceeds the limit.
        OutOfResources: There is no room for the file.
    """
    limit = max(_IN_MEMORY, _RATIO * len(content))
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    start = inflater.decompress(content, _IN_MEMORY)
    inflated: Content = start
    if inflater.unconsumed_tail and not inflater.eof and limit > _IN_MEMORY:
        if scratch is None:
            inflated = start + inflater.decompress(inflater.unconsumed_tail, limit - len(start))
        else:
            inflated = _inflate_to_file(start, inflater, limit, scratch)
    if not inflater.eof:  # padding after it counts as unconsumed too
        if inflater.unconsumed_tail:
            raise NotDicom(f"the deflated data set has more than {limit} bytes")
        raise NotDicom(
            f"the deflated data set is cut off: its stream does not end in its {len(content)} bytes"
        )
    return inflated


def _inflate_to_file(start: bytes, inflater: Any, limit: int, scratch: Scratch) -> Content:
    try:
        with scratch.temporary_file() as file:
            file.write(start)
            size = len(start)
            while inflater.unconsumed_tail and not inflater.eof and size < limit:
                scratch.check_room(_STEP)
                size += file.write(inflater.decompress(inflater.unconsumed_tail, _STEP))
            file.flush()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise OutOfResources(f"cannot inflate: {error.strerror}") from error
