"""Finds where the elements of a data set lie, from tags, lengths and delimiters alone.

It copies no value and keeps nothing nested, and the number of elements is limited. A parser that
keeps everything takes a hundred times the bytes of the data set.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection
from dataclasses import dataclass

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from chestct.errors import NotDicom
from pynetdicom_guard.budget import Content

DEEPEST = 64
"""Sequences within each other that are accepted. Enhanced CT needs four. A parser that recurses
(pydicom, and most others that will read the stored file) fails at a few hundred."""
_ALWAYS_ELEMENTS = 1 << 16
_BYTES_PER_ELEMENT = 256
_MAXIMUM_ELEMENTS = 1 << 18

UNDEFINED_LENGTH = 0xFFFFFFFF
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN"}) | {
    b"UR",
    b"UT",
    b"UV",
}
"""Value representations with a length of 32 bits (PS3.5 section 7.1.2)."""
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITER = b"\xfe\xff\xdd\xe0"
PIXEL_DATA = 0x7FE00010
_TAG, _LENGTH, _SHORT = struct.Struct("<HH"), struct.Struct("<L"), struct.Struct("<H")
_CHUNK = 1 << 20


def most_elements(size: int) -> int:
    """Return how many elements, items and fragments a data set of ``size`` bytes may have.

    A CT image has a few hundred. Enhanced CT has some 60 for each frame, and a frame takes
    30,000 bytes or more: 2000 frames have 120,000 elements in 60 MB. More elements in fewer bytes
    are an attack on their reader.
    """
    return min(max(_ALWAYS_ELEMENTS, size // _BYTES_PER_ELEMENT), _MAXIMUM_ELEMENTS)


@dataclass(frozen=True, slots=True)
class Place:
    """The bytes of the value of one element.

    Attributes:
        vr: The VR as it is written; empty in implicit VR.
        start: Index of the first byte of the value.
        end: Index after its last byte.
        endless: Whether its length is undefined; a delimiter follows it.
    """

    vr: bytes
    start: int
    end: int
    endless: bool
    is_sequence: bool


def outline(
    content: Content, *, implicit: bool, most: int, wanted: Collection[int]
) -> dict[int, Place]:
    """Return the places of the ``wanted`` elements outside of sequences.

    Sequences are followed (PS3.5 section 7.5), not checked: one with a length ends by that length.

    Raises:
        NotDicom: It has more than ``most`` elements, is nested too deep, or does not end where its
            bytes end.
        EOFError: It is cut off.
    """
    walk = _Walk(content, most)
    places: dict[int, Place] = {}
    place = 0
    while place + 8 <= len(content):
        tag = walk.tag(place)
        if not tag or tag >= ITEM:
            break
        place, value = walk.element(place, tag, implicit=implicit)
        if place > len(content):
            raise EOFError
        if tag in wanted:
            places[tag] = value
    if not is_padding(content, place):
        raise NotDicom(
            f"the data set ends at byte {place} of {len(content)}: cut off, or followed by more"
        )
    return places


def is_padding(content: Content, place: int, end: int | None = None) -> bool:
    """Return whether only zeros are left, with which some writers pad files."""
    stop = len(content) if end is None else end
    step = 16
    while place < stop:
        if content[place : min(stop, place + step)].strip(b"\0"):
            return False
        place += step
        step = _CHUNK
    return True


class _Walk:
    """Follows the elements of one data set and counts them."""

    def __init__(self, content: Content, most: int) -> None:
        self._content = content
        self._most = most
        self._count = 0

    def tag(self, place: int) -> int:
        group, number = _TAG.unpack_from(self._content, place)
        return int(group << 16 | number)

    def element(self, place: int, tag: int, *, implicit: bool) -> tuple[int, Place]:
        """Return where an element ends, its delimiter included, and where its value lies."""
        self._count_element()
        vr, start, length = self._head(place, implicit=implicit)
        endless = length == UNDEFINED_LENGTH
        if _is_sequence(tag, vr, endless=endless, implicit=implicit):
            within = implicit or vr == b"UN"  # PS3.5 section 6.2.2
            limit = math.inf if endless else start + length
            if not endless and start + length > len(self._content):
                raise EOFError
            after = self._sequence(start, limit, implicit=within)
            end = after - 8 if endless else after
            return after, Place(vr, start, end, endless, is_sequence=True)
        if not endless:
            after = start + length
            return after, Place(vr, start, after, endless=False, is_sequence=False)
        after = self._fragments(start) if tag == PIXEL_DATA else self._delimited(start)
        return after, Place(vr, start, after - 8, endless=True, is_sequence=False)

    def _sequence(self, place: int, limit: float, *, implicit: bool) -> int:
        """Return where a sequence ends whose items begin at ``place``."""
        content = self._content
        ends: list[tuple[float, bool]] = [(limit, implicit)]
        while True:
            while ends and place >= ends[-1][0]:
                place = int(ends.pop()[0])  # not after it, whatever length its last element has
            if not ends:
                return place
            if place + 8 > len(content):
                raise EOFError
            end, inside_implicit = ends[-1]
            tag = self.tag(place)
            if tag in {ITEM, ITEM_END}:
                self._count_element()
                place += 8
                continue
            if tag == SEQUENCE_END:
                place += 8
                ends.pop()
                if not ends:
                    # The length holds, even where a delimiter comes before its end.
                    return place if limit is math.inf else int(limit)
                continue
            self._count_element()
            vr, start, length = self._head(place, implicit=inside_implicit)
            endless = length == UNDEFINED_LENGTH
            if _is_sequence(tag, vr, endless=endless, implicit=inside_implicit):
                if len(ends) >= DEEPEST:
                    raise NotDicom(f"sequences are nested more than {DEEPEST} deep")
                inner = end if endless else min(end, start + length)
                ends.append((inner, inside_implicit or vr == b"UN"))
                place = start
            else:
                place = self._delimited(start) if endless else start + length

    def _fragments(self, place: int) -> int:
        """Return where encapsulated pixels end (PS3.5 annex A.4)."""
        while place + 8 <= len(self._content):
            self._count_element()
            tag = self.tag(place)
            (length,) = _LENGTH.unpack_from(self._content, place + 4)
            place += 8
            if tag == SEQUENCE_END:
                return place
            if tag != ITEM:
                raise NotDicom("Pixel Data is cut off between fragments")
            place += length
        raise EOFError

    def _delimited(self, place: int) -> int:
        """Return where a value of undefined length that is no sequence ends."""
        delimiter = self._content.find(_DELIMITER, place)
        if delimiter < 0 or delimiter + 8 > len(self._content):
            raise EOFError
        return delimiter + 8

    def _head(self, place: int, *, implicit: bool) -> tuple[bytes, int, int]:
        """Return VR, where the value begins, and its length."""
        content = self._content
        if implicit:
            (length,) = _LENGTH.unpack_from(content, place + 4)
            return b"", place + 8, length
        vr = content[place + 4 : place + 6]
        if vr not in LONG_VRS:
            (length,) = _SHORT.unpack_from(content, place + 6)
            return vr, place + 8, length
        if place + 12 > len(content):
            raise EOFError
        (length,) = _LENGTH.unpack_from(content, place + 8)
        return vr, place + 12, length

    def _count_element(self) -> None:
        self._count += 1
        if self._count > self._most:
            raise NotDicom(
                f"the data set has more than {self._most} elements for its {len(self._content)} "
                "bytes"
            )


def _is_sequence(tag: int, vr: bytes, *, endless: bool, implicit: bool) -> bool:
    if implicit:
        known = dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
        return known or (endless and tag != PIXEL_DATA)
    return vr == b"SQ" or (vr == b"UN" and endless)
