"""Reads the content tree of a report with pydicom alone, as a stranger would."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset


def items(item: Dataset) -> Iterator[Dataset]:
    """Walk through the content tree below an item."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from items(child)


def name_of(item: Dataset) -> str:
    """Return the meaning of the concept name."""
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def groups(sr: Dataset, tracking: str) -> list[Dataset]:
    """Return the measurement groups with this tracking identifier."""
    return [
        item
        for item in items(sr)
        if name_of(item) == "Measurement Group"
        and any(
            name_of(child) == "Tracking Identifier" and child.TextValue == tracking
            for child in item.ContentSequence
        )
    ]


def values(*of: Dataset) -> dict[str, tuple[float, str]]:
    """Return measurement name -> (value, UCUM unit)."""
    return {
        name_of(child): (
            float(child.MeasuredValueSequence[0].NumericValue),
            child.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for group in of
        for child in group.ContentSequence
        if child.ValueType == "NUM"
    }
