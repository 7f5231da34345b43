"""Are the files of a series still what was received? Asked before anybody else is blamed."""

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
"""Preamble, prefix, and tag, VR, length and value of (0002,0000): PS3.10 section 7.1."""
_PREFIX_AND_GROUP_LENGTH = b"DICM\x02\x00\x00\x00UL\x04\x00"
_CHUNK = 1 << 20
_THREADS = 4
"""Digests are computed without the interpreter's lock."""


def content_digest(path: Path) -> str:
    """Return the SHA-256 of the data set of a file: of what follows the file meta information.

    Of the whole file where it does not begin with one.

    Raises:
        OSError: The file cannot be read.
    """
    return _apart(path)[1]


def _apart(path: Path) -> tuple[bytes, str]:
    """Return preamble and file meta information as they are, and the digest of the data set."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(_META_HEAD.size)
        if len(head) == _META_HEAD.size and head[128:140] == _PREFIX_AND_GROUP_LENGTH:
            head += file.read(_META_HEAD.unpack(head)[0])
        else:
            file.seek(0)
            head = b""
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return head, found.hexdigest()


def require_intact(series: Series) -> None:
    """Refuse to go on with files that are not what was received.

    Raises:
        InputUnavailable: Some are missing, damaged or unreadable: how many, which, and why.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        faults = list(pool.map(_fault, series.instances))
    bad = [(one, why) for one, why in zip(series.instances, faults, strict=True) if why]
    if bad:
        kinds = ", ".join(f"{count} {why}" for why, count in Counter(why for _, why in bad).items())
        raise InputUnavailable(
            f"{len(bad)} of {len(faults)} images are not as they were received ({kinds}): "
            f"{_named(one.path for one, _ in bad)}",
            images=[one.sop_instance_uid for one, _ in bad],
        )


def _fault(instance: ReceivedInstance) -> str:
    """Say what is wrong with one file; empty when nothing is."""
    try:
        size = instance.path.stat().st_size
        if size != instance.size:
            return f"damaged ({size} instead of {instance.size} bytes)"
        meta, digest = _apart(instance.path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror or type(error).__name__})"
    told = not meta or instance.transfer_syntax_uid.encode() in meta
    return "" if told and digest == instance.content_digest else "damaged (other bytes)"


def _named(paths: Iterable[Path]) -> str:
    """Name the first files, by the end of their paths."""
    first, *others = (f"{path.parent.name}/{path.name}" for path in paths)
    return first + (f" and {len(others)} more" if others else "")
