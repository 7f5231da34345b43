"""The annex on the structured report: its content tree as PS3.16 prints templates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from rales.conformance.markdown import table, uid_name
from rales.conformance.observed import code_text
from rales.conformance.samples import Sample, by_class

_HEADS = ("NL", "Relationship", "VT", "Concept name", "VM", "Value")
_MOST_VALUES = 6
_FINDING = "121071"
_CONTENT = "ContentSequence"

Key = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Node:
    """Content items of one kind at one place of the tree.

    Attributes:
        counts: How many of them each parent had, parents without any left out.
        values: What they said, in the order in which it was met.
    """

    relationship: str
    value_type: str
    name: str
    template: str
    parents: int = 0
    counts: list[int] = field(default_factory=list)
    values: dict[str, None] = field(default_factory=dict)
    children: dict[Key, Node] = field(default_factory=dict)

    @property
    def multiplicity(self) -> str:
        """How often it stands below one parent."""
        least = min(self.counts) if len(self.counts) == self.parents else 0
        most = max(self.counts)
        if least == most:
            return f"{least}"
        return f"{min(least, 1)}-{most if most == 1 else 'n'}"


def content_trees(samples: Sequence[Sample]) -> str:
    """Return the content tree of each kind of document, all samples in one table."""
    parts: list[str] = []
    for uid, objects in by_class(samples).items():
        documents = [one for its in objects for one in its if _CONTENT in one]
        if documents:
            name = uid_name(uid).removesuffix(" Storage")
            parts.append(f"### B.{len(parts) + 1} {name}\n\n{_tree(documents)}")
    return "\n\n".join(parts)


def _tree(documents: Sequence[Dataset]) -> str:
    first = documents[0]
    root = Node(
        relationship="",
        value_type=str(first.ValueType),
        name=_name(first),
        template=_template(first),
        parents=len(documents),
        counts=[1] * len(documents),
    )
    _merge(root, documents)
    return table(_HEADS, _rows(root, 0))


def _merge(node: Node, items: Sequence[Dataset]) -> None:
    """Add the children of ``items``, which are of one kind, to ``node``."""
    for item in items:
        groups: dict[Key, list[Dataset]] = {}
        for child in item.get(_CONTENT, ()):
            groups.setdefault(_key(child), []).append(child)
        for key, its in groups.items():
            below = node.children.get(key)
            if below is None:
                below = node.children[key] = Node(
                    relationship=str(its[0].RelationshipType).replace("_", " "),
                    value_type=str(its[0].ValueType),
                    name=_name(its[0]),
                    template=_template(its[0]),
                )
            below.counts.append(len(its))
            below.values.update(dict.fromkeys(filter(None, map(_value, its))))
            _merge(below, its)
    for below in node.children.values():
        below.parents += len(items)


def _key(item: Dataset) -> Key:
    """Tell what is merged: the same concept, in a group the same finding as well."""
    findings = tuple(
        _value(child)
        for child in item.get(_CONTENT, ())
        if child.get("ConceptNameCodeSequence")
        and child.ConceptNameCodeSequence[0].CodeValue == _FINDING
    )
    return (item.RelationshipType, item.ValueType, _name(item), _template(item), *findings)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return code_text(names[0]) if names else ""


def _template(item: Dataset) -> str:
    templates = item.get("ContentTemplateSequence")
    return f"TID {templates[0].TemplateIdentifier}" if templates else ""


def _value(item: Dataset) -> str:
    """Return what of a value is of interest: codes, units, kinds of outline; never numbers."""
    match item.ValueType:
        case "CODE":
            return code_text(item.ConceptCodeSequence[0])
        case "NUM":
            return f"in {code_text(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0])}"
        case "SCOORD":
            return str(item.GraphicType)
        case "IMAGE":
            reference = item.ReferencedSOPSequence[0]
            segment = " with segment number" if "ReferencedSegmentNumber" in reference else ""
            return f"{uid_name(reference.ReferencedSOPClassUID)}{segment}"
        case _:
            return ""


def _rows(node: Node, depth: int) -> Iterator[tuple[str, ...]]:
    values = list(node.values)
    said = "; ".join(values) if len(values) <= _MOST_VALUES else "one of a context group"
    yield (
        "&gt;" * depth,
        node.relationship,
        node.value_type,
        node.name,
        node.multiplicity,
        said or node.template,
    )
    for child in node.children.values():
        yield from _rows(child, depth + 1)
