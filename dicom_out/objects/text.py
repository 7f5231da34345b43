"""Renders an SR as text for a person."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_out.objects import codes

_OMITTED = {"Image Library", "Algorithm Parameters", "Algorithm Family", "Algorithm Manufacturer"}
_UNIT_NAMES = {"1": "", "[hnsf'U]": "HU"}


def render_text(sr: Dataset) -> str:
    """Return the claim of a report and its content tree as indented text, an item per line.

    The text omits UIDs, outlines, references and the image library, groups that hold nothing else,
    and the algorithm parameters, which the comments explain. Measurements show value and unit.
    """
    comments = (item for item in sr.ContentSequence if _name(item) == codes.COMMENT.meaning)
    claim = str(next(comments).TextValue)
    title = str(sr.ConceptNameCodeSequence[0].CodeMeaning)
    flags = f"{sr.get('PreliminaryFlag', '')}, {sr.get('VerificationFlag', '')}"
    description = f"{sr.get('SeriesDescription', '')}; {flags}"
    return "\n".join([claim, "", title, description, "", *_lines(sr, 0)]) + "\n"


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    for child in item.get("ContentSequence", ()):
        line = _line(child)
        if line is None or _has_only_an_outline(child) or _name(child) in _OMITTED:
            continue
        yield "  " * depth + line
        yield from _lines(child, depth + 1)


def _name(item: Dataset) -> str:
    concept = item.get("ConceptNameCodeSequence")
    return str(concept[0].CodeMeaning) if concept else ""


def _line(item: Dataset) -> str | None:
    name = _name(item)
    kind = item.ValueType
    if kind == "CONTAINER":
        return name
    if kind == "NUM":
        return f"{name}: {_measured(item.MeasuredValueSequence[0])}"
    if kind == "CODE":
        return f"{name}: {item.ConceptCodeSequence[0].CodeMeaning}"
    if kind == "TEXT":
        return f"{name}: {item.TextValue}"
    return None


def _has_only_an_outline(item: Dataset) -> bool:
    """Return whether a measurement group has an outline, and neither numbers nor a comment."""
    content = item.get("ContentSequence", ())
    kinds = {child.ValueType for child in content}
    has_comment = any(_name(child) == codes.COMMENT.meaning for child in content)
    return "SCOORD" in kinds and "NUM" not in kinds and not has_comment


def _measured(value: Dataset) -> str:
    """Return a number with the usual name of its unit instead of the UCUM code."""
    number = f"{float(value.NumericValue):.4f}".rstrip("0").rstrip(".")
    unit = str(value.MeasurementUnitsCodeSequence[0].CodeValue).strip("{}")
    return f"{number} {_UNIT_NAMES.get(unit, unit)}".rstrip()
