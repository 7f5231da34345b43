"""The page: what it says, in the picture and in the text layer of the PDF, and how it fits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from chest_cases import Case, both_lungs, healthy_lungs, make_case
from prior_results import evolution_after, report_reference
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from chestct.findings import End, Findings, NotAssessable, Side
from chestct.method import Presence
from chestct.results import Profile, ReportOptions
from chestct.verdict import scope
from chestct.volume import Label
from inference.reading.quantify import measure
from inference.reading.sides import Missing
from rales.pictures.frames import draw_slices
from rales.pictures.heading import Heading, heading_of
from rales.pictures.lettering import drawable, fit, font, wrap
from rales.pictures.overlay import write_montage
from rales.pictures.page import draw_page
from rales.pictures.pdf import as_pdf
from rales.pictures.sheet import Sheet

HEADING = Heading(examination="study of 2026-01-02 03:04")
NOTES = (
    "earlier reports could not be looked up in the PACS",
    "the lungs reach the feet end of the scan: part may be missing",
    "the left lung is small or missing",
    "left and right lung could not be told apart reliably",
)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "series")


def lines(sheet: Sheet) -> list[str]:
    return [written.text for written in sheet.written]


def words(sheet: Sheet) -> str:
    return " ".join(lines(sheet))


def text_layer(content: bytes) -> str:
    """Return the text of a PDF: each shown string through the map of its font, a line each."""
    objects = dict(re.findall(rb"(\d+) 0 obj\n(.*?)\nendobj", content, re.DOTALL))
    maps = {}
    for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", objects[b"3"]):
        (target,) = re.findall(rb"/ToUnicode (\d+) 0 R", objects[number])
        pairs = re.findall(rb"<(\w{2})> <(\w+)>", objects[target].split(b"endcodespacerange")[1])
        maps[name] = {
            code: bytes.fromhex(char.decode()).decode("utf-16-be") for code, char in pairs
        }
    shown = []
    for line in objects[b"4"].split(b"\n"):
        parts = re.findall(rb"/(F\d+) [\d.]+ Tf <(\w*)> Tj", line)
        text = (
            maps[name][codes[i : i + 2]] for name, codes in parts for i in range(0, len(codes), 2)
        )
        shown.append("".join(text))
    return "\n".join(shown)


def header(**values: str | bytes) -> Dataset:
    """Return a header as it is read from a file: its values are encoded."""
    dataset = Dataset()
    for keyword, value in {"SpecificCharacterSet": "ISO_IR 192", **values}.items():
        encoded = value if isinstance(value, bytes) else value.encode()
        dataset[keyword] = RawDataElement(
            tag=Tag(keyword),
            VR=dictionary_VR(keyword),
            length=len(encoded),
            value=encoded,
            value_tell=0,
            is_implicit_VR=False,
            is_little_endian=True,
        )
    return dataset


NAMED = {
    "StudyDate": "20260102",
    "StudyTime": "030405.5",
    "SeriesNumber": "2 ",
    "SeriesDescription": "Lunge überlagernd 1.0 Br59",
    "AccessionNumber": "ACC-7",
    "PatientName": "Müller^Jörg^Karl=山田^太郎",
    "PatientID": "ZQ-4711",
    "PatientBirthDate": "19610203",
    "PatientSex": "M",
}


def test_the_heading_says_when_and_which_series_and_names_nobody() -> None:
    heading = heading_of(header(**NAMED), name_patient=False)
    for part in ("2026-01-02 03:04", "series 2: Lunge überlagernd 1.0 Br59", "accession ACC-7"):
        assert part in heading.examination
    assert heading.patient == ""
    for part in ("Müller", "ZQ-4711", "1961"):
        assert part not in heading.examination


def test_the_heading_names_the_patient_if_configured() -> None:
    heading = heading_of(header(**NAMED), name_patient=True)
    for part in ("Müller, Jörg Karl", "ID ZQ-4711", "born 1961-02-03", "M"):
        assert part in heading.patient
    assert "山" not in heading.patient, "the font has no Chinese glyphs"


@pytest.mark.parametrize(
    "values",
    [{}, {"StudyDate": "", "StudyTime": "", "SeriesNumber": ""}, {"StudyTime": "ab"}],
)
def test_a_heading_without_values_says_so(values: dict[str, str]) -> None:
    heading = heading_of(header(**values), name_patient=True)
    assert "no study date" in heading.examination
    assert "series without a number" in heading.examination
    assert "no accession number" in heading.examination
    assert heading.patient == "the images name no patient"


def test_bytes_outside_the_character_set_do_not_break_the_heading() -> None:
    dataset = header(**NAMED | {"SeriesDescription": b"\xff\xfe\x1b\x00"})
    assert "series 2: " in heading_of(dataset, name_patient=False).examination


def outcomes(case: Case) -> dict[str, Findings]:
    healthy = case.lesion_map.labels.copy()
    healthy[case.lesion_map.left_lung()] = Label.LEFT_LUNG
    healthy[case.lesion_map.right_lung()] = Label.RIGHT_LUNG
    clear = replace(case.lesion_map, labels=healthy)
    right = replace(case.lesion_map, labels=case.lesion_map.labels * case.lesion_map.right_lung())
    missing = Missing(
        side=Side.LEFT, lung=NotAssessable(aerated_ml=25.0, needed_ml=345.0), other_ml=1000.0
    )
    volume, method = case.volume, case.findings.method
    return {
        "found": case.findings,
        "none": measure(volume, clear, Presence(score=0.1, operating_point=0.5), method),
        "indeterminate": measure(
            volume,
            clear,
            Presence(score=0.9, operating_point=0.5),
            method,
            (NOTES[1],),
            cut=(End.FEET,),
        ),
        "one lung": measure(
            volume, right, case.findings.presence, method, (NOTES[2],), missing=missing
        ),
    }


EXPECTED = {
    "found": ("Opacities found", "Nodules and masses are not assessed."),
    "none": (
        "None marked",
        "No ground-glass opacity or consolidation marked. Nodules and masses are not assessed.",
    ),
    "indeterminate": (
        "Indeterminate: positive score, nothing outlined",
        "not a negative result",
        "lungs cut at the feet end",
        "The lungs reach the feet end of the scan: part may be missing.",
    ),
    "one lung": ("left lung not assessable", "Not assessable", "25 ml of it hold air"),
}


@pytest.mark.parametrize("outcome", EXPECTED)
def test_the_page_and_its_text_layer_state_the_outcome(outcome: str, case: Case) -> None:
    sheet = draw_page(case.analysed(findings=outcomes(case)[outcome]), HEADING)
    shown, layer = words(sheet), text_layer(as_pdf(sheet, "Summary", 150)).replace("\n", " ")
    for expected in (*EXPECTED[outcome], HEADING.examination):
        assert expected in shown
        assert expected in layer
    assert "RESEARCH USE ONLY" in layer
    assert "…" not in shown, "nothing is cut on an ordinary page"


def test_each_lung_has_a_bar_for_itself_and_every_zone(case: Case) -> None:
    shown = lines(draw_page(case.analysed(), HEADING))
    assert shown.index("Right lung") < shown.index("Left lung"), "right is on the left"
    for name in ("whole lung", "upper", "middle", "lower", "peripheral", "central"):
        assert shown.count(name) == 2
    lung = case.findings.right
    for zone in lung.zones:  # type: ignore[union-attr] - both lungs are assessable
        assert any(text.startswith(f"{zone.involved_percent:.1f}") for text in shown)


def test_the_page_says_what_changed_since_the_prior_study(case: Case) -> None:
    evolution = evolution_after(case.findings)
    assert evolution is not None
    shown = words(draw_page(case.analysed(evolution=evolution), HEADING))
    assert "Since 2026-03-01 (14 days before): opacity 100.0 to " in shown
    assert f"({evolution.involved_change:+.1f} points)" in shown
    other = evolution_after(case.findings, models="others")
    shown = words(draw_page(case.analysed(evolution=other), HEADING))
    assert "Not compared with the result of 2026-03-01 (14 days before): it was made by" in shown


def test_the_largest_lesions_are_enlarged_with_image_number_and_side(case: Case) -> None:
    shown = words(draw_page(case.analysed(), HEADING))
    for lesion in case.findings.lesions:
        number = case.volume.sources[lesion.diameter.slice_index].instance_number
        assert f"image {number}, {lesion.side} lung" in shown
        assert f"{lesion.number}: {lesion.diameter.long_axis_mm:.0f}" in shown


def every_page(case: Case, tmp_path: Path) -> Iterator[Sheet]:
    """Yield pages with little and with much text."""
    for findings in outcomes(case).values():
        yield draw_page(case.analysed(findings=findings), HEADING)
    first = case.findings.lesions[0]
    many = tuple(replace(first, number=number + 1) for number in range(1000))
    full = replace(case.findings, lesions=many, quality_flags=NOTES)
    long = Heading(examination="ä" * 70 + " Ж" * 200, patient="W" * 64 + " — " + "Ø" * 300)
    more = {
        "options": ReportOptions(measured_lesions=10),
        "evolution": evolution_after(case.findings),
        "predecessors": {Profile.OHIF: report_reference("earlier")},
    }
    yield draw_page(case.analysed(findings=full, **more), long)
    endless = replace(
        full, quality_flags=("all that may be said of a series, and more, " * 4,) * 40
    )
    yield draw_page(case.analysed(findings=endless, **more), long)


def test_no_text_leaves_the_page_or_runs_into_other_text(case: Case, tmp_path: Path) -> None:
    for sheet in every_page(case, tmp_path):
        boxes = [(written.box, written.text) for written in sheet.written if written.text.strip()]
        for (left, top, right, bottom), text in boxes:
            assert left >= 0, text
            assert top >= 0, text
            assert right <= sheet.image.width - 5, text
            assert bottom <= sheet.image.height - 5, text
        for (one, first), (other, second) in combinations(boxes, 2):
            apart = (
                one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            )
            assert apart, (first, second)


def test_every_note_is_on_the_page(case: Case) -> None:
    findings = replace(case.findings, quality_flags=NOTES)
    revised = {Profile.OHIF: report_reference("earlier")}
    shown = words(draw_page(case.analysed(findings=findings, predecessors=revised), HEADING))
    for note in NOTES:
        assert f"• {note[0].upper()}{note[1:]}." in shown
    assert "This replaces an earlier summary of the same series." in shown


@pytest.mark.parametrize(
    ("lesions", "notes", "title"),
    [
        (3, (), "Lesions"),
        (10, (), "The 8 largest of 10 lesions"),
        (1000, NOTES, " of 1000 lesions"),
    ],
)
def test_the_page_says_how_many_of_the_lesions_it_lists(
    lesions: int, notes: tuple[str, ...], title: str, case: Case
) -> None:
    first = case.findings.lesions[0]
    every = tuple(replace(first, number=number + 1) for number in range(lesions))
    findings = replace(case.findings, lesions=every, quality_flags=notes)
    options = ReportOptions(measured_lesions=10)
    shown = lines(draw_page(case.analysed(findings=findings, options=options), HEADING))
    assert any(f"{title} (connected opacities)" in text for text in shown)


def test_the_same_page_gives_the_same_bytes(case: Case) -> None:
    first, second = (as_pdf(draw_page(case.analysed(), HEADING), "Summary", 150) for _ in range(2))
    assert first == second
    assert b"Date" not in first


def test_the_table_of_a_pdf_points_at_its_objects(case: Case) -> None:
    content = as_pdf(draw_page(case.analysed(), HEADING), "Summary", 150)
    start = int(re.findall(rb"startxref\n(\d+)\n%%EOF\n\Z", content)[0])
    assert content[start:].startswith(b"xref\n")
    places = re.findall(rb"(\d{10}) 00000 n ", content[start:])
    for number, place in enumerate(places, start=1):
        assert content[int(place) :].startswith(f"{number} 0 obj\n".encode())
    for length, stream in re.findall(
        rb"/Length (\d+) >>\nstream\n(.*?)\nendstream\nendobj", content, re.DOTALL
    ):
        assert len(stream) == int(length)


def test_more_letters_than_one_font_holds() -> None:
    text = "".join(chr(code) for code in range(0x21, 0x180) if chr(code).isprintable())
    sheet = Sheet(6000, 40)
    sheet.text((0, 0), text, 12)
    sheet.text((0, 20), "bold", 12, bold=True)
    assert text_layer(as_pdf(sheet, "Letters", 150)).split() == [text, "bold"]


def test_text_is_drawn_with_a_glyph_or_a_question_mark() -> None:
    assert drawable("Thorax überl. Ж ≥ 3 mm") == "Thorax überl. Ж ≥ 3 mm"
    assert drawable("胸部CT") == "??CT"
    assert "\n" not in drawable("two\nlines")


def test_text_fits_a_width() -> None:
    long = "word " * 40 + "W" * 200
    for line in wrap(long, 18, 300):
        assert font(18).getlength(line) <= 300
    assert " ".join(wrap("a short line", 18, 300)) == "a short line"
    cut = fit("W" * 200, 18, 300)
    assert cut.endswith("…")
    assert font(18).getlength(cut) <= 300


def test_every_frame_and_the_overlay_show_the_notes(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    draw = Sheet.text

    def spy(self: Sheet, at: tuple[float, float], text: str, *more: Any, **keys: Any) -> None:
        texts.append(text)
        draw(self, at, text, *more, **keys)

    monkeypatch.setattr(Sheet, "text", spy)
    analysed = case.analysed(findings=replace(case.findings, quality_flags=NOTES[1:3]))
    frames = draw_slices(analysed).pixels
    note = "The left lung is small or missing"
    assert texts.count(note) == len(frames)
    texts.clear()
    write_montage(tmp_path / "overlay.png", analysed)
    assert note in " ".join(texts)
    assert scope(analysed.findings) in texts


def test_labels_without_lesions_make_a_page(tmp_path: Path) -> None:
    case = make_case(tmp_path / "series", labels=healthy_lungs())
    assert "Lesions (connected opacities)" not in words(draw_page(case.analysed(), HEADING))


def test_a_lesion_on_a_turned_series_is_enlarged_where_it_lies(tmp_path: Path) -> None:
    case = make_case(
        tmp_path / "series",
        labels=both_lungs()[:, ::-1, ::-1].copy(),
        cosines=((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
    )
    shown = words(draw_page(case.analysed(), HEADING))
    first = case.findings.lesions[0]
    number = case.volume.sources[first.diameter.slice_index].instance_number
    assert f"image {number}, {first.side} lung" in shown
