"""The conformance statement says what the code does, and what its objects hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import unified_diff
from importlib.metadata import version
from pathlib import Path

import pydicom
import pytest
from chest_cases import make_case
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from chestct.results import Profile
from conformance.document import TEMPLATE, Text, statement, values
from conformance.markdown import anchor, table
from conformance.observed import SampleResults, observe, sources_of, values_by_keyword
from conformance.samples import make_samples
from conformance.settings import defaults
from dicom_out.objects import codes
from scp.contexts import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, VERIFICATION

DOCS = Path(__file__).parents[2] / "docs"
STATEMENT = DOCS / "conformance.md"


@pytest.fixture(scope="module")
def written() -> str:
    """What the repository has."""
    return STATEMENT.read_text(encoding="utf-8")


def rows_after(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    lines = text.split(f"{heading}\n", 1)[1].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    cells = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return cells


@pytest.fixture(scope="module")
def samples() -> tuple[SampleResults, ...]:
    return tuple(make_samples())


@pytest.fixture(scope="module")
def filled(samples: tuple[SampleResults, ...]) -> dict[str, str]:
    """What the code fills in."""
    return values(samples)


def test_the_statement_is_made_from_this_code(written: str, filled: dict[str, str]) -> None:
    made = statement(filled)
    changes = list(unified_diff(written.splitlines(), made.splitlines(), "docs", "code", n=0))
    assert not changes, "docs/conformance.md is out of date: run `make conformance`\n" + "\n".join(
        changes[:20]
    )


def test_every_table_has_its_place_and_every_place_its_table(filled: dict[str, str]) -> None:
    named = set(Text(TEMPLATE.read_text(encoding="utf-8")).get_identifiers()) - {"contents"}
    assert named <= set(filled)
    assert set(filled) - set(defaults()) <= named


@pytest.mark.parametrize("key", ["node.ae_titel", "nodes.ae_title"])
def test_a_text_that_names_no_key_is_refused(key: str) -> None:
    with pytest.raises(KeyError, match=key):
        Text(f"${key}").substitute(defaults())


def test_defaults_come_from_the_configuration() -> None:
    text = Text("$completion.quiet_seconds seconds, $node.port.")
    assert text.substitute(defaults()) == "30 seconds, 11112."


def test_no_result_has_a_private_attribute(
    written: str, samples: tuple[SampleResults, ...]
) -> None:
    assert "None: no object has a private attribute." in written
    for sample in samples:
        for result in sample.results:
            assert not [element.tag for element in result.iterall() if element.tag.is_private]


def test_links_lead_somewhere(written: str) -> None:
    headings = {anchor(title) for title in re.findall(r"^#+ (.+)$", written, re.MULTILINE)}
    links = re.findall(r"\]\(([^)]+)\)", written)
    assert len(links) > 20
    assert {one[1:] for one in links if one.startswith("#")} <= headings
    assert not [one for one in links if one[0] != "#" and not (DOCS / one).exists()]


def test_received_classes_and_syntaxes_are_those_of_the_node(written: str) -> None:
    overview = rows_after(written, "### 1.1 Content and transfer")
    assert [row[1] for row in overview if row[3] == "yes"] == [VERIFICATION, *STORAGE_SOP_CLASSES]
    accepted = rows_after(written, "#### 7.2.2 Presentation contexts accepted")
    storage = next(row for row in accepted if STORAGE_SOP_CLASSES[0] in row[0])
    assert [one.rsplit(", ", 1)[1] for one in storage[1].split("<br>")] == list(TRANSFER_SYNTAXES)


def test_statuses_of_responses_are_told_in_ranges(written: str) -> None:
    assert "| 0x0000-0x0001, 0xB000-0xBFFF | delivered |" in written
    assert "| 0x0110, 0x0210, 0x0212-0x0213, 0xA700-0xA7FF, 0xFE00 | tried again |" in written
    assert "| 0xA700 | Out of resources |" in written


def attributes(dataset: Dataset) -> Iterator[str]:
    """Yield the name of every attribute of a result, but those of its content tree."""
    for element in dataset:
        if element.keyword == "ContentSequence":
            continue
        yield dictionary_description(element.tag)
        for item in element.value or () if element.VR == "SQ" else ():
            if "CodeMeaning" not in item:
                yield from attributes(item)


@pytest.mark.parametrize(
    ("enhanced", "more"),
    [(False, set()), (True, {"Referenced Frame Number"})],
    ids=["single-frame", "enhanced"],
)
@pytest.mark.parametrize("kind", [Profile.OHIF, Profile.LABELMAP, Profile.PLAIN])
def test_results_of_other_series_have_no_attribute_that_is_not_listed(
    written: str, tmp_path: Path, kind: Profile, *, enhanced: bool, more: set[str]
) -> None:
    annex = written.split("## Annex A", 2)[-1].split("## Annex B", 1)[0]
    listed = {
        one.replace("&gt;", "") for one in re.findall(r"^\|[^|]+\| ([^|]+) \|", annex, re.MULTILINE)
    }
    case = make_case(tmp_path / "in", enhanced=enhanced)
    for item in case.compose(tmp_path / "out", kind).objects:
        held = set(attributes(pydicom.dcmread(item.path)))
        assert held - listed <= more
        assert "Patient ID" in held & listed


def test_private_codes_are_all_defined() -> None:
    text = (DOCS / "private-codes.md").read_text(encoding="utf-8")
    own = {
        (one.value, one.meaning)
        for one in vars(codes).values()
        if isinstance(one, Code) and one.scheme_designator == codes.PRIVATE_SCHEME
    }
    assert own == set(re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", text, re.MULTILINE))


def test_the_series_of_the_statement_bring_out_every_code(written: str) -> None:
    every = [one for one in vars(codes).values() if isinstance(one, Code)]
    assert len(every) > 50
    assert not [one.value for one in every if f"| {one.meaning} |" not in written]


def sample(number: int, **source: str) -> SampleResults:
    """Return a sample of one source image."""
    header = Dataset()
    for keyword, value in source.items():
        setattr(header, keyword, value)
    return SampleResults(
        results=(),
        copied=values_by_keyword([header]),
        configured=frozenset({f"NODE{number}"}),
        from_manifests=frozenset({f"model {number}"}),
    )


def result(**values: str) -> Dataset:
    """Return a result."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("first", "second", "source"),
    [
        ("Ann", "Ben", "COPY"),
        ("NODE1", "NODE2", "CONFIG"),
        ("model 1", "model 2", "MODEL"),
        ("7", "8", "AUTO"),
        ("same", "same", "FIXED"),
        ("NODE1", "8", "AUTO, CONFIG"),
        ("", "", ""),
    ],
)
def test_who_decides_a_value_is_seen_from_results_that_differ(
    first: str, second: str, source: str
) -> None:
    samples = [sample(1, PatientComments="Ann"), sample(2, PatientComments="Ben")]
    results = [(result(PatientComments=first),), (result(PatientComments=second),)]
    (seen,) = observe(results)
    assert sources_of(seen, samples) == source


@pytest.mark.parametrize(
    ("values", "presence"),
    [
        ((("x",), ("y",)), "ALWAYS"),
        ((("x",), ("",)), "VNAP"),
        ((("x",), ()), "ANAP"),
        ((("",), ("",)), "EMPTY"),
        ((("",), ()), "ANAP, EMPTY"),
    ],
)
def test_presence_is_told_in_the_words_of_the_standard(
    values: tuple[tuple[str, ...], ...], presence: str
) -> None:
    results = [
        (result(SOPInstanceUID="1.2", **dict(zip(["PatientComments"], one, strict=False))),)
        for one in values
    ]
    seen = {one.keyword: one for one in observe(results)}
    assert seen["PatientComments"].presence == presence


def test_a_bar_does_not_break_a_table() -> None:
    assert table(("a",), [("b|c",)]).splitlines()[-1] == "| b\\|c |"


def test_the_integration_statement_names_this_version_and_tests_that_exist() -> None:
    text = (DOCS / "ihe-air.md").read_text(encoding="utf-8")
    assert f"| Version | {version('rales')} |" in text
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text))
    assert len(named) > 12
    for path, name in named:
        assert f"def {name}(" in (DOCS.parent / path).read_text(encoding="utf-8"), name
