"""Compares one attribute over many objects: its presence, and the source of its values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

Path = tuple[BaseTag, ...]
"""Tags from the root of an object down to an attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleResults:
    """The results of one analysis, and the possible sources of their values.

    Attributes:
        results: Every object of every kind, as it reads back.
        copied: The values of the source images by keyword; all UIDs of them under ``UI``.
        configured: Values that the configuration file decides.
        from_manifests: Values that the manifests of the models decide.
    """

    results: tuple[Dataset, ...]
    copied: Mapping[str, set[str]]
    configured: frozenset[str]
    from_manifests: frozenset[str]


def by_class(samples: Sequence[SampleResults]) -> dict[str, list[list[Dataset]]]:
    """Return the results of each SOP class, a list per sample."""
    classes = dict.fromkeys(str(one.SOPClassUID) for sample in samples for one in sample.results)
    return {
        uid: [[one for one in sample.results if uid == one.SOPClassUID] for sample in samples]
        for uid in classes
    }


@dataclass(slots=True, kw_only=True)
class Observed:
    """One attribute over all objects of a SOP class.

    Attributes:
        values: Every value, by the number of the sample.
        containers, present, empty: How many data sets could hold it, hold it, hold it empty.
    """

    path: Path
    vr: str
    values: dict[int, set[str]] = field(default_factory=dict)
    containers: int = 0
    present: int = 0
    empty: int = 0

    @property
    def keyword(self) -> str:
        """Its keyword; empty for a private attribute."""
        return keyword_for_tag(self.path[-1])

    @property
    def presence(self) -> str:
        """Its presence in the terms of PS3.2 annex N."""
        if self.empty == self.present:
            return "EMPTY" if self.present == self.containers else "ANAP, EMPTY"
        if self.present < self.containers:
            return "ANAP"
        return "VNAP" if self.empty else "ALWAYS"

    @property
    def is_fixed(self) -> bool:
        """Whether samples that have nothing in common have the same values."""
        values = [values for values in self.values.values() if values]
        most = max(values, key=len, default=set())
        return values.count(most) > 1 and all(some <= most for some in values)


def observe(objects: Sequence[Sequence[Dataset]]) -> list[Observed]:
    """Return every attribute of the objects of each sample, in the order of the tags.

    The content tree of a report is left out.
    """
    attributes: dict[Path, Observed] = {}
    containers: Counter[Path] = Counter()
    for number, results in enumerate(objects):
        for result in results:
            for path, element in _walk(result):
                if element is None:
                    containers[path] += 1
                    continue
                seen = attributes.setdefault(path, Observed(path=path, vr=element.VR))
                values = values_of(element)
                seen.present += 1
                seen.empty += not values and not items_of(element)
                seen.values.setdefault(number, set()).update(values)
    for path, seen in attributes.items():
        seen.containers = containers[path[:-1]]
    return [attributes[path] for path in sorted(attributes)]


def _walk(dataset: Dataset, path: Path = ()) -> Iterator[tuple[Path, DataElement | None]]:
    """Yield a data set (without element), then its elements; of a code only the modifiers."""
    yield path, None
    for element in dataset:
        if element.keyword == "ContentSequence" or (is_code(dataset) and element.VR != "SQ"):
            continue
        below = (*path, element.tag)
        yield below, element
        for item in items_of(element):
            yield from _walk(item, below)


def values_by_keyword(images: Sequence[Dataset]) -> Mapping[str, set[str]]:
    """Return every value of the images by keyword; their UIDs under ``UI`` as well."""
    values: dict[str, set[str]] = defaultdict(set)
    for image in images:
        for element in image.iterall():
            for key in (element.keyword, *(("UI",) if element.VR == "UI" else ())):
                values[key] |= values_of(element)
    return values


def items_of(element: DataElement) -> Sequence[Dataset]:
    """Return the items of a sequence; nothing for another element."""
    return element.value or () if element.VR == "SQ" else ()


def is_code(item: Dataset) -> bool:
    """Return whether an item is a coded value."""
    return "CodeMeaning" in item and "CodingSchemeDesignator" in item


def values_of(element: DataElement) -> set[str]:
    """Return the values of an element as text; those of a code sequence are its codes."""
    if element.VR == "SQ":
        return {code_text(item) for item in items_of(element) if is_code(item)}
    if isinstance(element.value, bytes):
        return {sha256(element.value).hexdigest()} if element.value else set()
    several = element.value if element.VM > 1 else [element.value]
    texts = [str(value) for value in several if value is not None and str(value)]
    return {str(float(text)) if element.VR == "DS" else text for text in texts}


def code_text(item: Dataset) -> str:
    """Return a code as PS3.16 prints it."""
    return f'({item.CodeValue}, {item.CodingSchemeDesignator}, "{item.CodeMeaning}")'


def sources_of(seen: Observed, samples: Sequence[SampleResults]) -> str:
    """Return the sources of the values of an attribute, in the terms of the statement."""
    values = {number: values for number, values in seen.values.items() if values}
    if (
        seen.vr == "UI"
        and values
        and all(uids <= samples[number].copied["UI"] for number, uids in values.items())
    ):
        return "COPY"
    if seen.is_fixed:
        return "FIXED"
    kinds = {
        _source(value, seen.keyword, samples[number])
        for number, texts in values.items()
        for value in texts
    }
    return ", ".join(sorted(kinds))


def _source(value: str, keyword: str, sample: SampleResults) -> str:
    if value in sample.configured:
        return "CONFIG"
    if value in sample.from_manifests:
        return "MODEL"
    return "COPY" if value in sample.copied.get(keyword, ()) else "AUTO"
