"""The page: the outcome of an analysis on one sheet, for viewers that show pictures only.

The page names no patient. Its figures are the figures of SEG and SR.
"""

from __future__ import annotations

import textwrap
from io import BytesIO
from time import gmtime

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from chestct.analysed import AnalysedSeries
from chestct.findings import Findings, LungMeasurement
from chestct.verdict import sentence, unassessed, verdict
from chestct.volume import Label, is_lesion
from dicom_out.objects.extras import Drawings
from rales.pictures.overlay import (
    COLOURS,
    Canonical,
    axial_tile,
    canonical,
    caption,
    choose_slices,
    draw_plane,
)
from rales.pictures.trend import draw_trend

Picture = NDArray[np.uint8]

_WIDTH, _HEIGHT, _EDGE = 1240, 1754, 40
"""A4 at 150 dots per inch."""
_DPI = 150
_TILE = 280
_FRAME = 512
_ROW, _FOOT_LINE = 30, 24
_NOTE_CHARACTERS = 110
_MOST_LESIONS = 8
_COLUMNS, _ROWS = 4, 2
_PAPER, _INK, _PALE = (16, 18, 22), (235, 235, 235), (150, 155, 165)
_WARNING, _ON_WARNING = (255, 190, 70), (25, 20, 0)
_BANNER = "RESEARCH USE ONLY. Made by AI, not verified by a radiologist. Not for diagnosis."
_LESION_COLUMNS = (0, 90, 230, 400, 640, 800)
_LUNG_COLUMNS = (0, 220, 400, 580, 760, 980)


def draw_page(analysed: AnalysedSeries) -> Picture:
    """Return the page, uint8 (row, column, 3)."""
    return np.asarray(_draw(analysed))


def page_as_pdf(analysed: AnalysedSeries) -> bytes:
    """Return the page as a PDF file without a date, so that the same page gives the same bytes."""
    buffer = BytesIO()
    no_date = gmtime(0)
    _draw(analysed).save(
        buffer,
        format="PDF",
        resolution=_DPI,
        quality=92,
        title="Rales summary: research use only, not verified",
        creationDate=no_date,
        modDate=no_date,
    )
    return buffer.getvalue()


def drawings_of(analysed: AnalysedSeries) -> Drawings:
    """Return the pictures of an analysis; each is drawn when it is needed."""
    return Drawings(
        page=lambda: draw_page(analysed),
        pdf=lambda: page_as_pdf(analysed),
        frames=lambda: draw_slices(analysed),
    )


def draw_slices(analysed: AnalysedSeries) -> tuple[Picture, list[float]]:
    """Return every slice of the lungs with outlines, from head to feet, and their positions.

    Returns:
        uint8 (frame, row, column, 3), and the distance of each frame from the first in mm.
    """
    shown = canonical(analysed.volume, analysed.lesion_map)
    inside = np.flatnonzero((shown.labels > Label.BACKGROUND).any(axis=(1, 2)))
    slices = [int(index) for index in inside[::-1]] or [0]
    frames = [
        caption(
            draw_plane(shown.hu[index], shown.labels[index], shown.spacing[1:], _FRAME),
            f"{shown.names[index]}: AI-made, research use only, not verified",
        )
        for index in slices
    ]
    return np.stack(frames), [(slices[0] - index) * shown.spacing[0] for index in slices]


def _draw(analysed: AnalysedSeries) -> Image.Image:
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    pen = _Pen(ImageDraw.Draw(sheet))
    shown = canonical(analysed.volume, analysed.lesion_map)
    _head(pen, analysed)
    _lungs(pen, analysed.findings)
    pen.down += 14
    for position, index in enumerate(choose_slices(shown.labels, _COLUMNS * _ROWS)):
        row, column = divmod(position, _COLUMNS)
        tile = Image.fromarray(axial_tile(shown, index)).resize((_TILE, _TILE))
        sheet.paste(tile, (_EDGE + column * (_TILE + 13), pen.down + row * (_TILE + 10)))
    pen.down += _ROWS * (_TILE + 10)
    _legend(pen)
    bottom = pen.down
    sheet.paste(Image.fromarray(coronal_projection(shown, 360)), (_EDGE, bottom))
    if analysed.evolution is not None and analysed.evolution.is_comparable:
        sheet.paste(draw_trend(analysed.evolution), (_WIDTH - _EDGE - 640, bottom))
    pen.down = bottom + 370
    foot = _foot(analysed)
    end = _HEIGHT - _EDGE - _FOOT_LINE * len(foot)
    _lesions(pen, analysed, end)
    pen.down = end
    for line in foot:
        pen.text(line, 16, _PALE)
        pen.down += _FOOT_LINE
    return sheet


class _Pen:
    """Writes one line below the other; ``down`` is the top of the next line in pixels."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self.draw = draw
        self.down = 0

    def text(
        self, text: str, size: int, colour: tuple[int, int, int] = _INK, *, across: int = _EDGE
    ) -> None:
        self.draw.text((across, self.down), text, fill=colour, font=ImageFont.load_default(size))

    def row(
        self, cells: tuple[str, ...], columns: tuple[int, ...], colour: tuple[int, int, int] = _INK
    ) -> None:
        """Write the cells of a row and move to the next line."""
        for cell, column in zip(cells, columns, strict=True):
            self.text(cell, 20, colour, across=_EDGE + column)
        self.down += _ROW


def _head(pen: _Pen, analysed: AnalysedSeries) -> None:
    findings = analysed.findings
    pen.draw.rectangle((0, 0, _WIDTH, 58), fill=_WARNING)
    pen.down = 14
    pen.text(_BANNER, 26, _ON_WARNING)
    pen.down = 76
    pen.text("Rales: lungs and opacities on chest CT", 22, _PALE)
    pen.down += 36
    pen.text(_headline(findings), 38)
    pen.down += 58
    presence = findings.presence
    pen.text(
        f"Presence score {presence.score:.3f}, positive from {presence.operating_point:.3f}."
        f"  Lesions: {len(findings.lesions)}.  Slices: {len(analysed.volume.sources)}.",
        18,
        _PALE,
    )
    pen.down += 26
    for line in _notes(analysed):
        pen.text(line, 18, _WARNING)
        pen.down += 24
    pen.down += 12


def _headline(findings: Findings) -> str:
    """Return the outcome in few words."""
    if findings.lesions:
        missing = unassessed(findings.covers)
        return (
            f"Opacities in {findings.covered.involved_percent:.1f} % of {findings.covers.words} "
            f"({findings.severity or missing})"
        )
    if findings.missing is None:
        return "No lesion was found by the algorithm"
    return sentence(verdict(findings))


def _notes(analysed: AnalysedSeries) -> list[str]:
    """Return the notes on the quality of the result, in lines that fit the page."""
    notes = list(analysed.findings.quality_flags)
    if analysed.predecessors:
        notes.append("this replaces an earlier summary of the same series")
    return [line for note in notes for line in textwrap.wrap(f"Note: {note}.", _NOTE_CHARACTERS)]


def _lungs(pen: _Pen, findings: Findings) -> None:
    head = ("", "Lung ml", "Lesion ml", "Involved %", "Mean HU of lesion", "High opacity %")
    pen.row(head, _LUNG_COLUMNS, _PALE)
    for name, lung in (
        ("Left lung", findings.left),
        ("Right lung", findings.right),
        ("Both", findings.total),
    ):
        if isinstance(lung, LungMeasurement):
            pen.row((name, *_figures(lung)), _LUNG_COLUMNS)
        else:
            reason = "not assessable" if lung else "not stated"
            pen.row((name, reason, "", "", "", ""), _LUNG_COLUMNS, _WARNING)


def _figures(lung: LungMeasurement) -> tuple[str, ...]:
    return (
        f"{lung.volume_ml:.0f}",
        f"{lung.lesion_ml:.1f}",
        f"{lung.involved_percent:.1f}",
        f"{lung.lesion_mean_hu:.0f}" if lung.lesion_mean_hu is not None else "-",
        f"{lung.high_opacity_percent:.0f}" if lung.lesion_mean_hu is not None else "-",
    )


def _legend(pen: _Pen) -> None:
    across = _EDGE
    for name, colour in COLOURS.items():
        pen.draw.rectangle((across, pen.down + 4, across + 16, pen.down + 20), fill=colour)
        pen.text(name if name == "lesion" else f"{name} lung", 18, _PALE, across=across + 24)
        across += 140
    pen.text("Seen from the feet: the patient's right is on the left.", 18, _PALE, across=across)
    pen.down += 38


def coronal_projection(shown: Canonical, side: int) -> Picture:
    """Return a front view of the lungs; the deeper a lesion is, the brighter it is drawn."""
    lungs: NDArray[np.bool_] = np.any(shown.labels > Label.BACKGROUND, axis=1)[::-1]
    row_mm = shown.spacing[1]
    depth = is_lesion(shown.labels).sum(axis=1)[::-1] * row_mm
    height, width = lungs.shape[0] * shown.spacing[0], lungs.shape[1] * shown.spacing[2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    lung = cv2.resize(lungs.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    deep = cv2.resize(depth.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    deepest = float(depth.max())
    strength = (0.35 + 0.65 * deep / deepest) * (deep > 0) if deepest else np.zeros_like(deep)
    ground = lung[..., None] * np.array((70.0, 76.0, 86.0))
    plane = ground * (1 - strength[..., None]) + strength[..., None] * np.array((255.0, 90.0, 60.0))
    picture = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    picture[top : top + size[1], left : left + size[0]] = plane.astype(np.uint8)
    depth_text = f", deepest {deepest:.0f} mm" if deepest else ""
    return caption(picture, f"lesions seen from the front{depth_text}")


def _lesions(pen: _Pen, analysed: AnalysedSeries, end: int) -> None:
    """Write the largest lesions, as many as fit above ``end``."""
    room = max(0, (end - pen.down - 34 - _ROW) // _ROW)
    listed = analysed.measured[: min(room, _MOST_LESIONS)]
    shown, total = len(listed), len(analysed.findings.lesions)
    if not listed:
        return
    pen.text("Lesions" if shown == total else f"The {shown} largest of {total} lesions", 22)
    pen.down += 34
    head = ("No.", "Side", "Volume ml", "Axes mm (axial)", "Mean HU", "High opacity %")
    pen.row(head, _LESION_COLUMNS, _PALE)
    for lesion in listed:
        axes = f"{lesion.diameter.long_axis_mm:.0f} x {lesion.diameter.short_axis_mm:.0f}"
        cells = (
            str(lesion.number),
            str(lesion.side),
            f"{lesion.volume_ml:.1f}",
            axes,
            f"{lesion.mean_hu:.0f}",
            f"{lesion.high_opacity_percent:.0f}",
        )
        pen.row(cells, _LESION_COLUMNS)


def _foot(analysed: AnalysedSeries) -> list[str]:
    """Return software, models and thresholds, in lines that fit the page."""
    method = analysed.findings.method
    models = "; ".join(
        f"{model.name} {model.version} ({model.digest[:12]})" for model in analysed.models
    )
    text = (
        f"{analysed.software.title}; models {models}. Lung volumes include lesions; high opacity: "
        f"lesion at or above {method.high_opacity_hu:g} HU; mild below {method.mild_percent:g} %, "
        f"moderate below {method.moderate_percent:g} %, else severe. The figures and outlines "
        "are those of the segmentation and the structured report of the same analysis."
    )
    return textwrap.wrap(text, 130)
