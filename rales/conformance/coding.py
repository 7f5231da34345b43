"""The annex on coded terminology: which codes the writers use, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_out.objects import codes
from rales.conformance.markdown import table
from rales.conformance.samples import Sample


def standard_codes(samples: Sequence[Sample]) -> str:
    """Return the codes of standard schemes that results have, by scheme and value."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for sample in samples:
        for result in sample.results:
            for code in _codes(result):
                found.setdefault(code, set()).add(str(result.Modality))
    rows = [
        (scheme, value, meaning, ", ".join(sorted(where)))
        for (scheme, value, meaning), where in sorted(found.items())
        if scheme != codes.PRIVATE_SCHEME
    ]
    return table(("Scheme", "Code", "Meaning", "In"), rows)


def private_codes() -> str:
    """Return the codes of our own scheme, whether a sample has them or not."""
    own = [
        one
        for one in vars(codes).values()
        if isinstance(one, Code) and one.scheme_designator == codes.PRIVATE_SCHEME
    ]
    return table(("Code", "Meaning"), [(f"`{one.value}`", one.meaning) for one in own])


def _codes(dataset: Dataset) -> Iterator[tuple[str, str, str]]:
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value:
            if "CodeMeaning" in item and "CodeValue" in item:
                yield str(item.CodingSchemeDesignator), str(item.CodeValue), str(item.CodeMeaning)
            yield from _codes(item)
