"""What the same attribute looks like over many objects: is it there, and who decides it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from rales.conformance.samples import Sample

Path = tuple[BaseTag, ...]
"""Tags from the root of an object down to an attribute."""

_CONTENT = "ContentSequence"
_PER_FRAME = "PerFrameFunctionalGroupsSequence"


@dataclass(slots=True, kw_only=True)
class Observed:
    """One attribute over all objects of a SOP class.

    Attributes:
        values: By sample, each value that it had somewhere.
        containers, present, empty: How many data sets could hold it, held it, held it empty.
    """

    path: Path
    vr: str
    values: dict[int, set[str]] = field(default_factory=dict)
    containers: int = 0
    present: int = 0
    empty: int = 0

    @property
    def keyword(self) -> str:
        """Its keyword; empty for a private one."""
        return keyword_for_tag(self.path[-1])

    @property
    def presence(self) -> str:
        """Its presence in the terms of PS3.2 annex N."""
        if self.empty == self.present:
            return "EMPTY" if self.present == self.containers else "ANAP, EMPTY"
        if self.present < self.containers:
            return "ANAP"
        return "VNAP" if self.empty else "ALWAYS"


def observe(objects: Sequence[tuple[Dataset, ...]]) -> list[Observed]:
    """Return every attribute of objects of one SOP class, in the order of their tags.

    ``objects`` holds a tuple per sample. The content tree of a report is left out.
    """
    found: dict[Path, Observed] = {}
    containers: dict[Path, int] = {}
    for number, of_sample in enumerate(objects):
        for one in of_sample:
            for path, element, vr in _walk(one, ()):
                if element is None:
                    containers[path] = containers.get(path, 0) + 1
                    continue
                seen = found.setdefault(path, Observed(path=path, vr=vr))
                seen.present += 1
                values = _values(element)
                seen.empty += not values and not _items(element)
                seen.values.setdefault(number, set()).update(values)
    for path, seen in found.items():
        seen.containers = containers[path[:-1]]
    return [found[path] for path in sorted(found)]


def _walk(dataset: Dataset, path: Path) -> Iterator[tuple[Path, DataElement | None, str]]:
    """Yield a data set (without element) and then everything in it."""
    yield path, None, ""
    for element in dataset:
        here = (*path, element.tag)
        if element.keyword == _CONTENT:
            continue
        yield here, element, element.VR
        for item in _items(element):
            if _is_code(item):
                yield from _beyond_code(item, here)
            else:
                yield from _walk(item, here)


def _items(element: DataElement) -> Sequence[Dataset]:
    return element.value or () if element.VR == "SQ" else ()


def _is_code(item: Dataset) -> bool:
    return "CodeMeaning" in item and "CodingSchemeDesignator" in item


def _beyond_code(item: Dataset, path: Path) -> Iterator[tuple[Path, DataElement | None, str]]:
    """Yield what a code sequence item holds beside its code (modifiers)."""
    yield path, None, ""
    for element in item:
        if element.VR == "SQ":
            here = (*path, element.tag)
            yield here, element, element.VR
            for inner in _items(element):
                yield from _walk(inner, here) if not _is_code(inner) else _beyond_code(inner, here)


def _values(element: DataElement) -> set[str]:
    """Return the values of an element as text; those of a code sequence are its codes."""
    if element.VR == "SQ":
        return {code_text(item) for item in _items(element) if _is_code(item)}
    if element.value is None:
        return set()
    if isinstance(element.value, bytes):
        return {sha256(element.value).hexdigest()} if element.value else set()
    several = element.value if element.VM > 1 else [element.value]
    return {str(one) for one in several if str(one)}


def code_text(item: Dataset) -> str:
    """Return a code as PS3.16 prints it."""
    return f'({item.CodeValue}, {item.CodingSchemeDesignator}, "{item.CodeMeaning}")'


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Where values of one sample may have come from."""

    sample: Sample
    by_keyword: dict[str, set[str]]
    uids: set[str]

    @classmethod
    def of(cls, sample: Sample) -> Origins:
        """Collect every value of the source images."""
        by_keyword: dict[str, set[str]] = {}
        uids: set[str] = set()
        for source in sample.sources:
            for _path, element, vr in _walk(source, ()):
                if element is None:
                    continue
                by_keyword.setdefault(element.keyword, set()).update(_values(element))
                if vr == "UI":
                    uids.update(_values(element))
        return cls(sample=sample, by_keyword=by_keyword, uids=uids)


def source_of(seen: Observed, origins: Sequence[Origins]) -> str:
    """Return who decides the values of an attribute, in the terms that the statement explains."""
    told = {number: values for number, values in seen.values.items() if values}
    if not told:
        return ""
    if seen.vr == "UI" and all(values <= origins[number].uids for number, values in told.items()):
        return "COPY"
    if is_fixed(seen):
        return "FIXED"
    kinds = {
        _kind(value, seen.keyword, origins[number])
        for number, values in told.items()
        for value in values
    }
    return ", ".join(sorted(kinds))


def is_fixed(seen: Observed) -> bool:
    """Tell whether samples that have nothing in common have the same values here."""
    told = [values for values in seen.values.values() if values]
    most = max(told, key=len, default=set())
    return bool(told) and told.count(most) > 1 and all(values <= most for values in told)


def _kind(value: str, keyword: str, origins: Origins) -> str:
    if value in origins.sample.configured:
        return "CONFIG"
    if value in origins.sample.stated:
        return "MODEL"
    if value in origins.by_keyword.get(keyword, ()):
        return "COPY"
    return "AUTO"


def shared_path(seen: Observed) -> tuple[str, ...]:
    """Return the keywords above an attribute as the standard's tables of modules have them.

    They list the functional groups below the shared sequence alone.
    """
    above = [keyword_for_tag(tag) for tag in seen.path[:-1]]
    return tuple(one.replace(_PER_FRAME, "SharedFunctionalGroupsSequence") for one in above)
