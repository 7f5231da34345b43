"""Reads single elements of a data set; no value, however wrong, raises."""

from __future__ import annotations

import math
import struct
from functools import cache
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

UNPARSABLE = (
    BytesLengthException,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    struct.error,
)
"""The errors that pydicom raises when a value does not fit its VR."""


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value; None where it is missing or cannot be parsed."""
    tag = _tag(keyword)
    try:
        return dataset[tag].value if tag in dataset else None
    except UNPARSABLE:
        return None


@cache
def _tag(keyword: str) -> BaseTag:
    """Return the tag of a keyword; ``Dataset.get`` looks it up in twice the time of the rest."""
    return Tag(keyword)


def raw_of(dataset: Dataset, keyword: str) -> bytes:
    """Return an element as it is encoded; empty where it is missing or a sequence."""
    tag = _tag(keyword)
    element: Any = dataset.get_item(tag) if tag in dataset else None
    if element is None or element.VR == "SQ":
        return b""
    if isinstance(element, RawDataElement):
        return element.value or b""
    parts = element.value if isinstance(element.value, MultiValue) else [element.value or ""]
    return "\\".join(map(str, parts)).encode("utf-8", "surrogateescape")


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Return an integer element; None where it is missing or not a single integer."""
    value = value_of(dataset, keyword)
    return int(value) if isinstance(value, int) else None


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return an element as upper-cased text, its values joined; empty where it is missing."""
    value = value_of(dataset, keyword)
    if value is None:
        return ""
    parts = list(value) if isinstance(value, list | tuple | MultiValue) else [value]
    return "\\".join(str(part).strip().upper() for part in parts)


def numbers_of(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return ``count`` finite numbers, else None: a NaN would pass every comparison."""
    value = value_of(dataset, keyword)
    try:
        numbers = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """Return a finite number; None where the element holds no single finite number."""
    value = value_of(dataset, keyword)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
