"""Decides whether two headers name the same patient: by value, as in DICOM, not by bytes."""

from __future__ import annotations

import re
import unicodedata

from chestct.uids import digest

_PADDING = " \0"
_ESCAPE = 0x1B
_CODECS = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "tis_620",
    "ISO_IR 192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
"""Codecs of the defined terms without code extensions (PS3.3 C.12.1.1.2)."""
_EXTENDED = "ISO 2022 IR "
_ESCAPES = {
    b"(B": "ascii",
    b"(J": "ascii",  # JIS X 0201 Romaji
    b")I": "shift_jis",
    b"-A": "latin_1",
    b"-B": "iso8859_2",
    b"-C": "iso8859_3",
    b"-D": "iso8859_4",
    b"-L": "iso8859_5",
    b"-G": "iso8859_6",
    b"-F": "iso8859_7",
    b"-H": "iso8859_8",
    b"-M": "iso8859_9",
    b"-b": "iso8859_15",
    b"-T": "tis_620",
    b"$B": "iso2022_jp",
    b"$(D": "iso2022_jp_2",
    b"$)C": "euc_kr",
    b"$)A": "gb2312",
}
"""Codec after an escape sequence, by the end of the sequence (PS3.3 tables C.12-3, C.12-4)."""
_ESCAPED = re.compile(rb"\x1b(\$\([A-Z]|\$\)[A-Z]|\$[A-Z]|[()\-.][A-Za-z])")


def patient_key(patient_id: bytes, issuer: bytes, name: bytes, character_set: bytes = b"") -> str:
    """Return a digest that two headers share exactly if they name the same patient.

    The digest ignores differences without meaning: padding, trailing delimiters of a name
    (PS3.5 section 6.2.1), and the character set of the header. It is case-sensitive.

    Args:
        patient_id: Encoded value of Patient ID.
        issuer: Encoded value of Issuer of Patient ID.
        name: Encoded value of Patient's Name.
        character_set: Encoded value of Specific Character Set.
    """
    id_text, issuer_text, name_text = (
        decoded_text(value, character_set) for value in (patient_id, issuer, name)
    )
    parts = (id_text.strip(_PADDING), issuer_text.strip(_PADDING), _name(name_text))
    return digest(part.encode("utf-8", "surrogateescape").hex() for part in parts)


def decoded_text(value: bytes, character_set: bytes) -> str:
    """Decode a value; undecodable bytes are kept, so that the value equals only itself."""
    if value.isascii() and _ESCAPE not in value:
        return value.decode("ascii")
    terms = [term.strip(_PADDING) for term in character_set.decode("ascii", "replace").split("\\")]
    extended = len(terms) > 1 or terms[0].startswith(_EXTENDED)
    codec = _CODECS.get(terms[0].replace(_EXTENDED, "ISO_IR "), "ascii" if extended else None)
    try:
        if codec is not None and (extended or _ESCAPE not in value):
            return unicodedata.normalize("NFC", _decoded(value, codec))
    except (LookupError, UnicodeDecodeError):
        pass
    return value.decode("ascii", "surrogateescape")


def _decoded(value: bytes, first: str) -> str:
    """Decode a value with code extensions (PS3.5 section 6.1.2.5).

    Raises:
        LookupError: No defined term has the escape sequence.
        UnicodeDecodeError: The bytes are not in the character set that is active.
    """
    begin, *rest = _ESCAPED.split(value)
    text = [begin.decode(first)]
    for escape, part in zip(rest[::2], rest[1::2], strict=True):
        codec = _ESCAPES[escape]
        lead = b"\x1b" + escape if codec.startswith("iso2022") else b""
        text.append((lead + part).decode(codec))
    return "".join(text)


def _name(value: str) -> str:
    """Return a Person Name without its empty trailing components and groups."""
    groups = ["^".join(_without_last_empty(group.split("^"))) for group in value.split("=")]
    return "=".join(_without_last_empty(groups))


def _without_last_empty(parts: list[str]) -> list[str]:
    kept = [part.strip(_PADDING) for part in parts]
    while kept and not kept[-1]:
        kept.pop()
    return kept
