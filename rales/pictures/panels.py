"""The parts of the page that show numbers: lungs with bars, lesions, notes."""

from __future__ import annotations

from collections.abc import Sequence

from chestct.analysed import AnalysedSeries
from chestct.findings import Findings, Lung, LungMeasurement, Side
from chestct.verdict import percent, sentence
from rales.pictures.lettering import wrap
from rales.pictures.sheet import INK, PALE, WARNING, Sheet, line_height
from rales.pictures.tiles import COLOURS, axes_of

CARD_HEIGHT = 248
_STEPS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_CARD, _TRACK, _NOTE = (30, 33, 40), (58, 63, 74), (52, 42, 20)
_EDGE, _BAR, _ROW = 16, 14, 27
_NAME, _VALUE = 120, 112
"""Widths of the name and the value of a bar."""
_LESION_ROW, _TABLE_TITLE = 27, 34
_MOST_LESIONS = 8
_LESION_COLUMNS = (0, 55, 150, 260, 400, 500)
_LESION_HEAD = ("No.", "Side", "Volume, ml", "Axes, mm", "Mean HU", "Consolidation, %")
_MOST_NOTES = 6
"""Lines of notes on a page; the report has every note."""


def notes_panel(sheet: Sheet, at: tuple[int, float], notes: Sequence[str], width: int) -> float:
    """Write the notes in a box that stands out; return the top of what follows."""
    if not notes:
        return at[1]
    left, top = at
    lines = [line for note in notes for line in wrap(f"• {sentence(note)}.", 18, width - 2 * _EDGE)]
    if len(lines) > _MOST_NOTES:
        lines[_MOST_NOTES - 1 :] = ["… further notes are in the structured report."]
    bottom = top + 16 + len(lines) * line_height(18)
    sheet.fill((left, top, left + width, bottom), _NOTE)
    sheet.fill((left, top, left + 5, bottom), WARNING)
    for number, line in enumerate(lines):
        sheet.text((left + _EDGE, top + 8 + number * line_height(18)), line, 18, WARNING)
    return bottom + 12


def lung_cards(sheet: Sheet, at: tuple[int, float], findings: Findings, width: int) -> float:
    """Draw a card with bars for each lung, the right lung on the left; return what follows."""
    left, top = at
    each = (width - _EDGE) // 2
    scale = _scale(findings) if findings.states_opacity else None
    for column, (side, lung) in enumerate(
        ((Side.RIGHT, findings.right), (Side.LEFT, findings.left))
    ):
        _card(sheet, (left + column * (each + _EDGE), top), side, lung, width=each, scale=scale)
    if scale is None:
        return top + CARD_HEIGHT + 14
    text = (
        f"Bars: percent of that part of the lung that is opacity, from 0 to {scale:g} %. Upper, "
        "middle, lower: thirds of the height, not lobes. Peripheral: outer third."
    )
    return sheet.paragraph((left, top + CARD_HEIGHT + 8), text, 16, PALE, width=width) + 6


def _scale(findings: Findings) -> float:
    """Return a round end of the bars, not below the largest percent."""
    percents = [
        involved
        for lung in (findings.left, findings.right)
        if isinstance(lung, LungMeasurement)
        for involved in (lung.involved_percent, *(zone.involved_percent for zone in lung.zones))
    ]
    return next((step for step in _STEPS if step >= max(percents)), 100.0)


def _card(
    sheet: Sheet, at: tuple[int, float], side: Side, lung: Lung, *, width: int, scale: float | None
) -> None:
    left, top = at
    sheet.fill((left, top, left + width, top + CARD_HEIGHT), _CARD)
    sheet.fill((left, top, left + 5, top + CARD_HEIGHT), COLOURS[f"{side} lung"])
    inside, room = left + _EDGE, width - 2 * _EDGE
    sheet.text((inside, top + 8), f"{sentence(side)} lung", 24, bold=True)
    if not isinstance(lung, LungMeasurement):
        sheet.text((inside, top + 50), "Not assessable", 24, WARNING, bold=True)
        reason = f"{sentence(lung.reason)}. It has no percent and no volume of opacity."
        sheet.paragraph((inside, top + 88), reason, 18, WARNING, width=room)
        return
    if scale is None:
        sheet.text((inside, top + 44), f"{lung.volume_ml:.0f} ml", 18, PALE, width=room)
        why = "No percent: nothing is marked, and the result is indeterminate."
        sheet.paragraph((inside, top + 88), why, 18, WARNING, width=room)
        return
    share = f"{percent(lung.involved_percent)} %"
    sheet.text((left + width - _EDGE, top + 6), share, 26, bold=True, right=True)
    sheet.text((inside, top + 44), _volumes(lung), 18, PALE, width=room)
    rows = [("whole lung", lung.involved_percent)]
    rows += [(str(zone.zone), zone.involved_percent) for zone in lung.zones]
    for number, (name, involved) in enumerate(rows):
        down = top + 76 + number * _ROW
        _bar(sheet, (inside, down), name, involved, scale=scale, width=room)


def _volumes(lung: LungMeasurement) -> str:
    words = f"{lung.volume_ml:.0f} ml, opacity {lung.lesion_ml:.1f} ml"
    if lung.lesion_mean_hu is None:
        return words
    return (
        f"{words}, mean {lung.lesion_mean_hu:.0f} HU, "
        f"{lung.high_opacity_percent:.0f} % of it consolidation"
    )


def _bar(
    sheet: Sheet,
    at: tuple[float, float],
    name: str,
    involved: float,
    *,
    scale: float,
    width: float,
) -> None:
    """Draw one bar with its name before it and its value after it."""
    left, down = at
    start, end = left + _NAME, left + width - _VALUE
    sheet.text((left, down), name, 17)
    sheet.fill((start, down + 4, end, down + 4 + _BAR), _TRACK)
    if involved > 0:
        length = max(2.0, involved / scale * (end - start))
        sheet.fill((start, down + 4, start + length, down + 4 + _BAR), COLOURS["opacity"])
    sheet.text((left + width, down), f"{percent(involved)} %", 17, right=True)


def table_height(analysed: AnalysedSeries) -> int:
    """Return the height of the table of all measured lesions in pixels."""
    listed = min(_MOST_LESIONS, len(analysed.measured))
    return _TABLE_TITLE + (1 + listed) * _LESION_ROW if listed else 0


def lesion_table(
    sheet: Sheet, at: tuple[int, float], analysed: AnalysedSeries, room: float
) -> None:
    """Write the largest lesions, as many as ``room`` pixels hold below ``at``."""
    left, down = at
    rows = min(_MOST_LESIONS, max(0, int((room - _TABLE_TITLE) // _LESION_ROW) - 1))
    listed = analysed.measured[:rows]
    shown, total = len(listed), len(analysed.findings.lesions)
    if not listed:
        return
    title = "Lesions" if shown == total else f"The {shown} largest of {total} lesions"
    sheet.text((left, down), f"{title} (connected opacities)", 20, bold=True)
    down += _TABLE_TITLE
    _row(sheet, (left, down), _LESION_HEAD, bright=False)
    for lesion in listed:
        down += _LESION_ROW
        axes = axes_of(lesion.diameter)
        cells = (
            str(lesion.number),
            str(lesion.side),
            f"{lesion.volume_ml:.1f}",
            axes,
            f"{lesion.mean_hu:.0f}",
            f"{lesion.high_opacity_percent:.0f}",
        )
        _row(sheet, (left, down), cells, bright=True)


def _row(sheet: Sheet, at: tuple[int, float], cells: Sequence[str], *, bright: bool) -> None:
    for cell, column in zip(cells, _LESION_COLUMNS, strict=True):
        sheet.text((at[0] + column, at[1]), cell, 17, INK if bright else PALE)
