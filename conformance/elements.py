"""Elements of data sets as text."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset


def items_of(element: DataElement) -> Sequence[Dataset]:
    """Return the items of a sequence; nothing for another element."""
    return element.value or () if element.VR == "SQ" else ()


def is_code(item: Dataset) -> bool:
    """Return whether an item is a coded value."""
    return "CodeMeaning" in item and "CodingSchemeDesignator" in item


def values_of(element: DataElement) -> set[str]:
    """Return the values of an element as text; those of a code sequence are its codes."""
    if element.VR == "SQ":
        return {code_text(item) for item in items_of(element) if is_code(item)}
    if isinstance(element.value, bytes):
        return {sha256(element.value).hexdigest()} if element.value else set()
    several = element.value if element.VM > 1 else [element.value]
    texts = [str(value) for value in several if value is not None and str(value)]
    return {str(float(text)) if element.VR == "DS" else text for text in texts}


def code_text(item: Dataset) -> str:
    """Return a code as PS3.16 prints it."""
    return f'({item.CodeValue}, {item.CodingSchemeDesignator}, "{item.CodeMeaning}")'
