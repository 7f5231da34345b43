"""Copies attributes of a header in valid form, encoded, and records which were invalid."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_description, dictionary_VM, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_out.objects.copied_attributes import TERMS, ItemForm, is_identifier
from dicom_out.objects.elements import element, item
from dicom_out.objects.raw import raw_value
from dicom_out.objects.value_forms import valid_value

_CHARACTER_SET = "SpecificCharacterSet"
_TERMS = {
    term.encode(): encoding
    for term, encoding in python_encoding.items()
    if term.startswith(("ISO_IR ", "ISO 2022 IR ")) or term in {"GB18030", "GBK"}
}
_TERM_OF_CODEC = {
    codecs.lookup(encoding).name: term
    for term, encoding in _TERMS.items()
    if term.startswith(b"ISO_IR ")
}
_SINGLE = frozenset({b"ISO_IR 192", b"GB18030", b"GBK"})
"""Character sets that no other set extends (PS3.3 C.12.1.1.2)."""
_SHORTEST_8_BIT = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """The attributes of a header or item, each with its encoded value."""

    values: dict[str, bytes]
    character_set: bytes


@dataclass(slots=True)
class Faults:
    """The names of attributes with invalid values, in the order in which they were read."""

    mended: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)
    undeclared: dict[str, None] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What was invalid, without the values; empty when nothing was."""
        parts = [
            f"{what}: {', '.join(names)}"
            for what, names in (
                ("mended", self.mended),
                ("left out", self.left_out),
                ("copied with characters outside Specific Character Set", self.undeclared),
            )
            if names
        ]
        return f"the images have invalid header values; {'; '.join(parts)}" if parts else ""


def copy_character_set(header: Dataset, inherited: bytes, faults: Faults) -> Copied:
    """Return the Specific Character Set of a header or item as the first of its attributes."""
    value = (raw_value(header, _CHARACTER_SET) or b"").strip(b" \0")
    if not value:
        return Copied(values={}, character_set=inherited)
    valid = _valid_character_set(value)
    _record(_CHARACTER_SET, value, valid, faults)
    if not valid:
        return Copied(values={}, character_set=inherited)
    return Copied(values={_CHARACTER_SET: valid}, character_set=valid)


def _valid_character_set(value: bytes) -> bytes | None:
    """Return a Specific Character Set of defined terms; None when a term is unknown."""
    terms = [_defined_term(term.strip(b" \0")) for term in value.split(b"\\")]
    if len(terms) > 1 and terms[0] in _SINGLE:
        terms = terms[:1]
    if len(terms) > 1:
        terms = [term and term.replace(b"ISO_IR ", b"ISO 2022 IR ") for term in terms]
    known = [term for term in terms if term is not None]
    if len(known) < len(terms) or not any(known) or (len(known) > 1 and _SINGLE & set(known)):
        return None
    return b"\\".join(known)


def _defined_term(term: bytes) -> bytes | None:
    """Return the defined term (PS3.3 C.12.1.1.2) that a term stands for; None if unknown."""
    if not term or term in _TERMS:
        return term
    digits = term.upper().replace(b"-", b"_").replace(b"ISOIR", b"ISO_IR").rpartition(b"IR")[2]
    candidate = b"ISO_IR " + digits.strip(b" _")
    if candidate in _TERMS:
        return candidate
    try:
        return _TERM_OF_CODEC.get(codecs.lookup(term.decode("ascii")).name)
    except (LookupError, ValueError):
        return None


def copy_values(header: Dataset, keywords: Iterable[str], copied: Copied, faults: Faults) -> None:
    """Add each attribute that has a value in valid form; type 2 attributes are the caller's."""
    for keyword in keywords:
        vr = dictionary_VR(keyword)
        padding = b"\0 " if vr == "UI" else b"\0"
        received = (raw_value(header, keyword) or b"").rstrip(padding)
        if not received.strip(b" \0"):
            continue
        valid = valid_value(
            received,
            vr,
            character_set=copied.character_set,
            many=dictionary_VM(keyword) != "1",
            cut=not is_identifier(keyword),
        )
        terms = TERMS.get(keyword)
        if valid is not None and terms is not None and valid.strip(b" ") not in terms:
            valid = None
        _record(keyword, received, valid, faults)
        if valid is not None:
            copied.values[keyword] = valid
            if not copied.character_set and max(valid) >= _SHORTEST_8_BIT:
                faults.undeclared[name_of(keyword)] = None


def copy_items(
    header: Dataset, keyword: str, form: ItemForm, character_set: bytes, faults: Faults
) -> bytes:
    """Return the encoded items of a sequence that are valid; empty without any."""
    encoded = b""
    for received in _items(header, keyword, faults):
        copied = copy_character_set(received, character_set, faults)
        copy_form(received, form, copied, faults)
        if copied.values.keys() - {"SpecificCharacterSet"}:
            encoded += item(b"".join(element(*pair) for pair in _in_order(copied.values)))
        else:
            faults.left_out[name_of(keyword)] = None
    return encoded


def copy_form(header: Dataset, form: ItemForm, copied: Copied, faults: Faults) -> None:
    """Add the attributes of ``form``: as a whole or, when required ones are missing, none."""
    part = Copied(values={}, character_set=copied.character_set)
    copy_values(header, form.values, part, faults)
    for keyword, inner in form.sequences.items():
        if items := copy_items(header, keyword, inner, part.character_set, faults):
            part.values[keyword] = items
    for pair in form.together:
        if len(part.values.keys() & set(pair)) == 1:
            _leave_out(pair, part, faults)
    present = part.values.keys()
    if not set(form.required) <= present or (form.one_of and not present & set(form.one_of)):
        _leave_out(tuple(present), part, faults)
    if part.values:
        copied.values.update({**form.defaults, **part.values})


def _leave_out(keywords: tuple[str, ...], part: Copied, faults: Faults) -> None:
    for keyword in keywords:
        if part.values.pop(keyword, None) is not None:
            faults.left_out[name_of(keyword)] = None


def name_of(keyword: str) -> str:
    """Return the name of an attribute in the data dictionary (PS3.6)."""
    return dictionary_description(Tag(keyword))


def _record(keyword: str, received: bytes, valid: bytes | None, faults: Faults) -> None:
    if valid is None:
        faults.left_out[name_of(keyword)] = None
    elif valid != received:
        faults.mended[name_of(keyword)] = None


def _items(header: Dataset, keyword: str, faults: Faults) -> Iterator[Dataset]:
    try:
        items = list(header.get(keyword) or ())
        yield from (item for item in items if isinstance(item, Dataset))
    except Exception:  # noqa: BLE001 - whatever pydicom raises for bytes that are no sequence
        faults.left_out[name_of(keyword)] = None


def _in_order(values: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return sorted(values.items(), key=lambda pair: Tag(pair[0]))
