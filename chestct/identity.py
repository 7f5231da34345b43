"""Whether two headers name one patient, as DICOM defines equality: by value, not by bytes."""

from __future__ import annotations

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
"""Of the defined terms without code extensions (PS3.3 C.12.1.1.2)."""


def patient_key(patient_id: bytes, issuer: bytes, name: bytes, character_set: bytes = b"") -> str:
    """Return a digest that is the same for two headers exactly when they name one patient.

    Left out of it is what has no meaning: padding of every value, the delimiters of components
    and component groups at the end of a name (PS3.5 section 6.2.1), and the character set in
    which it is all written. Case has a meaning.

    Args:
        patient_id: The encoded value of Patient ID.
        issuer: Of Issuer of Patient ID.
        name: Of Patient's Name.
        character_set: Of Specific Character Set.
    """
    values = (_text(value, character_set) for value in (patient_id, issuer, name))
    found_id, found_issuer, found_name = values
    parts = (found_id.strip(_PADDING), found_issuer.strip(_PADDING), _name(found_name))
    return digest(part.encode("utf-8", "surrogateescape").hex() for part in parts)


def _text(value: bytes, character_set: bytes) -> str:
    """Decode a value; what does not decode keeps its bytes, and equals nothing but itself."""
    if value.isascii() and _ESCAPE not in value:
        return value.decode("ascii")
    codec = _CODECS.get(character_set.decode("ascii", "replace").strip(_PADDING))
    try:
        if codec is not None and _ESCAPE not in value:
            return unicodedata.normalize("NFC", value.decode(codec))
    except UnicodeDecodeError:
        pass
    return value.decode("ascii", "surrogateescape")


def _name(value: str) -> str:
    """Return a Person Name without what may be left out of it."""
    groups = ["^".join(_without_last_empty(group.split("^"))) for group in value.split("=")]
    return "=".join(_without_last_empty(groups))


def _without_last_empty(parts: list[str]) -> list[str]:
    kept = [part.strip(_PADDING) for part in parts]
    while kept and not kept[-1]:
        kept.pop()
    return kept
