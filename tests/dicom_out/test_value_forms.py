"""Encoded header values: valid ones stay as they are, others are mended, cut or refused."""

from __future__ import annotations

import pytest

from dicom_out.objects.value_forms import valid_time_zone, valid_value


@pytest.mark.parametrize(
    ("vr", "received", "valid"),
    [
        ("DA", b"19700101", b"19700101"),
        ("DA", b"1970.01.01", b"19700101"),
        ("DA", b"19701301", None),
        ("DA", b"01.01.1970", None),
        ("TM", b"235959.123456", b"235959.123456"),
        ("TM", b"23:59", b"2359"),
        ("TM", b"2460", None),
        ("DS", b" 071.50", b" 071.50"),
        ("DS", b"1,80", None),
        ("CS", b"yes", b"YES"),
        ("CS", b"A" * 17, None),
        ("AS", b"056Y", b"056Y"),
        ("AS", b"56Y", None),
        ("UI", b"1.2.840", b"1.2.840"),
        ("UI", b"1.02.840", None),
        ("LO", b"x" * 65, b"x" * 64),
        ("LO", b"bell \x07", None),
        ("LT", b"first\r\nsecond \\ third", b"first\r\nsecond \\ third"),
        ("PN", b"a" * 65 + b"^b=c", b"a" * 64 + b"=c"),
        ("PN", b"a=b=c=d", None),
        ("PN", b"two\\\\values", None),
    ],
)
def test_values_by_their_vr(vr: str, received: bytes, valid: bytes | None) -> None:
    assert valid_value(received, vr, character_set=b"", many=False, cut=True) == valid


def test_an_identifier_is_not_cut() -> None:
    assert valid_value(b"x" * 65, "LO", character_set=b"", many=False, cut=False) is None


def test_only_some_attributes_have_several_values() -> None:
    assert valid_value(b"1\\2", "LO", character_set=b"", many=True, cut=False) == b"1\\2"
    assert valid_value(b"1\\2", "LO", character_set=b"", many=False, cut=False) is None


def test_characters_count_and_not_bytes() -> None:
    kanji = b"\x1b$B" + b";3ED" * 25 + b"\x1b(B"  # 50 characters in 106 bytes
    assert (
        valid_value(kanji, "LO", character_set=b"\\ISO 2022 IR 87", many=False, cut=True) == kanji
    )
    chinese = "\u80f8".encode("gb18030") * 64
    assert valid_value(chinese, "LO", character_set=b"GB18030", many=False, cut=True) == chinese


@pytest.mark.parametrize("offset", ["+0000", "-1200", "+1400", "+0530"])
def test_valid_time_zones(offset: str) -> None:
    assert valid_time_zone(offset)


@pytest.mark.parametrize(
    "offset", ["0530", "+2500", "-0000", "+05:30", "+0560", "-1230", "UTC", ""]
)
def test_invalid_time_zones(offset: str) -> None:
    assert not valid_time_zone(offset)
