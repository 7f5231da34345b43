"""The annex on Information Object Definitions: modules and attributes of the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom._standard_utils import (
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)
from pydicom.datadict import dictionary_description

from conformance.markdown import table, uid_name
from conformance.observed import Observed, SampleResults, by_class, observe, sources_of

Rows = tuple[tuple[str, ...], ...]

_LIKE = {"1.2.840.10008.5.1.4.1.1.66.7": "1.2.840.10008.5.1.4.1.1.66.4"}
"""SOP classes that highdicom's tables lack, with a class of the same modules."""
_HEADS = ("Tag", "Attribute", "VR", "Presence", "Source", "Value")
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
"""Where values come from that the analysis makes."""


def information_objects(samples: Sequence[SampleResults]) -> str:
    """Return the annex: modules and attributes by SOP class, attributes that are alike once."""
    parts, first = [], dict[tuple[str, Rows], str]()
    for number, uid in enumerate(by_class(samples), start=1):
        section = f"A.{number}"
        listed, tables = [], []
        for entity, title, usage, rows, elsewhere in _modules(uid, samples):
            place = first.setdefault((title, rows), section) if rows else elsewhere
            listed.append((entity, title, usage, place))
            if rows and place == section:
                tables.append(f"**{title}**\n\n{table(_HEADS, rows)}")
        kind = uid_name(uid).removesuffix(" Storage").removesuffix(" Image")
        parts += [f"### {section} {kind}", f"SOP Class UID {uid}."]
        parts += [table(("IE", "Module", "Usage", "Attributes in"), listed), *tables]
    return "\n\n".join(parts)


def _modules(
    uid: str, samples: Sequence[SampleResults]
) -> Iterator[tuple[str, str, str, Rows, str]]:
    """Yield entity, title, usage and attributes of the modules that results have.

    An attribute is listed with the first module that has it; a mandatory module without
    attributes of its own comes with the place where they are.
    """
    left = observe(by_class(samples)[uid])
    present = {seen.keyword for seen in left if len(seen.path) == 1}
    for entry in get_iod_module_map()[get_sop_class_iod_map()[_LIKE.get(uid, uid)]]:
        top = [each for each in get_module_attribute_map()[entry["key"]] if not each["path"]]
        keywords = {each["keyword"] for each in top}
        roots = {seen.path[0] for seen in left if len(seen.path) == 1 and seen.keyword in keywords}
        rows = tuple(_row(seen, samples) for seen in left if seen.path[0] in roots)
        left = [seen for seen in left if seen.path[0] not in roots]
        required = {each["keyword"] for each in top if each["type"] in "12"}
        if rows or (entry["usage"] == "M" and required <= present):
            elsewhere = "other modules" if keywords & present else "none present"
            yield entry["ie"], _title(entry["key"]), entry["usage"], rows, elsewhere
    if left:
        beyond = tuple(_row(seen, samples) for seen in left)
        yield "-", "Attributes beyond these modules", "-", beyond, ""


def _title(key: str) -> str:
    words = " ".join(_WORDS.get(word, word) for word in key.replace("-", " ").title().split())
    return words.replace("Multi Frame", "Multi-frame").replace(" Of ", " of ")


def _row(seen: Observed, samples: Sequence[SampleResults]) -> tuple[str, ...]:
    tag, depth = seen.path[-1], "&gt;" * (len(seen.path) - 1)
    sources = sources_of(seen, samples)
    row = (seen.vr, seen.presence, sources or "-", _value(seen, sources))
    number = f"({tag.group:04X},{tag.element:04X})"
    return f"{depth}{number}", f"{depth}{dictionary_description(tag)}", *row


def _value(seen: Observed, sources: str) -> str:
    if seen.keyword == "SOPClassUID":
        return "that of the object"
    if sources == "FIXED":
        values = sorted(set().union(*seen.values.values()))
        if len(values) <= _MOST_VALUES:
            return "; ".join(uid_name(value) if seen.vr == "UI" else value for value in values)
    return _NOTES.get(seen.keyword, "") if "AUTO" in sources else ""
