"""How deep and how long a data set is, before any parser that recurses or keeps it all sees it."""

from __future__ import annotations

import math
import struct

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from chestct.errors import NotDicom

DEEPEST = 64
"""Sequences within each other that are taken. Enhanced CT needs four; a parser that recurses
(pydicom, and most others that will read the stored file) ends at a few hundred."""
MOST_ELEMENTS = 1 << 20
"""Elements that are taken. An Enhanced CT of 4000 frames has some 200 000; each costs a parser a
hundred times its bytes in memory."""

_UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN"}) | {
    b"UR",
    b"UT",
    b"UV",
}
"""Value representations with a length of 32 bits (PS3.5 section 7.1.2)."""
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_TAG = struct.Struct("<HH")
_LENGTH, _SHORT = struct.Struct("<L"), struct.Struct("<H")


def check_extent(content: bytes, *, implicit: bool) -> None:
    """Refuse a data set that is nested too deep or has too many elements.

    It follows lengths and delimiters (PS3.5 section 7.5) and judges nothing else: where the
    encoding makes no sense it ends, for the parser to say so.

    Raises:
        NotDicom: With the limit that is exceeded.
    """
    ends: list[tuple[float, bool]] = []  # where each open sequence ends; is it implicit
    place = elements = 0
    while place + 8 <= len(content):
        while ends and place >= ends[-1][0]:
            ends.pop()
        inside_implicit = ends[-1][1] if ends else implicit
        group, number = _TAG.unpack_from(content, place)
        tag = group << 16 | number
        if tag in {_ITEM, _ITEM_END}:
            place += 8
            continue
        if tag == _SEQUENCE_END:
            place += 8
            if ends:
                ends.pop()
            continue
        elements += 1
        if elements > MOST_ELEMENTS:
            raise NotDicom(f"the data set has more than {MOST_ELEMENTS} elements")
        place, length, sequence, implicit_within = _head(
            content, place, tag, implicit=inside_implicit
        )
        if sequence:
            ends.append((math.inf if length == _UNDEFINED else place + length, implicit_within))
            if len(ends) > DEEPEST:
                raise NotDicom(f"sequences are nested more than {DEEPEST} deep")
        elif length == _UNDEFINED:
            return  # encapsulated pixel data: nothing nested follows
        else:
            place += length


def _head(content: bytes, place: int, tag: int, *, implicit: bool) -> tuple[int, int, bool, bool]:
    """Return where the value begins, its length, and whether it is a sequence, in implicit VR."""
    if implicit:
        (length,) = _LENGTH.unpack_from(content, place + 4)
        known = dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
        return place + 8, length, known or (length == _UNDEFINED and tag != _PIXEL_DATA), True
    vr = content[place + 4 : place + 6]
    if vr not in LONG_VRS:
        (length,) = _SHORT.unpack_from(content, place + 6)
        return place + 8, length, False, False
    if place + 12 > len(content):
        return len(content), 0, False, False
    (length,) = _LENGTH.unpack_from(content, place + 8)
    unknown = vr == b"UN" and length == _UNDEFINED  # a sequence in implicit VR (PS3.5 6.2.2)
    return place + 12, length, vr == b"SQ" or unknown, unknown
