"""Every path, function, link and test that a document names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chestct.errors import RejectReason
from chestct.states import DeliveryState, JobState

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "bench|chestct|conformance|deploy|dicom_out|docs|inference|phantom|pynetdicom_guard|rales|scp"
    "|scripts|tests|training|viewer"
)
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "deploy/*.md", "inference/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w/.])((?:{FOLDERS})/[\w./-]*\w/?)(?:::([\w.]+))?")
BARE_TEST = re.compile(r"(?<![\w/])test_\w+\.py")


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def code_in(text: str) -> Iterator[str]:
    """Yield the text between single backticks, outside code blocks, and every diagram."""
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    yield from re.findall(r"`([^`\n]+)`", prose)
    yield from re.findall(r"(?ms)^```mermaid$(.*?)^```", text)


def defines(path: Path, name: str) -> bool:
    """Return whether a module defines a function, or a class and its method: ``Spool.write``."""
    text = path.read_text(encoding="utf-8")
    return all(re.search(rf"(?m)^\s*(def|class) {part}\b", text) for part in name.split("."))


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"(?m)^#+ (.+)$", text_of(document))
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_relative_links_lead_to_files_and_headings(document: Path) -> None:
    broken = []
    for link in LINK.findall(text_of(document)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / document).parent / name).resolve() if name else ROOT / document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_paths_and_functions_exist(document: Path) -> None:
    missing = []
    for code in code_in(text_of(document)):
        for path, name in PATH.findall(code):
            place = ROOT / path
            if not place.exists() or (name and not defines(place, name)):
                missing.append(f"{path}::{name}" if name else path)
    assert not missing


def test_documents_name_tests_by_their_whole_path() -> None:
    named = {(str(one), name) for one in DOCUMENTS for name in BARE_TEST.findall(text_of(one))}
    assert not named


def test_the_index_lists_every_decision() -> None:
    index = text_of(Path("docs/decisions/README.md"))
    records = {path.name for path in (ROOT / "docs/decisions").glob("0*.md")}
    assert set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index)) == records


def test_the_glossary_defines_every_state() -> None:
    defined = re.findall(r"(?m)^\| ([\w ]+) \|", text_of(Path("docs/glossary.md")))
    assert {*JobState, *DeliveryState} <= set(defined)


def test_the_operations_page_explains_every_state_and_reason() -> None:
    text = text_of(Path("docs/operations.md"))
    assert [state for state in JobState if f"\n| {state} |" not in text] == []
    assert [reason for reason in RejectReason if f"`{reason}`" not in text] == []
