"""Reads single values of a data set from their encoded bytes.

pydicom would convert, and complain about, values that nobody asks for: one wrong value somewhere
in a header must not keep an image out.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from chestct.errors import NotDicom
from chestct.uids import MAX_UID_LENGTH, Uid

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
"""A decimal string (DS, PS3.5 section 6.2)."""
_INTEGER = re.compile(r"\+?\d{1,11}\Z", re.ASCII)
"""A positive integer string (IS, PS3.5 section 6.2)."""
_INTEGER_MAXIMUM = (1 << 31) - 1
_US_BYTES = 2
_UID_VRS = frozenset({None, "UI", "UN"})
"""VRs of an element that is read as a UID. Implicit VR states none, and a writer that does not know
the element writes UN (PS3.5 section 6.2.2)."""


@lru_cache
def tag_of(keyword: str) -> BaseTag:
    """Return the tag of a keyword; pydicom looks it up each time."""
    return Tag(keyword)


def raw(dataset: Dataset, keyword: str) -> bytes:
    """Return the encoded value without padding; empty where it is missing.

    Raises:
        NotDicom: The element is a sequence.
    """
    tag = tag_of(keyword)
    if tag not in dataset:
        return b""
    element: Any = dataset.get_item(tag)
    if element.VR == "SQ":
        raise NotDicom(f"{keyword} is a sequence")
    value = element.value if isinstance(element, RawDataElement) else str(element.value).encode()
    return (value or b"").rstrip(b"\0 ")


def character_set(dataset: Dataset) -> bytes:
    """Return Specific Character Set; empty where it is missing or a sequence.

    Raises:
        NotDicom: It holds a null byte, at which every reader of the file would stop.
    """
    keyword = "SpecificCharacterSet"
    tag = tag_of(keyword)
    if tag in dataset and dataset.get_item(tag).VR == "SQ":
        return b""
    value = raw(dataset, keyword)
    if b"\0" in value:
        raise NotDicom("Specific Character Set is not text")
    return value


def uid(dataset: Dataset, keyword: str) -> Uid:
    """Return a UID.

    Raises:
        NotDicom: It is missing or malformed.
    """
    value = _text(dataset, keyword)
    if not value:
        raise NotDicom(f"{keyword} is missing")
    vr = dataset.get_item(tag_of(keyword)).VR
    if vr not in _UID_VRS:
        raise NotDicom(f"{keyword} has the VR {vr}, not UI")
    try:
        return Uid(value)
    except ValueError as error:
        # Not quoted: a value in the wrong place may be a name.
        raise NotDicom(f"{keyword} is no UID of 1-64 digits and dots: {_fault(value)}") from error


def positive_integer(dataset: Dataset, keyword: str) -> int | None:
    """Return a positive IS value; None where it is missing, malformed or out of range."""
    text = _text(dataset, keyword)
    value = int(text) if _INTEGER.match(text) else 0
    return value if 0 < value <= _INTEGER_MAXIMUM else None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return ``count`` DS values; None where they are missing, malformed or of another number."""
    parts = [part.strip() for part in _text(dataset, keyword).split("\\")]
    if len(parts) != count or not all(_NUMBER.match(part) for part in parts):
        return None
    return tuple(float(part) for part in parts)


def unsigned(dataset: Dataset, keyword: str) -> int:
    """Return a US value; 0 where it is missing or malformed."""
    tag = tag_of(keyword)
    element: Any = dataset.get_item(tag) if tag in dataset else None
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if len(value) == _US_BYTES else 0
    return int(value) if isinstance(value, int) else 0


def _text(dataset: Dataset, keyword: str) -> str:
    return raw(dataset, keyword).decode("ascii", "replace").strip()


def _fault(value: str) -> str:
    if len(value) > MAX_UID_LENGTH:
        return f"{len(value)} long"
    place = next((at for at, character in enumerate(value) if character not in "0123456789."), 0)
    return f"wrong at {place + 1}"
