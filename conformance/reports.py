"""Annexes on structured reports: content trees as PS3.16 prints templates, and codes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from conformance.markdown import table, uid_name
from conformance.observed import SampleResults, by_class, code_text
from dicom_out.objects import codes

_MOST_VALUES = 6
_FINDING = "121071"
_CONTENT = "ContentSequence"

Place = tuple[tuple[str, ...], ...]
"""Where content items of one kind stand: the keys from the root of the tree down to them."""


def content_trees(samples: Sequence[SampleResults]) -> str:
    """Return the content tree of each kind of document, all samples in one table."""
    parts: list[str] = []
    for uid, objects in by_class(samples).items():
        documents = [document for group in objects for document in group if _CONTENT in document]
        if documents:
            name = uid_name(uid).removesuffix(" Storage")
            tree = table(
                ("NL", "Relationship", "VT", "Concept name", "VM", "Value"), _rows(documents)
            )
            parts.append(f"### B.{len(parts) + 1} {name}\n\n{tree}")
    return "\n\n".join(parts)


def _rows(documents: Sequence[Dataset]) -> Iterator[tuple[str, ...]]:
    items: dict[Place, list[Dataset]] = {(): []}  # in the order of the tree
    counts: dict[Place, list[int]] = defaultdict(list)
    children: dict[Place, dict[Place, None]] = defaultdict(dict)

    def add(item: Dataset, place: Place) -> None:
        items.setdefault(place, []).append(item)
        below = Counter((*place, _key(child)) for child in item.get(_CONTENT, ()))
        children[place].update(dict.fromkeys(below))
        for key, count in below.items():
            counts[key].append(count)
        for child in item.get(_CONTENT, ()):
            add(child, (*place, _key(child)))

    def rows(place: Place) -> Iterator[tuple[str, ...]]:
        relationship, value_type, name, template, *_ = place[-1]
        values = list(dict.fromkeys(filter(None, map(_value, items[place]))))
        said = "; ".join(values) if len(values) <= _MOST_VALUES else "one of a context group"
        parents = len(items[place[:-1]])
        often = _multiplicity(counts[place], parents) if parents else "1"
        yield "&gt;" * (len(place) - 1), relationship, value_type, name, often, said or template
        for child in children[place]:
            yield from rows(child)

    for document in documents:
        add(document, (_key(document),))
    yield from rows((_key(documents[0]),))


def _multiplicity(counts: Sequence[int], parents: int) -> str:
    """Return how many items stand below one parent; ``counts`` leaves out parents without any."""
    least, most = min(counts) if len(counts) == parents else 0, max(counts)
    if least == most:
        return f"{least}"
    return f"{min(least, 1)}-{most if most == 1 else 'n'}"


def _key(item: Dataset) -> tuple[str, ...]:
    """Return what items have in common that are listed once; groups have the finding as well."""
    templates = item.get("ContentTemplateSequence")
    return (
        str(item.get("RelationshipType", "")).replace("_", " "),
        str(item.ValueType),
        _name(item),
        f"TID {templates[0].TemplateIdentifier}" if templates else "",
        *(_value(child) for child in item.get(_CONTENT, ()) if f"({_FINDING}," in _name(child)),
    )


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return code_text(names[0]) if names else ""


def _value(item: Dataset) -> str:
    """Return the code, unit or kind of outline of an item; never a number or a text."""
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


def standard_codes(samples: Sequence[SampleResults]) -> str:
    """Return the codes of standard schemes that results have, with the modality of the results."""
    used: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for sample in samples:
        for result in sample.results:
            for item in result.iterall():
                for code in item.value or () if item.VR == "SQ" else ():
                    if "CodeMeaning" in code and "CodeValue" in code:
                        key = (code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning)
                        used[key].add(result.Modality)
    rows = [
        (*code, ", ".join(sorted(modalities)))
        for code, modalities in sorted(used.items())
        if code[0] != codes.PRIVATE_SCHEME
    ]
    return table(("Scheme", "Code", "Meaning", "In"), rows)


def private_codes() -> str:
    """Return the codes of our own scheme, whether a sample has them or not."""
    rows = [
        (f"`{code.value}`", code.meaning)
        for code in vars(codes).values()
        if isinstance(code, Code) and code.scheme_designator == codes.PRIVATE_SCHEME
    ]
    return table(("Code", "Meaning"), rows)
