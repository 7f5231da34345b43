"""The overlay: slices with the outlines of lungs and opacities on one PNG picture."""

from __future__ import annotations

from pathlib import Path

from chestct.analysed import AnalysedSeries
from chestct.findings import Findings
from chestct.verdict import scope, sentence, sides_involved, verdict, volumes
from rales.pictures.lettering import wrap
from rales.pictures.sheet import INK, WARNING, Sheet, line_height
from rales.pictures.tiles import COLOURS, axial_tile, coronal_tile
from rales.pictures.upright import choose_slices, upright

_TILE = 320
_COLUMNS, _ROWS = 5, 2
_EDGE = 10
_COMPRESSION = 3
"""Less than half the time of the default level 6, and no larger here."""
_NOTE = "Rales: AI-made, research use only, not verified by a radiologist."


def write_montage(path: Path, analysed: AnalysedSeries) -> None:
    """Write a PNG of axial slices and one coronal plane with outlines of lungs and opacities.

    The patient's right is on the left of the picture (radiological convention) for every
    orientation of the source. The picture names no patient.
    """
    shown = upright(analysed.volume, analysed.lesion_map)
    slices = choose_slices(shown.labels, _COLUMNS * _ROWS - 1)
    tiles = [axial_tile(shown, index, _TILE) for index in slices]
    tiles.append(coronal_tile(shown, _TILE))
    header = _header(analysed.findings)
    top = header.image.height
    sheet = Sheet(_COLUMNS * _TILE, top + _ROWS * _TILE)
    sheet.paste(header, (0, 0))
    for place, tile in enumerate(tiles):
        row, column = divmod(place, _COLUMNS)
        sheet.paste(tile, (column * _TILE, top + row * _TILE))
    sheet.image.save(path, format="PNG", compress_level=_COMPRESSION)


def _header(findings: Findings) -> Sheet:
    """Return verdict, scope, numbers, notes and legend above the slices."""
    width = _COLUMNS * _TILE
    numbers = f"{volumes(findings)}."
    if findings.lesions:
        numbers += f"  Opacity: {sides_involved(findings, ' %')}."
    text = " ".join(f"{sentence(flag)}." for flag in findings.quality_flags)
    flags = wrap(text, 16, width - 2 * _EDGE)
    sheet = Sheet(width, 116 + len(flags) * line_height(16))
    sheet.text((_EDGE, 4), sentence(verdict(findings)), 24, bold=True, width=width - 2 * _EDGE)
    sheet.text((_EDGE, 36), scope(findings), 17, width=width - 2 * _EDGE)
    sheet.text((_EDGE, 60), numbers, 17, width=width - 2 * _EDGE)
    sheet.text((_EDGE, 84), _NOTE, 16, WARNING)
    position = width - 360
    for name, colour in COLOURS.items():
        sheet.fill((position, 87, position + 14, 101), colour)
        sheet.text((position + 20, 84), name, 16, INK)
        position += 120
    for number, line in enumerate(flags):
        sheet.text((_EDGE, 108 + number * line_height(16)), line, 16, WARNING)
    return sheet
