"""The frames of the colour overlay: every slice of the lungs with outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chestct.analysed import AnalysedSeries
from chestct.verdict import sentence
from chestct.volume import Label
from rales.pictures.lettering import wrap
from rales.pictures.sheet import WARNING, Picture, line_height
from rales.pictures.tiles import axial_tile
from rales.pictures.upright import Upright, upright

_SIDE, _TEXT = 512, 15
_MOST_LINES = 4
_NOTE = "AI-made, research use only, not verified"


def draw_slices(analysed: AnalysedSeries) -> tuple[Picture, list[float]]:
    """Return every slice of the lungs with outlines, from head to feet, and their positions.

    Returns:
        uint8 (frame, row, column, 3), and the distance of each frame from the first in mm.
    """
    shown = upright(analysed.volume, analysed.lesion_map)
    inside = np.flatnonzero((shown.labels > Label.BACKGROUND).any(axis=(1, 2)))
    slices = [int(index) for index in inside[::-1]] or [0]
    flags = analysed.findings.quality_flags
    frames = [_frame(shown, index, flags) for index in slices]
    return np.stack(frames), [(slices[0] - index) * shown.spacing[0] for index in slices]


def _frame(shown: Upright, index: int, flags: Sequence[str]) -> Picture:
    """Draw one slice with the notes on coverage and quality below it."""
    tile = axial_tile(shown, index, _SIDE, note=_NOTE)
    lines = [line for flag in flags for line in wrap(sentence(flag), _TEXT, _SIDE - 16)]
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1 :] = ["… further notes are in the structured report."]
    top = _SIDE - 8 - len(lines) * line_height(_TEXT)
    for number, line in enumerate(lines):
        tile.text((8, top + number * line_height(_TEXT)), line, _TEXT, WARNING, halo=True)
    return tile.pixels
