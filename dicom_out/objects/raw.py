"""Encoded values of a header, read without decoding them."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag


def raw_value(dataset: Dataset, keyword: str) -> bytes | None:
    """Return the encoded value of an element; None when the element is absent.

    pydicom leaves every element but Specific Character Set encoded until it is accessed.
    """
    tag: BaseTag = Tag(keyword)
    if tag not in dataset:
        return None
    element: Any = dataset.get_item(tag)
    value = element.value
    if isinstance(value, bytes | None):
        return value or b""
    parts = list(value) if isinstance(value, MutableSequence) else [value]
    return "\\".join(str(part) for part in parts).encode("latin-1", "replace")


def ascii_value(dataset: Dataset, keyword: str) -> str:
    """Return a value without padding; a question mark stands for each byte outside ASCII."""
    text = (raw_value(dataset, keyword) or b"").decode("ascii", "replace")
    return text.replace("\N{REPLACEMENT CHARACTER}", "?").strip(" \0")


def latin_value(dataset: Dataset, keyword: str) -> str:
    """Return a value without padding, each byte as one character; empty when it is absent."""
    return (raw_value(dataset, keyword) or b"").decode("latin-1").strip(" \0")
