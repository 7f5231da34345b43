"""The page: the outcome of an analysis on one sheet, for viewers that show pictures only.

Its figures are the figures of SEG and SR.
"""

from __future__ import annotations

from chestct.analysed import AnalysedSeries
from chestct.evolution import Evolution
from chestct.findings import Findings, Outcome
from chestct.verdict import percent, scope, sentence, verdict
from dicom_out.objects.extras import Drawings
from dicom_out.objects.sources import Sources
from rales.pictures.frames import draw_slices
from rales.pictures.heading import Heading, heading_of
from rales.pictures.lettering import wrap
from rales.pictures.panels import lesion_table, lung_cards, notes_panel, table_height
from rales.pictures.pdf import as_pdf
from rales.pictures.sheet import INK, PALE, WARNING, Colour, Sheet, line_height
from rales.pictures.tiles import COLOURS, axial_tile, front_view, zoom_tile
from rales.pictures.trend import draw_trend
from rales.pictures.upright import Upright, choose_slices, upright, zoom_on

_WIDTH, _HEIGHT, _EDGE = 1240, 1754, 40
"""A4 at 150 dots per inch."""
_DPI = 150
_ROOM = _WIDTH - 2 * _EDGE
_BANNER_HEIGHT = 54
_COLUMNS, _LEAST_ROWS, _MOST_ROWS, _GAP = 4, 2, 3, 12
_LEGEND = 42
_TILE = (_ROOM - (_COLUMNS - 1) * _GAP) // _COLUMNS
_FOOT = 15
_TREND = (480, 230)
_PAPER: Colour = (16, 18, 22)
_ON_WARNING: Colour = (25, 20, 0)
_BANNER = "RESEARCH USE ONLY. Made by AI, not verified by a radiologist. Not for diagnosis."
_TITLE = "Rales summary: research use only, not verified"
_OUTCOMES: dict[Outcome, Colour] = {
    Outcome.FOUND: COLOURS["opacity"],
    Outcome.NONE_MARKED: (120, 170, 220),
    Outcome.INDETERMINATE: WARNING,
}


def drawings_of(analysed: AnalysedSeries, sources: Sources) -> Drawings:
    """Return the pictures of an analysis; each is drawn when it is needed."""
    heading = heading_of(sources.original, name_patient=analysed.options.page_names_patient)
    return Drawings(
        page=lambda: draw_page(analysed, heading).pixels,
        pdf=lambda: as_pdf(draw_page(analysed, heading), _TITLE, _DPI),
        frames=lambda: draw_slices(analysed),
    )


def draw_page(analysed: AnalysedSeries, heading: Heading) -> Sheet:
    """Return the page."""
    sheet = Sheet(_WIDTH, _HEIGHT, _PAPER)
    shown = upright(analysed.volume, analysed.lesion_map)
    down = _head(sheet, analysed, heading)
    down = notes_panel(sheet, (_EDGE, down), _notes(analysed), _ROOM)
    down = _totals(sheet, down, analysed)
    down = lung_cards(sheet, (_EDGE, down), analysed.findings, _ROOM)
    foot = wrap(_foot(analysed), _FOOT, _ROOM)
    end = _HEIGHT - _EDGE // 2 - len(foot) * line_height(_FOOT)
    evolution = analysed.evolution
    trend = evolution if evolution is not None and evolution.is_comparable else None
    needed = max(table_height(analysed), _TREND[1] if trend else 0) + _LEGEND
    rows = min(_MOST_ROWS, max(_LEAST_ROWS, int((end - down - needed) // (_TILE + _GAP))))
    down = _tiles(sheet, round(down), analysed, shown, rows)
    down = _legend(sheet, down)
    lesion_table(sheet, (_EDGE, down), analysed, end - down - 8)
    if trend is not None:
        size = _TREND[0], min(_TREND[1], int(end - down - 8))
        sheet.paste(draw_trend(trend, size), (_WIDTH - _EDGE - _TREND[0], round(down)))
    for line in foot:
        sheet.text((_EDGE, end), line, _FOOT, PALE)
        end += line_height(_FOOT)
    return sheet


def _head(sheet: Sheet, analysed: AnalysedSeries, heading: Heading) -> float:
    """Write warning, examination and verdict; return the top of what follows."""
    findings = analysed.findings
    sheet.fill((0, 0, _WIDTH, _BANNER_HEIGHT), WARNING)
    sheet.text((_EDGE, 11), _BANNER, 25, _ON_WARNING, bold=True, width=_ROOM)
    down = _BANNER_HEIGHT + 12.0
    if heading.patient:
        down = sheet.paragraph((_EDGE, down), heading.patient, 22, width=_ROOM, bold=True, most=2)
    examination = f"Chest CT  ·  {heading.examination}"
    down = sheet.paragraph((_EDGE, down), examination, 20, width=_ROOM, most=2) + 10
    top = down
    left, room = _EDGE + 20, _ROOM - 20
    down = sheet.paragraph((left, down), sentence(verdict(findings)), 32, width=room, bold=True)
    down = sheet.paragraph((left, down + 2), scope(findings), 21, width=room)
    sheet.fill((_EDGE, top, _EDGE + 7, down), _OUTCOMES[findings.outcome])
    return down + 12


def _notes(analysed: AnalysedSeries) -> list[str]:
    """Return the notes on coverage and quality of the result."""
    notes = list(analysed.findings.quality_flags)
    if analysed.predecessors:
        notes.append("this replaces an earlier summary of the same series")
    return notes


def _totals(sheet: Sheet, down: float, analysed: AnalysedSeries) -> float:
    """Write the numbers of both lungs and of the presence decision, and their change."""
    findings = analysed.findings
    presence = findings.presence
    words = (
        f"{_both(findings)}  Presence score {presence.score:.3f}, positive from "
        f"{presence.operating_point:.3f}.  {len(analysed.volume.sources)} slices."
    )
    down = sheet.paragraph((_EDGE, down), words, 18, PALE, width=_ROOM)
    return sheet.paragraph((_EDGE, down), _change(analysed.evolution), 18, width=_ROOM) + 8


def _change(evolution: Evolution | None) -> str:
    """Return the change since the prior study in words; empty without a prior study."""
    if evolution is None:
        return ""
    prior = evolution.prior
    when = f"{prior.context.acquired:%Y-%m-%d} ({evolution.interval_days} days before)"
    if not evolution.is_comparable:
        return f"Not compared with the result of {when}: it was {evolution.comparison}."
    return (
        f"Since {when}: opacity {prior.lesion_ml:.1f} to {evolution.lesion_ml:.1f} ml "
        f"({evolution.lesion_ml_change:+.1f} ml), {prior.involved_percent:.1f} to "
        f"{evolution.involved_percent:.1f} % of {evolution.covers.words} "
        f"({evolution.involved_change:+.1f} points)."
    )


def _both(findings: Findings) -> str:
    total = findings.total
    if total is None:
        return "Both lungs together: not stated, one of them is not assessable."
    if not findings.states_opacity:
        return f"Both lungs: {total.volume_ml:.0f} ml. No percent: the result is indeterminate."
    return (
        f"Both lungs: {total.volume_ml:.0f} ml, {percent(total.involved_percent)} % opacity: "
        f"ground-glass {findings.ground_glass.volume_ml:.1f} ml, consolidation "
        f"{findings.consolidation.volume_ml:.1f} ml."
    )


def _tiles(sheet: Sheet, top: int, analysed: AnalysedSeries, shown: Upright, rows: int) -> float:
    """Draw the largest lesions, then slices, then the front view."""
    zooms = [zoom_on(lesion, shown) for lesion in analysed.findings.lesions[:_COLUMNS]]
    chosen = choose_slices(shown.labels, _COLUMNS * rows - 1 - len(zooms))
    tiles = [zoom_tile(shown, zoom, _TILE) for zoom in zooms]
    tiles += [axial_tile(shown, index, _TILE) for index in chosen]
    levels = [*chosen, *(zoom.index for zoom in zooms)]
    tiles.append(front_view(shown, analysed.findings, levels, _TILE))
    for place, tile in enumerate(tiles):
        row, column = divmod(place, _COLUMNS)
        sheet.paste(tile, (_EDGE + column * (_TILE + _GAP), top + row * (_TILE + _GAP)))
    return top + rows * (_TILE + _GAP)


def _legend(sheet: Sheet, down: float) -> float:
    across = _EDGE
    for name, colour in COLOURS.items():
        sheet.fill((across, down + 3, across + 16, down + 17), colour)
        sheet.text((across + 24, down), name, 16, INK)
        across += 130
    words = (
        "Seen from the feet: right is on the left. Lung window. Ticks at the front view: slices "
        "shown."
    )
    sheet.text((across, down), words, 16, PALE, width=_WIDTH - _EDGE - across)
    return down + _LEGEND - 8


def _foot(analysed: AnalysedSeries) -> str:
    """Return software, models and thresholds."""
    method = analysed.findings.method
    models = "; ".join(
        f"{model.name} {model.version} ({model.digest[:12]})" for model in analysed.models
    )
    return (
        f"{analysed.software.title}; models {models}. Opacity: ground-glass or consolidation. "
        f"Consolidation: opacity at or above {method.high_opacity_hu:g} HU, smoothed. Lesion: a "
        "connected part of the opacity. Lung volumes include opacities. Figures and outlines are "
        "those of the segmentation and the structured report."
    )
