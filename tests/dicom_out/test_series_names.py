"""Results of two reconstructions of a study can be told apart in a list of series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from chest_cases import make_case
from pydicom.dataset import Dataset

from chestct.results import Extra
from chestct.uids import derive_uid
from dicom_out.objects.extras import compose_extras
from dicom_out.objects.series_names import ResultKind, series_description, series_number
from rales.pictures.page import drawings_of


def header(number: str | None = "4", description: str = "THORAX 5.0 B70") -> Dataset:
    dataset = Dataset()
    if number is not None:
        dataset.SeriesNumber = number
    dataset.SeriesDescription = description
    return dataset


def test_a_description_names_the_source_and_the_revision() -> None:
    first = series_description("Opacities found: 5.1 %", header(), 1)
    assert first == "Opacities found: 5.1 %; S4 THORAX 5.0 B70 (Rales AI, research)"
    second = series_description("Lungs and opacities", header(), 2)
    assert second == "Lungs and opacities; S4 THORAX 5.0 B70, rev 2 (Rales AI)"


@pytest.mark.parametrize(
    "words", ["Key images", "None marked: ground-glass, consolidation", "x" * 64]
)
@pytest.mark.parametrize("number", [None, "4", "21474835"])
@pytest.mark.parametrize("revision", [1, 12])
def test_a_description_is_a_long_string(words: str, number: str | None, revision: int) -> None:
    text = series_description(words, header(number, "a description of the series, " * 2), revision)
    assert len(text) <= 64
    assert "Rales AI" in text
    assert number is None or f"; S{number}" in text
    assert revision == 1 or ", rev 12 " in text
    assert len(words) > 40 or text.startswith(words) or number == "21474835"


def test_other_alphabets_leave_the_number() -> None:
    source = header("4", "")
    source.SpecificCharacterSet = "ISO_IR 192"
    source.SeriesDescription = "\u80f8\u90e8 L\u00f6we"
    assert "S4" in series_description("Key images", source, 1)
    assert series_description("Key images", source, 1).isascii()


@pytest.mark.parametrize("number", [None, "0", "-1", "10000000", "2147483647"])
def test_a_number_that_cannot_be_extended_is_replaced_by_one_from_the_uid(
    number: str | None,
) -> None:
    sources = [header(number) for _ in range(4)]
    for each, source in enumerate(sources):
        source.SeriesInstanceUID = derive_uid(str(each))
    numbers = {series_number(source, ResultKind.REPORT) for source in sources}
    assert len(numbers) == len(sources)
    largest_of_others = series_number(header("9999999"), ResultKind.KEY_IMAGES)
    assert all(largest_of_others < found < 2**31 for found in numbers)
    assert {found % 100 for found in numbers} == {ResultKind.REPORT}


@pytest.mark.parametrize("text", ["Thorax nativ Lungenfenster axial", "Thoraxnativ" * 5])
def test_a_description_ends_at_the_end_of_a_word(text: str) -> None:
    source = header("4")
    source.SeriesDescription = text
    for length in range(1, 40):
        described = series_description("x" * length, source, 1)
        assert len(described) <= 64
        kept = described.split("; S4")[1].split(" (Rales")[0].split()
        assert kept == text.split()[: len(kept)] or len(text.split()) == 1


def test_numbers_differ_by_source_and_kind() -> None:
    numbers = [series_number(header(n), kind) for n in ("4", "5", "9999999") for kind in ResultKind]
    assert numbers == sorted(set(numbers))
    assert max(numbers) < 2**31


@pytest.mark.slow
def test_every_result_names_its_source(tmp_path: Path) -> None:
    def change(number: int) -> Callable[[Dataset], None]:
        def edit(dataset: Dataset) -> None:
            dataset.SeriesNumber = number
            dataset.SeriesDescription = f"THORAX B{number}0"

        return edit

    seen: list[tuple[int, str]] = []
    for number in (4, 5):
        folder = tmp_path / str(number)
        case = make_case(folder, change=change(number))
        analysed = case.analysed(revision=2)
        results = case.compose(folder / "out", revision=2).objects
        extras = compose_extras(
            tuple(Extra),
            drawings_of(analysed, case.sources()),
            analysed,
            case.sources(),
            folder / "out",
        )
        for item in (*results, *extras.objects):
            dataset = pydicom.dcmread(item.path)
            assert f"; S{number} THORAX" in dataset.SeriesDescription
            assert ", rev 2" in dataset.SeriesDescription
            assert len(dataset.SeriesDescription) <= 64
            seen.append((int(dataset.SeriesNumber), dataset.SeriesDescription))
    assert len(set(seen)) == len({number for number, _ in seen}) == len(seen)
