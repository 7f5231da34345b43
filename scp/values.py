"""Computes a digest of the values of a data set, however a transfer syntax encodes them.

The same image may arrive in explicit or implicit VR, deflated, with group lengths, with sequences
of defined or undefined length, with other padding: its values are the same (PS3.5 sections 7 and
10). Pixels count as they are encoded, so a compressed image and its uncompressed twin differ.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.uid import UID

from pynetdicom_guard.budget import Content
from scp.outline import (
    DEEPEST,
    ITEM,
    ITEM_END,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED_LENGTH,
    is_padding,
)

_WITHOUT_MEANING = frozenset({0x00080001, 0xFFFCFFFC})
"""Length to End (retired) and Data Set Trailing Padding; group lengths are left out too."""
_TEXT = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI"}
    | {"UR", "UT"}
)
"""Value representations whose trailing padding has no meaning (PS3.5 table 6.2-1)."""
_WORDS = {
    **dict.fromkeys((b"AT", b"OW", b"SS", b"US"), 2),
    **dict.fromkeys((b"FL", b"OF", b"OL", b"SL", b"UL"), 4),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), 8),
}
"""The bytes of one number, whose order big endian reverses."""
_LARGE = 1 << 12
_HEAD = struct.Struct("<LcQ")
_EXPLICIT = {"<": struct.Struct("<HH2sH"), ">": struct.Struct(">HH2sH")}
_IMPLICIT = {"<": struct.Struct("<HHL"), ">": struct.Struct(">HHL")}
_LENGTH = {"<": struct.Struct("<L"), ">": struct.Struct(">L")}

_Part = bytes | memoryview


class _Malformed(Exception):
    """The bytes are not a data set."""


class _TooMany(Exception):
    """The bytes hold more elements than a data set may have."""


def value_digest(content: Content, transfer_syntax: str, *, most: int = sys.maxsize) -> str:
    """Return the SHA-256 of the values of a data set.

    Args:
        content: An encoded data set, inflated.
        transfer_syntax: How it is encoded; for a deflated one, the syntax after inflation.
        most: The number of elements up to which values count; beyond, the bytes count.
    """
    syntax = UID(transfer_syntax)
    reader = _Reader(content, "<" if syntax.is_little_endian else ">", most)
    parts: list[_Part] = []
    if syntax.is_encapsulated:
        parts.append(str(syntax).encode())
    try:
        reader.data_set(0, len(content), parts, implicit=syntax.is_implicit_VR, depth=0)
    except (_Malformed, _TooMany, struct.error):
        # No two encodings of it are known to be equal: its bytes count.
        parts = [b"as it came", str(syntax).encode(), memoryview(content)]
    digest = hashlib.sha256()
    for part in _joined(parts):
        digest.update(part)
    return digest.hexdigest()


def _joined(parts: list[_Part]) -> Iterator[_Part]:
    """Yield small parts joined, and large parts without a copy."""
    small: list[_Part] = []
    for part in parts:
        if len(part) < _LARGE:
            small.append(part)
        else:
            yield b"".join(small)
            small.clear()
            yield part
    yield b"".join(small)


@dataclass(slots=True)
class _Reader:
    content: Content
    order: str
    left: int

    def data_set(
        self, place: int, end: int, parts: list[_Part], *, implicit: bool, depth: int
    ) -> int:
        """Add the elements up to ``end`` or to the end of the item; return where that is."""
        if depth > DEEPEST:
            raise _Malformed
        while place + 8 <= end:
            self._count_element()
            tag, vr, length, after = self._head(place, implicit=implicit)
            if tag == ITEM_END:
                return after
            if not tag and is_padding(self.content, place, end):
                return end
            if not tag or tag >= ITEM or (length != UNDEFINED_LENGTH and after + length > end):
                raise _Malformed
            if not tag & 0xFFFF or tag in _WITHOUT_MEANING:
                place = after + length
            else:
                place = self._element(
                    after, length, end, parts, tag=tag, vr=vr, implicit=implicit, depth=depth
                )
        if self.content[place:end].strip(b"\0"):
            raise _Malformed
        return end

    def _count_element(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _TooMany

    def _head(self, place: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty in implicit VR), length, and where the value begins."""
        if implicit:
            group, number, length = _IMPLICIT[self.order].unpack_from(self.content, place)
            return group << 16 | number, b"", length, place + 8
        group, number, vr, length = _EXPLICIT[self.order].unpack_from(self.content, place)
        if vr not in LONG_VRS:
            return group << 16 | number, vr, length, place + 8
        (length,) = _LENGTH[self.order].unpack_from(self.content, place + 8)
        return group << 16 | number, vr, length, place + 12

    def _element(
        self,
        place: int,
        length: int,
        end: int,
        parts: list[_Part],
        *,
        tag: int,
        vr: bytes,
        implicit: bool,
        depth: int,
    ) -> int:
        """Add one element, whose value begins at ``place``; return where the next begins."""
        kind = _kind(tag)
        if tag == PIXEL_DATA and length == UNDEFINED_LENGTH:
            return self._fragments(place, end, parts)
        if length == UNDEFINED_LENGTH or vr == b"SQ" or (implicit and kind == "SQ"):
            # The items of an element with VR UN are in implicit VR (PS3.5 section 6.2.2).
            within = implicit or vr == b"UN"
            return self._sequence(place, length, end, parts, tag=tag, implicit=within, depth=depth)
        # A writer that does not know a sequence writes it as UN.
        may_be_sequence = not kind or (kind == "SQ" and vr == b"UN")
        if may_be_sequence and length and self._begins_item(place, length):
            try:
                items: list[_Part] = []
                after = self._sequence(
                    place, length, end, items, tag=tag, implicit=True, depth=depth
                )
            except (_Malformed, struct.error):
                pass  # an opaque value that happens to begin like one
            else:
                parts += items
                return after
        self._value(place, length, parts, tag=tag, vr=vr, is_text=kind in _TEXT)
        return place + length

    def _value(
        self, place: int, length: int, parts: list[_Part], *, tag: int, vr: bytes, is_text: bool
    ) -> None:
        value: _Part
        if length >= _LARGE and not is_text:
            value = memoryview(self.content)[place : place + length]
        else:
            value = self.content[place : place + length]
            if is_text:
                value = value.rstrip(b" \0")
        size = _WORDS.get(vr, 1)
        if self.order == ">" and size > 1 and length % size == 0:
            value = np.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()
        parts.append(_HEAD.pack(tag, b"v", len(value)))
        parts.append(value)

    def _begins_item(self, place: int, length: int) -> bool:
        if length < 8:  # noqa: PLR2004 - an item's tag and length
            return False
        group, number, _ = _IMPLICIT[self.order].unpack_from(self.content, place)
        return bool(group << 16 | number == ITEM)

    def _sequence(
        self,
        place: int,
        length: int,
        end: int,
        parts: list[_Part],
        *,
        tag: int,
        implicit: bool,
        depth: int,
    ) -> int:
        """Add the items of a sequence (PS3.5 section 7.5); without items it is an empty value."""
        stop = end if length == UNDEFINED_LENGTH else place + length
        items: list[_Part] = []
        count = 0
        while place < stop:
            group, number, size = _IMPLICIT[self.order].unpack_from(self.content, place)
            item = group << 16 | number
            place += 8
            if item == SEQUENCE_END:
                break
            if item != ITEM or (size != UNDEFINED_LENGTH and place + size > stop):
                raise _Malformed
            count += 1
            self._count_element()
            items.append(b"item")
            within = stop if size == UNDEFINED_LENGTH else place + size
            place = self.data_set(place, within, items, implicit=implicit, depth=depth + 1)
        parts.append(_HEAD.pack(tag, b"s" if count else b"v", count))
        parts += items
        return place if length == UNDEFINED_LENGTH else stop

    def _fragments(self, place: int, end: int, parts: list[_Part]) -> int:
        """Add the fragments of encapsulated pixels without the offset table (PS3.5 annex A.4)."""
        number = 0
        while place + 8 <= end:
            group, low, size = _IMPLICIT[self.order].unpack_from(self.content, place)
            place += 8
            if group << 16 | low == SEQUENCE_END:
                break
            if group << 16 | low != ITEM or place + size > end:
                raise _Malformed
            self._count_element()
            if number:
                parts.append(_HEAD.pack(PIXEL_DATA, b"f", size))
                parts.append(memoryview(self.content)[place : place + size])
            place += size
            number += 1
        return place


@lru_cache(maxsize=1 << 13)
def _kind(tag: int) -> str:
    """Return the VR of a tag in the dictionary; empty for private and unknown tags.

    The VR that is written does not serve: implicit VR has none.
    """
    if tag >> 16 & 1 or not dictionary_has_tag(tag):
        return ""
    return dictionary_VR(tag)
