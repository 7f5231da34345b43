"""How deep and how long a data set may be."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hostile_amplifiers import elements, empty_items, fragments, small_sequences
from hostile_datasets import Slice, element, nested
from hypothesis import given
from hypothesis import strategies as st

from chestct.errors import NotDicom
from pynetdicom_guard.budget import Content
from scp.outline import DEEPEST, Place, most_elements, outline

_ANY = 1 << 20


def check_extent(content: Content, *, implicit: bool, most: int = _ANY) -> dict[int, Place]:
    """Follow a data set to its end."""
    return outline(content, implicit=implicit, most=most, wanted=())


@pytest.mark.parametrize("defined", [True, False])
def test_the_deepest_is_taken_and_one_more_is_not(*, defined: bool) -> None:
    check_extent(nested(DEEPEST, defined=defined), implicit=False)
    with pytest.raises(NotDicom, match="more than 64 deep"):
        check_extent(nested(DEEPEST + 1, defined=defined), implicit=False)


def test_implicit_sequences_count_too() -> None:
    check_extent(nested(DEEPEST, defined=False, implicit=True), implicit=True)
    with pytest.raises(NotDicom):
        check_extent(nested(DEEPEST + 1, defined=False, implicit=True), implicit=True)


def test_a_sequence_of_unknown_vr_is_read_as_implicit() -> None:
    inner = nested(DEEPEST, defined=False, implicit=True)
    item = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(inner)) + inner
    unknown = element((0x0009, 0x1001), b"UN", item, length=0xFFFFFFFF)
    with pytest.raises(NotDicom):
        check_extent(unknown, implicit=False)


def test_sequences_side_by_side_are_not_deep() -> None:
    """Each ends where its length says, or at its delimiter: whoever forgets that counts on."""
    for defined in (True, False):
        check_extent(nested(2, defined=defined) * 200, implicit=False)


_COUNTED = {
    "elements": (elements(30), 30),
    "items": (empty_items(20), 20 + 1 + len(Slice("items").elements)),
    "items with sequences": (small_sequences(5), 5 * 4 + 1 + len(Slice("sequences").elements)),
    "fragments": (fragments(40), 40 + 1 + len(Slice("fragments").elements)),
}


@pytest.mark.parametrize("kind", _COUNTED)
def test_whatever_costs_a_parser_is_counted(kind: str) -> None:
    content, count = _COUNTED[kind]
    check_extent(content, implicit=False, most=count)
    with pytest.raises(NotDicom, match=f"more than {count - 1} elements"):
        check_extent(content, implicit=False, most=count - 1)


def test_the_limit_follows_the_bytes() -> None:
    """Some 60 elements for each frame, of 30,000 bytes or more, and none for few bytes."""
    assert most_elements(500) == 65_536
    assert most_elements(8_400_000) == 65_536
    assert most_elements(2000 * 30_000) > 2000 * 60
    assert most_elements(1 << 30) == 262_144


def test_an_element_that_runs_out_of_its_sequence_hides_nothing() -> None:
    """A sequence with a length ends there: what follows is found where it is."""
    inner = b"\xfe\xff\x00\xe0\x10\0\0\0" + element((0x9, 0x1002), b"LO", b"x", length=999)
    content = element((0x9, 0x1001), b"SQ", inner) + Slice("behind").encoded()
    found = outline(content, implicit=False, most=_ANY, wanted={0x00080018})
    at = found[0x00080018]
    assert content[at.start : at.end].rstrip(b"\0") == Slice("behind").instance


def test_an_open_sequence_within_one_with_a_length_ends_with_it() -> None:
    head = struct.pack("<HH", 0x9, 0x1002) + b"SQ\0\0\xff\xff\xff\xff"
    inner = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + head
    content = element((0x9, 0x1001), b"SQ", inner) + Slice("behind").encoded()
    found = outline(content, implicit=False, most=_ANY, wanted={0x00080018})
    assert found[0x00080018].end > len(inner)


@given(st.binary(max_size=200), st.booleans())
def test_noise_ends(noise: bytes, implicit: bool) -> None:  # noqa: FBT001 - drawn
    with suppress(NotDicom, EOFError):
        for at in outline(noise, implicit=implicit, most=100, wanted=range(1 << 32)).values():
            assert 8 <= at.start <= at.end <= len(noise)
