"""The frames of the colour overlay: every slice of the lungs with outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chestct.analysed import AnalysedSeries
from chestct.verdict import sentence
from chestct.volume import Label
from dicom_out.objects.captures import OverlayFrames
from rales.pictures.lettering import wrap
from rales.pictures.sheet import WARNING, Picture, line_height
from rales.pictures.tiles import axial_grid, axial_tile
from rales.pictures.upright import Upright, upright

_SIDE, _TEXT = 512, 15
_MOST_LINES = 4
_NOTE = "AI-made, research use only, not verified"


def draw_slices(analysed: AnalysedSeries) -> OverlayFrames:
    """Return every slice of the lungs with outlines, from head to feet."""
    shown = upright(analysed.volume, analysed.lesion_map)
    inside = np.flatnonzero((shown.labels > Label.BACKGROUND).any(axis=(1, 2)))
    slices = [int(index) for index in inside[::-1]] or [0]
    flags = analysed.findings.quality_flags
    frames = [_frame(shown, index, flags) for index in slices]
    return OverlayFrames(
        pixels=np.stack(frames), grid=axial_grid(shown.geometry, _SIDE), slices=tuple(slices)
    )


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
