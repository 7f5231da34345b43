"""The conformance statement names what the node accepts, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from scp.contexts import (
    STORAGE_COMMITMENT,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    supported_contexts,
)

STATEMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
SYNTAX_ROOT = "1.2.840.10008.1.2"


def rows() -> list[list[str]]:
    """Return the cells of every table row."""
    lines = STATEMENT.read_text().splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]


def syntaxes_of(cell: str) -> list[str]:
    """Return the UIDs in a cell; ``.4.70`` stands for one under the root of the syntaxes."""
    found = re.findall(r"1\.2\.840\.10008\.1\.2[.\d]*|(?<!\S)\.4\.\d+", cell)
    return [SYNTAX_ROOT + uid if uid.startswith(".") else uid for uid in found]


def test_the_classes_that_are_received_are_those_of_the_node() -> None:
    received = [
        uid
        for row in rows()
        if len(row) == 4 and row[3] == "yes"
        for uid in re.findall(r"1\.2\.840[.\d]+", row[1])
        if uid != STORAGE_COMMITMENT
    ]
    assert received == [VERIFICATION, *STORAGE_SOP_CLASSES]
    assert sorted(received) == sorted(str(one.abstract_syntax) for one in supported_contexts())


def test_the_transfer_syntaxes_of_ct_are_those_of_the_node_in_its_order() -> None:
    table = [row for row in rows() if len(row) == 2]
    start = next(number for number, row in enumerate(table) if row[0] == "the three CT classes")
    named = syntaxes_of(table[start][1])
    for first, cell in table[start + 1 :]:
        if first:
            break
        named += syntaxes_of(cell)
    assert named == list(TRANSFER_SYNTAXES)
