"""Whatever comes in, one printable line of bounded length comes out."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chestct.errors import InstanceRefused, RejectReason, SeriesRejected
from chestct.text import printable

_ANY = st.text(st.characters(categories=None)) | st.binary()
"""Lone surrogates and control characters too."""


@given(outside=_ANY, limit=st.integers(1, 300))
def test_anything_becomes_one_printable_bounded_line(outside: str | bytes, limit: int) -> None:
    shown = printable(outside, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    assert shown.encode("utf-8").decode("utf-8") == shown


@given(st.text(string.digits + string.ascii_letters + string.punctuation + " ", max_size=160))
def test_what_prints_and_fits_is_unchanged(text: str) -> None:
    assert printable(text) == text
    assert printable(text.encode()) == text


@pytest.mark.parametrize(
    ("outside", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\nb", r"a\r\nb"),
        ("\x9b31m", r"\x9b31m"),
        ("evil\u202etxt", r"evil\u202etxt"),
        ("\ud800", r"\ud800"),
        ("line\u2028line", r"line\u2028line"),
        (b"M\xfcller", r"M\xfcller"),
        ("Müller^Jörg", "Müller^Jörg"),
        ("x" * 300, "x" * 159 + "…"),
        ("", ""),
    ],
)
def test_what_does_not_print_is_shown_as_python_writes_it(outside: str, shown: str) -> None:
    assert printable(outside) == shown


def test_a_refusal_is_printable_whoever_words_it() -> None:
    rejected = SeriesRejected(RejectReason.NOT_CHEST, "Body Part is \x1b[31m\nroot: forged")
    assert str(rejected) == r"Body Part is \x1b[31m\nroot: forged"
    assert len(str(InstanceRefused("x" * 10_000))) < 1000
