"""An SR as text that a person can read."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset


def render_text(sr: Dataset) -> str:
    """Return the content tree of an SR as indented text, one content item a line.

    UIDs, outlines and references are left out; measurements show value and unit.
    """
    title = str(sr.ConceptNameCodeSequence[0].CodeMeaning)
    flags = f"{sr.get('PreliminaryFlag', '')}, {sr.get('VerificationFlag', '')}"
    described = f"{sr.get('SeriesDescription', '')}; {flags}"
    return "\n".join([title, described, "", *_lines(sr, 0)]) + "\n"


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    for child in item.get("ContentSequence", ()):
        line = _line(child)
        if line is None:
            continue
        yield "  " * depth + line
        yield from _lines(child, depth + 1)


def _line(item: Dataset) -> str | None:
    named = item.get("ConceptNameCodeSequence")
    name = str(named[0].CodeMeaning) if named else ""
    kind = item.ValueType
    if kind == "CONTAINER":
        return name
    if kind == "NUM":
        measured = item.MeasuredValueSequence[0]
        unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
        return f"{name}: {measured.NumericValue} {unit if unit != '1' else ''}".rstrip()
    if kind == "CODE":
        return f"{name}: {item.ConceptCodeSequence[0].CodeMeaning}"
    if kind == "TEXT":
        return f"{name}: {item.TextValue}"
    return None
