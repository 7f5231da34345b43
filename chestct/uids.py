"""Unique identifiers: tolerant of received UIDs, strict for the UIDs that Rales derives."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable
from typing import Self

_RECEIVED = re.compile(r"[0-9][0-9.]*\Z")
_WELL_FORMED = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+\Z")
MAX_UID_LENGTH = 64
"""Characters of a UID (PS3.5 section 9.1)."""
_NAMESPACE = uuid.UUID("2f0a4c1e-9a53-5d0e-8f6d-6a1b0e5d7c11")


class Uid(str):
    """A UID as received: digits and dots, 64 characters at most.

    Some scanners write components with leading zeros (mostly dates and times), which PS3.5
    section 9.1 forbids. Such a UID still identifies its object, so Rales references it unchanged.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Return ``value`` as a UID.

        Raises:
            ValueError: ``value`` is not a UID. The message quotes at most 80 characters of it.
        """
        if len(value) > MAX_UID_LENGTH or not _RECEIVED.match(value):
            raise ValueError(f"not a DICOM UID: {value[:80]!r}")
        return super().__new__(cls, value)


class OwnUid(Uid):
    """A UID that Rales assigns: well-formed after PS3.5 section 9.1."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Return ``value`` as a UID.

        Raises:
            ValueError: ``value`` is not a well-formed UID.
        """
        if not _WELL_FORMED.match(value):
            raise ValueError(f"not a well-formed DICOM UID: {value[:80]!r}")
        return super().__new__(cls, value)


def derive_uid(*parts: str) -> OwnUid:
    """Return the UID that is derived from ``parts``, in order.

    It is a UUIDv5 under the ``2.25`` root (PS3.5 annex B.2). The same analysis of the same images
    derives the same UIDs, so that a repeated delivery creates no duplicate.
    """
    name = "\x1f".join(parts)
    return OwnUid(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


def digest(parts: Iterable[str]) -> str:
    """Return the SHA-256 of ``parts``, in order, as 64 hexadecimal digits."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode())
        sha.update(b"\x1f")
    return sha.hexdigest()
