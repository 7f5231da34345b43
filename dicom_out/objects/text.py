"""An SR as text that a person can read."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_out.objects import codes

_UNSAID = {"Image Library", "Algorithm Parameters", "Algorithm Family", "Algorithm Manufacturer"}
_SPOKEN = {"1": "", "[hnsf'U]": "HU"}


def render_text(sr: Dataset) -> str:
    """Return the content tree of an SR as indented text, one content item a line.

    UIDs, outlines, references and the image library are left out, and with them the groups that
    hold nothing else; so are the parameters of the algorithm, which the comments explain.
    Measurements show value and unit.
    """
    title = str(sr.ConceptNameCodeSequence[0].CodeMeaning)
    flags = f"{sr.get('PreliminaryFlag', '')}, {sr.get('VerificationFlag', '')}"
    described = f"{sr.get('SeriesDescription', '')}; {flags}"
    return "\n".join([title, described, "", *_lines(sr, 0)]) + "\n"


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    for child in item.get("ContentSequence", ()):
        line = _line(child)
        if line is None or _only_located(child) or _name(child) in _UNSAID:
            continue
        yield "  " * depth + line
        yield from _lines(child, depth + 1)


def _name(item: Dataset) -> str:
    named = item.get("ConceptNameCodeSequence")
    return str(named[0].CodeMeaning) if named else ""


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


def _only_located(item: Dataset) -> bool:
    """Tell whether a measurement group says where something is, and no more."""
    content = item.get("ContentSequence", ())
    kinds = {child.ValueType for child in content}
    explained = any(_name(child) == codes.COMMENT.meaning for child in content)
    return "SCOORD" in kinds and "NUM" not in kinds and not explained


def _measured(value: Dataset) -> str:
    """Return a number with its unit as people write it, not as UCUM does."""
    number = f"{float(value.NumericValue):.4f}".rstrip("0").rstrip(".")
    unit = str(value.MeasurementUnitsCodeSequence[0].CodeValue).strip("{}")
    return f"{number} {_SPOKEN.get(unit, unit)}".rstrip()
