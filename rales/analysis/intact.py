"""Checks that the files of a series still hold what was received.

The check precedes the analysis, so that a damaged disk is not blamed on the sender.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chestct.errors import InputUnavailable
from chestct.series import ReceivedInstance, Series

_META_HEAD = struct.Struct("<140xL")
"""Preamble, prefix and the element (0002,0000): PS3.10 section 7.1."""
_PREFIX_AND_GROUP_LENGTH = b"DICM\x02\x00\x00\x00UL\x04\x00"
_CHUNK = 1 << 20
_THREADS = 4
"""hashlib releases the interpreter lock, so that threads run in parallel."""


def content_digest(path: Path) -> str:
    """Return the SHA-256 of the data set of a file; without File Meta Information, of the file.

    Raises:
        OSError: The file cannot be read.
    """
    return _meta_and_digest(path)[1]


def _meta_and_digest(path: Path) -> tuple[bytes, str]:
    """Return preamble and File Meta Information of a file, and the digest of its data set."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(_META_HEAD.size)
        if len(head) == _META_HEAD.size and head[128:140] == _PREFIX_AND_GROUP_LENGTH:
            head += file.read(_META_HEAD.unpack(head)[0])
        else:
            file.seek(0)
            head = b""
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    return head, sha.hexdigest()


def require_intact(series: Series) -> None:
    """Raise unless every file of a series holds what was received.

    Raises:
        InputUnavailable: Files are missing, damaged or unreadable; the message says how many,
            which and why.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        faults = list(pool.map(_fault, series.instances))
    bad = [instance for instance, fault in zip(series.instances, faults, strict=True) if fault]
    if bad:
        counts = Counter(filter(None, faults))
        kinds = ", ".join(f"{count} {fault}" for fault, count in counts.items())
        raise InputUnavailable(
            f"{len(bad)} of {len(faults)} images differ from what was received ({kinds}): "
            f"{_first_of(instance.path for instance in bad)}",
            images=[instance.sop_instance_uid for instance in bad],
        )


def _fault(instance: ReceivedInstance) -> str:
    """Return what is wrong with a file; empty when it is as received."""
    try:
        size = instance.path.stat().st_size
        if size != instance.size:
            return f"damaged ({size} instead of {instance.size} bytes)"
        meta, digest = _meta_and_digest(instance.path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror or type(error).__name__})"
    same_syntax = not meta or instance.transfer_syntax_uid.encode() in meta
    return "" if same_syntax and digest == instance.content_digest else "damaged (other bytes)"


def _first_of(paths: Iterable[Path]) -> str:
    """Return the end of the first path, and the number of the others."""
    first, *others = (f"{path.parent.name}/{path.name}" for path in paths)
    return first + (f" and {len(others)} more" if others else "")
