"""The annex on Information Object Definitions: modules and attributes of what is created."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from highdicom._standard_utils import (
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)
from pydicom.datadict import dictionary_description
from pydicom.tag import BaseTag

from rales.conformance.markdown import table, uid_name
from rales.conformance.observed import Observed, Origins, is_fixed, observe, shared_path, source_of
from rales.conformance.samples import Sample, by_class

_LIKE = {"1.2.840.10008.5.1.4.1.1.66.7": "1.2.840.10008.5.1.4.1.1.66.4"}
"""SOP classes that highdicom's tables lack, with the one whose modules they share."""
Types = Mapping[tuple[str, ...], str]
"""The type of each attribute by its keywords from the root."""

Content = tuple[str, tuple[tuple[str, ...], ...]]
"""A module with its rows."""

_BEYOND = "beyond"
_HEADS = ("Tag", "Attribute", "VR", "Type", "Presence", "Source", "Value")
_WORDS = {"Icc": "ICC", "Lut": "LUT", "Sc": "SC", "Sop": "SOP", "Sr": "SR", "Voi": "VOI"}
_MOST_VALUES = 8
_NOTES = {
    "DeviceUID": "derived from the digest of the model",
    "DimensionOrganizationUID": "derived from the analysis",
    "EncapsulatedDocument": "the page",
    "PixelData": "the mask or picture",
    "SOPInstanceUID": "derived from the analysis",
    "SpacingBetweenSlices": "from the positions of the slices",
    "SeriesInstanceUID": "derived from the analysis",
    "TrackingUID": "derived from the analysis; the report has the same",
}
"""What there is to say of values that are made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module of one kind of object; ``usage`` is M, C or U.

    Without rows, what it has is listed with other modules, if ``is_elsewhere``.
    """

    key: str
    usage: str
    entity: str
    rows: tuple[tuple[str, ...], ...]
    is_elsewhere: bool = False

    @property
    def content(self) -> Content:
        """What it is and has, whatever its usage."""
        return self.key, self.rows

    @property
    def title(self) -> str:
        """Its name as PS3.3 writes it."""
        if self.key == _BEYOND:
            return "Attributes beyond these modules"
        words = [_WORDS.get(word, word) for word in self.key.replace("-", " ").title().split()]
        return " ".join(words).replace("Multi Frame", "Multi-frame").replace(" Of ", " of ")


def modules_of(samples: Sequence[Sample]) -> dict[str, tuple[Module, ...]]:
    """Return the modules of each SOP class that results have."""
    origins = [Origins.of(sample) for sample in samples]
    return {
        uid: _modules(uid, observe(objects), origins) for uid, objects in by_class(samples).items()
    }


def _modules(
    uid: str, attributes: Sequence[Observed], origins: Sequence[Origins]
) -> tuple[Module, ...]:
    definition = get_iod_module_map()[get_sop_class_iod_map()[_LIKE.get(uid, uid)]]
    mandatory = [_types(entry["key"]) for entry in definition if entry["usage"] == "M"]
    left = {one.path: one for one in attributes}
    there = {one.keyword for one in attributes if len(one.path) == 1}
    modules = []
    for entry in definition:
        types = _types(entry["key"])
        roots = {
            path[0] for path, one in left.items() if len(path) == 1 and (one.keyword,) in types
        }
        mine = [left.pop(path) for path in list(left) if path[0] in roots]
        if not mine and (entry["usage"] != "M" or not _is_there(types, there)):
            continue
        strict = _strictest([types, *mandatory])
        modules.append(
            Module(
                key=entry["key"],
                usage=entry["usage"],
                entity=entry["ie"],
                rows=tuple(_row(one, strict, origins) for one in mine),
                is_elsewhere=any((keyword,) in types for keyword in there),
            )
        )
    if left:
        rows = tuple(_row(one, {}, origins) for one in left.values())
        modules.append(Module(key=_BEYOND, usage="", entity="", rows=rows))
    return tuple(modules)


def _is_there(types: Types, keywords: Collection[str]) -> bool:
    """Tell whether everything is there that a module demands, in whatever module it is listed."""
    return all(len(path) > 1 or path[0] in keywords for path, kind in types.items() if kind in "12")


def _strictest(modules: Sequence[Types]) -> Types:
    """Return the strictest type that any of the modules gives an attribute."""
    strictest: dict[tuple[str, ...], str] = {}
    for types in modules:
        for path, kind in types.items():
            strictest[path] = min(kind, strictest.get(path, kind))  # 1, 1C, 2, 2C, 3
    return strictest


def _types(module: str) -> Types:
    """Return the types of the attributes of a module."""
    return {
        (*entry["path"], entry["keyword"]): entry["type"]
        for entry in get_module_attribute_map()[module]
    }


def _row(seen: Observed, types: Types, origins: Sequence[Origins]) -> tuple[str, ...]:
    depth = "&gt;" * (len(seen.path) - 1)
    source = source_of(seen, origins)
    return (
        f"{depth}{_tag(seen.path[-1])}",
        f"{depth}{_name(seen.path[-1])}",
        seen.vr,
        types.get((*shared_path(seen), seen.keyword), "-"),
        seen.presence,
        source or "-",
        _value(seen, source),
    )


def _tag(tag: BaseTag) -> str:
    return f"({tag.group:04X},{tag.element:04X})"


def _name(tag: BaseTag) -> str:
    return "private" if tag.is_private else dictionary_description(tag)


def _value(seen: Observed, source: str) -> str:
    if seen.keyword == "SOPClassUID":
        return "that of the object"
    if source == "FIXED" and is_fixed(seen):
        values = sorted(set().union(*seen.values.values()))
        if len(values) <= _MOST_VALUES:
            return "; ".join(uid_name(one) if seen.vr == "UI" else one for one in values)
    return _NOTES.get(seen.keyword, "") if "AUTO" in source else ""


def information_objects(samples: Sequence[Sample]) -> str:
    """Return the annex: what several SOP classes share once, then each of them."""
    modules = modules_of(samples)
    common = _common(modules)
    parts = ["### A.1 Modules that several kinds of object have alike"]
    parts += [
        f"**{module.title}** of {', '.join(map(_kind, uids))}\n\n{table(_HEADS, module.rows)}"
        for module, uids in common.values()
    ]
    for number, (uid, its) in enumerate(modules.items(), start=2):
        rows = [
            (one.entity, one.title, one.usage, _place(one, common, number))
            for one in its
            if one.key != _BEYOND
        ]
        parts += [
            f"### A.{number} {_kind(uid)}",
            f"SOP Class UID {uid}.",
            table(("IE", "Module", "Usage", "Attributes in"), rows),
            *(
                f"**{one.title}**\n\n{table(_HEADS, one.rows)}"
                for one in its
                if one.rows and one.content not in common
            ),
        ]
    return "\n\n".join(parts)


def _kind(uid: str) -> str:
    return uid_name(uid).removesuffix(" Storage").removesuffix(" Image")


def _common(modules: Mapping[str, Sequence[Module]]) -> dict[Content, tuple[Module, list[str]]]:
    """Return the modules that several SOP classes have alike, with these."""
    found: dict[Content, tuple[Module, list[str]]] = {}
    for uid, its in modules.items():
        for one in its:
            if one.rows:
                found.setdefault(one.content, (one, []))[1].append(uid)
    return {content: its for content, its in found.items() if len(its[1]) > 1}


def _place(module: Module, common: Collection[Content], number: int) -> str:
    """Tell where the attributes of a module are listed."""
    if not module.rows:
        return "other modules" if module.is_elsewhere else "none present"
    return "A.1" if module.content in common else f"A.{number}"


def private_attributes(samples: Sequence[Sample]) -> str:
    """Return the data dictionary of the private attributes that results have."""
    found = sorted(
        {
            (_tag(path.path[-1]), path.vr)
            for objects in by_class(samples).values()
            for path in observe(objects)
            if path.path[-1].is_private
        }
    )
    return table(("Tag", "VR"), found) if found else "None: no object has a private attribute."
