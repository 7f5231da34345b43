"""Unique identifiers: taken as they come, and strict in everything that Rales writes."""

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
    """A UID as it was received: digits and dots, 64 characters at most.

    Scanners write components with leading zeros (dates and times, most often), which PS3.5
    section 9.1 forbids. Such a UID names its object as well as any other and is referenced
    verbatim: changed in one character it would name another.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Take ``value`` as it is.

        Raises:
            ValueError: ``value`` is not a UID. The message does not repeat it beyond 80
                characters, since it comes from outside.
        """
        if len(value) > MAX_UID_LENGTH or not _RECEIVED.match(value):
            raise ValueError(f"not a DICOM UID: {value[:80]!r}")
        return super().__new__(cls, value)


class OwnUid(Uid):
    """A UID that Rales gives: it has the form that PS3.5 section 9.1 asks for."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Take ``value`` as it is.

        Raises:
            ValueError: ``value`` is not a well-formed UID.
        """
        if not _WELL_FORMED.match(value):
            raise ValueError(f"not a well-formed DICOM UID: {value[:80]!r}")
        return super().__new__(cls, value)


def derive_uid(*parts: str) -> OwnUid:
    """Return the UID that always stands for ``parts``, in order.

    A UUIDv5 of the parts under the ``2.25`` root (PS3.5 annex B.2): the same analysis of
    the same images makes the same objects, so that a repeated delivery is no duplicate.
    """
    name = "\x1f".join(parts)
    return OwnUid(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


def digest(parts: Iterable[str]) -> str:
    """Return the SHA-256 of ``parts`` as 64 hexadecimal digits; order counts."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode())
        sha.update(b"\x1f")
    return sha.hexdigest()
