"""The valid forms of encoded header values (PS3.5 section 6.2), and how invalid values are mended.

A value stays encoded: what is valid is copied byte for byte, whatever its character set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

DECIMAL_STRING = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")
"""A Decimal String (DS)."""
_DECIMAL_LENGTH = 16
_FORMS: Mapping[str, re.Pattern[bytes]] = {
    "AS": re.compile(rb"\d{3}[DWMY]\Z"),
    "CS": re.compile(rb"[A-Z0-9 _]{1,16}\Z"),
    "DA": re.compile(rb"\d{8}\Z"),
    "DS": DECIMAL_STRING,
    "IS": re.compile(rb"[+-]?\d{1,12}\Z"),
    "TM": re.compile(rb"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?\Z"),
    "UI": re.compile(rb"(0|[1-9]\d*)(\.(0|[1-9]\d*))+\Z"),
}
_OLD_DATE = re.compile(rb"(\d{4})[-.](\d\d)[-.](\d\d)\Z")
"""A date of ACR-NEMA or ISO 8601; its digits are a date of DICOM."""
_OLD_TIME = re.compile(rb"\d\d:\d\d(:\d\d(\.\d{1,6})?)?\Z")
_LENGTHS: Mapping[str, int] = {"LO": 64, "LT": 10240, "PN": 64, "SH": 16, "ST": 1024, "UI": 64}
"""Most characters of a value; of a name, most of each component group."""
_TEXTS = frozenset({"LT", "ST", "UT"})
"""VRs whose value is one text of several lines."""
_NAME_GROUPS = 3
_ESCAPE = re.compile(rb"\x1b[ -/]+[0-~]")
"""An escape sequence, which selects a character set (ISO 2022)."""
_CONTROL = re.compile(rb"[\x00-\x1a\x1c-\x1f\x7f]")
_CONTROL_IN_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_CODECS = {b"ISO_IR 192": "utf-8", b"GB18030": "gb18030", b"GBK": "gbk"}
"""The character sets of several bytes per character that use no escape sequences."""
_BYTES_PER_CHARACTER = 2
"""Of the character sets that use escape sequences, at most."""
_TIME_ZONE = re.compile(r"(?!-0000)[+-]\d\d[0-5]\d\Z")
_TIME_ZONES = range(-1200, 1401)


def valid_value(
    value: bytes, vr: str, *, character_set: bytes, many: bool, cut: bool
) -> bytes | None:
    """Return an encoded value in a valid form; None when it has no valid form.

    Args:
        value: The value without padding.
        vr: Its VR.
        character_set: The Specific Character Set of the value, encoded.
        many: Whether the attribute may have several values.
        cut: Whether a value with too many characters may be cut. A cut identifier would
            identify something else.
    """
    codec = _codec(value, character_set)
    if b"\\" not in value or vr in _TEXTS or (codec is None and not many):
        parts = [value]  # in the last two cases a backslash may be part of a text or character
    else:
        parts = _split(value, codec)
    if len(parts) > 1 and not many:
        return None
    mended = [_valid_part(part, vr, codec, cut=cut) for part in parts]
    present = [part for part in mended if part is not None]
    return b"\\".join(present) if len(present) == len(parts) else None


def valid_time_zone(offset: str) -> bool:
    """Return whether a text is a Timezone Offset From UTC (PS3.3 C.12.1.1.8)."""
    return _TIME_ZONE.match(offset) is not None and int(offset) in _TIME_ZONES


def _codec(value: bytes, character_set: bytes) -> str | None:
    """Return the Python codec that counts and cuts characters; None with escape sequences."""
    if _ESCAPE.search(value):
        return None
    codec = _CODECS.get(character_set.strip(b" \0"), "latin-1")
    try:
        value.decode(codec)
    except UnicodeDecodeError:
        return "latin-1"
    return codec


def _split(value: bytes, codec: str | None) -> list[bytes]:
    if codec is None:
        return value.split(b"\\")
    return [part.encode(codec) for part in value.decode(codec).split("\\")]


def _valid_part(part: bytes, vr: str, codec: str | None, *, cut: bool) -> bytes | None:
    form = _FORMS.get(vr)
    if form is not None:
        mended = _formed(part.strip(b" "), vr, form)
        return part if mended == part.strip(b" ") else mended
    if (_CONTROL_IN_TEXT if vr in _TEXTS else _CONTROL).search(part):
        return None
    limit = _LENGTHS.get(vr)
    if limit is None:
        return part
    if vr != "PN":
        return _within(part, limit, codec, cut=cut)
    groups = part.split(b"=")
    fitting = [_within(group, limit, codec, cut=cut) for group in groups]
    kept = [group for group in fitting if group is not None]
    return b"=".join(kept) if len(kept) == len(groups) <= _NAME_GROUPS else None


def _formed(part: bytes, vr: str, form: re.Pattern[bytes]) -> bytes | None:
    if vr == "DA" and (old := _OLD_DATE.match(part)):
        part = b"".join(old.groups())
    elif vr == "TM" and _OLD_TIME.match(part):
        part = part.replace(b":", b"")
    elif vr == "CS":
        part = part.upper()
    if not form.match(part) or len(part) > _LENGTHS.get(vr, len(part)):
        return None
    if (vr == "DS" and len(part) > _DECIMAL_LENGTH) or (vr == "DA" and not _is_day(part)):
        return None
    return part


def _is_day(digits: bytes) -> bool:
    try:
        datetime.strptime(digits.decode("ascii"), "%Y%m%d")  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return False
    return True


def _within(part: bytes, limit: int, codec: str | None, *, cut: bool) -> bytes | None:
    """Return a text of at most ``limit`` characters; None when it may not be cut."""
    if codec is None:
        # Which escape sequence selects how many bytes is not looked up: nothing valid is lost.
        least = len(_ESCAPE.sub(b"", part)) / _BYTES_PER_CHARACTER
        return part if least <= limit else None
    characters = part.decode(codec)
    if len(characters) <= limit:
        return part
    return characters[:limit].encode(codec) if cut else None
