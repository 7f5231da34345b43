"""Checks that the files of a series still hold what was received.

The check precedes the analysis, so that a damaged disk is not blamed on the sender.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from chestct.errors import InputUnavailable
from inference.loading.stored_images import HEAD, StoredImage, begin_of_data_set

_CHUNK = 1 << 20


def content_digest(path: Path) -> str:
    """Return the SHA-256 of the data set of a file; without File Meta Information, of the file.

    Raises:
        OSError: The file cannot be read.
    """
    sha = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(begin_of_data_set(file.read(HEAD.size)))
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def require_intact(images: Sequence[StoredImage]) -> None:
    """Raise unless every file of a series held what was received when it was read.

    Raises:
        InputUnavailable: Files are missing, damaged or unreadable; the message says how many,
            which and why.
    """
    faults = list(map(_fault, images))
    bad = [image.instance for image, fault in zip(images, faults, strict=True) if fault]
    if bad:
        counts = Counter(filter(None, faults))
        kinds = ", ".join(f"{count} {fault}" for fault, count in counts.items())
        raise InputUnavailable(
            f"{len(bad)} of {len(faults)} images differ from what was received ({kinds}): "
            f"{_first_of(instance.path for instance in bad)}",
            images=[instance.sop_instance_uid for instance in bad],
        )


def _fault(image: StoredImage) -> str:
    """Return what is wrong with a file; empty when it is as received."""
    instance, content = image.instance, image.content
    if isinstance(content, FileNotFoundError | NotADirectoryError):
        return "missing"
    if isinstance(content, OSError):
        return f"unreadable ({content.strerror or type(content).__name__})"
    if image.size != instance.size:
        return f"damaged ({image.size} instead of {instance.size} bytes)"
    same_syntax = not image.meta or instance.transfer_syntax_uid.encode() in image.meta
    same = same_syntax and image.content_digest == instance.content_digest
    return "" if same else "damaged (other bytes)"


def _first_of(paths: Iterable[Path]) -> str:
    """Return the end of the first path, and the number of the others."""
    first, *others = (f"{path.parent.name}/{path.name}" for path in paths)
    return first + (f" and {len(others)} more" if others else "")
