"""Codes against the tables of the standard in pydicom: context groups and meanings."""

from __future__ import annotations

import inspect
import re

import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.coding import Code

from dicom_out.objects import codes

COMMENTED = re.findall(r"^(\w+) = .*?# CID (\d+)", inspect.getsource(codes), re.MULTILINE)
STANDARD = {
    name: code
    for name, code in vars(codes).items()
    if isinstance(code, Code) and code.scheme_designator in {"DCM", "SCT"}
}


def names_of(code: Code) -> dict[str, str]:
    """Return the meaning of a code under each of its names in pydicom."""
    table = concepts[code.scheme_designator]
    return {name: entry[code.value][0] for name, entry in table.items() if code.value in entry}


@pytest.mark.parametrize(("name", "group"), COMMENTED)
def test_a_comment_names_a_context_group_of_the_code(name: str, group: str) -> None:
    code = getattr(codes, name)
    members = cid_concepts[int(group)].get(code.scheme_designator, [])
    assert set(names_of(code)) & set(members)


@pytest.mark.parametrize("name", STANDARD)
def test_a_meaning_is_that_of_the_standard(name: str) -> None:
    code = STANDARD[name]
    meanings = {re.sub(r" \([a-z ]+\)$", "", text).lower() for text in names_of(code).values()}
    assert not meanings or code.meaning.lower() in meanings


def test_a_procedure_of_the_report_is_in_its_context_group() -> None:
    assert "CTUnspecifiedBodyRegion" in cid_concepts[100]["LN"]
    assert concepts["LN"]["CTUnspecifiedBodyRegion"][codes.CT.value][0] == codes.CT.meaning
