"""One patient is one patient however it is written, and two are two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chestct.identity import patient_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"DOE^JANE", b"DOE^JANE^^^"),
        (b"DOE^JANE", b"DOE^JANE=="),
        (b"DOE^JANE", b"DOE^JANE^^=^^= "),
        (b"DOE^JANE", b"DOE^JANE \0"),
        (b"DOE^JANE", b" DOE ^JANE"),
        (b"", b"^^^^"),
    ],
)
def test_delimiters_at_the_end_and_padding_name_nobody_else(one: bytes, other: bytes) -> None:
    assert patient_key(b"1", b"", one) == patient_key(b" 1 \0", b" ", other)


def test_a_character_set_is_no_part_of_a_name() -> None:
    latin, unicode, greek = b"M\xfcller^J\xfcrg", "Müller^Jürg".encode(), b"M\xfcller^J\xfcrg"
    first = patient_key(b"1", b"", latin, b"ISO_IR 100")
    assert first == patient_key(b"1", b"", unicode, b"ISO_IR 192 ")
    assert first != patient_key(b"1", b"", greek, b"ISO_IR 126")
    assert first != patient_key(b"1", b"", latin, b"unicode_escape")


_KANJI = b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"


@pytest.mark.parametrize(
    ("character_set", "name", "text"),
    [
        (b"ISO 2022 IR 100", b"M\xfcller^J\xfcrg", "Müller^Jürg"),
        (b"ISO 2022 IR 100\\ISO 2022 IR 87", b"M\xfcller", "Müller"),
        (b"\\ISO 2022 IR 100", b"\x1b-AM\xfcller", "Müller"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=" + _KANJI + b"=", "Yamada^Tarou=山田^太郎"),
        (b"ISO 2022 IR 6\\ISO 2022 IR 87", b"=" + _KANJI, "=山田^太郎"),
        (
            b"ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde=" + _KANJI.replace(b"(B", b"(J"),
            "ﾔﾏﾀﾞ=山田^太郎",
        ),
        (
            b"\\ISO 2022 IR 149",
            b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
            "Hong=洪^吉洞",
        ),
        (b"\\ISO 2022 IR 58", b"Zhang=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1", "Zhang=张^小"),
        (b"\\ISO 2022 IR 159", b"=\x1b$(D\x30\x21\x1b(B", "=丂"),
        (b"ISO_IR 144", "Люк".encode("iso8859_5"), "Люк"),
    ],
)
def test_code_extensions_are_no_part_of_a_name(
    character_set: bytes, name: bytes, text: str
) -> None:
    written = patient_key(b"1", b"", name, character_set)
    assert written == patient_key(b"1", b"", text.encode(), b"ISO_IR 192")
    assert written != patient_key(b"1", b"", text.encode() + b"X", b"ISO_IR 192")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"1", b"", b"DOE^JANE"), (b"2", b"", b"DOE^JANE")),
        ((b"1", b"A", b"DOE^JANE"), (b"1", b"B", b"DOE^JANE")),
        ((b"1", b"", b"DOE^JANE"), (b"1", b"", b"DOE^JOHN")),
        ((b"1", b"", b"DOE^JANE"), (b"1", b"", b"DOE^^JANE")),
        ((b"1", b"", b"DOE^JANE"), (b"1", b"", b"DOE=JANE")),
        ((b"1", b"", b"DOE^JANE"), (b"1", b"", b"doe^jane")),
        ((b"1", b"2", b""), (b"2", b"1", b"")),
        ((b"1", b"", b"2"), (b"1", b"2", b"")),
        ((b"1", b"", b"\x1b$B;3\x1b(B"), (b"1", b"", b"\x1b$B;4\x1b(B")),
    ],
)
def test_two_patients_stay_two(
    one: tuple[bytes, bytes, bytes], other: tuple[bytes, bytes, bytes]
) -> None:
    assert patient_key(*one) != patient_key(*other)


@given(st.tuples(*[st.binary(max_size=20)] * 4), st.tuples(*[st.binary(max_size=20)] * 4))
def test_any_bytes_have_a_key_and_what_differs_in_letters_has_another(
    one: tuple[bytes, bytes, bytes, bytes], other: tuple[bytes, bytes, bytes, bytes]
) -> None:
    meaning = bytes(range(48, 58)) + bytes(range(65, 91))
    letters = [[bytes(c for c in part if c in meaning) for part in who[:3]] for who in (one, other)]
    if letters[0] != letters[1]:
        assert patient_key(*one) != patient_key(*other)
    assert patient_key(*one) == patient_key(*one[:3], one[3])
