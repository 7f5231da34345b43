"""Every path, link and test that a document names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = "bench|chestct|deploy|dicom_out|docs|inference|phantom|rales|scp|scripts|tests|training"
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "deploy/*.md", "inference/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?<![\w/.])((?:{FOLDERS})/[\w./-]*\w/?)(?:::(\w+))?")
BARE_TEST = re.compile(r"(?<![\w/])test_\w+\.py")


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def inline_code(text: str) -> Iterator[str]:
    """Yield the text between single backticks, outside code blocks."""
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    yield from re.findall(r"`([^`\n]+)`", prose)


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
def test_paths_exist(document: Path) -> None:
    missing = []
    for code in inline_code(text_of(document)):
        for path, function in PATH.findall(code):
            place = ROOT / path
            if not place.exists() or (function and f"def {function}(" not in place.read_text()):
                missing.append(f"{path}::{function}" if function else path)
    assert not missing


def test_documents_name_tests_by_their_whole_path() -> None:
    named = {(str(one), name) for one in DOCUMENTS for name in BARE_TEST.findall(text_of(one))}
    assert not named


def test_the_index_lists_every_decision() -> None:
    index = text_of(Path("docs/decisions/README.md"))
    records = {path.name for path in (ROOT / "docs/decisions").glob("0*.md")}
    assert set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index)) == records
