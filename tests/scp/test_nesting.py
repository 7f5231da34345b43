"""How deep and how long a data set may be."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hostile_datasets import Slice, element, nested
from hypothesis import given
from hypothesis import strategies as st

from chestct.errors import NotDicom
from scp import nesting
from scp.nesting import DEEPEST, check_extent


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


def test_the_elements_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    content = Slice("counted").encoded()
    check_extent(content, implicit=False)
    monkeypatch.setattr(nesting, "MOST_ELEMENTS", 20)
    with pytest.raises(NotDicom, match="more than 20 elements"):
        check_extent(content, implicit=False)


@given(st.binary(max_size=200), st.booleans())
def test_noise_ends(noise: bytes, implicit: bool) -> None:  # noqa: FBT001 - drawn
    with suppress(NotDicom):
        check_extent(noise, implicit=implicit)
