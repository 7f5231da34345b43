"""The frames of the colour overlay: every slice of the lungs with outlines."""

from __future__ import annotations

import numpy as np

from chestct.analysed import AnalysedSeries
from chestct.volume import Label
from rales.pictures.sheet import Picture
from rales.pictures.tiles import axial_tile
from rales.pictures.upright import upright

_SIDE = 512
_NOTE = "AI-made, research use only, not verified"


def draw_slices(analysed: AnalysedSeries) -> tuple[Picture, list[float]]:
    """Return every slice of the lungs with outlines, from head to feet, and their positions.

    Returns:
        uint8 (frame, row, column, 3), and the distance of each frame from the first in mm.
    """
    shown = upright(analysed.volume, analysed.lesion_map)
    inside = np.flatnonzero((shown.labels > Label.BACKGROUND).any(axis=(1, 2)))
    slices = [int(index) for index in inside[::-1]] or [0]
    frames = [axial_tile(shown, index, _SIDE, note=_NOTE).pixels for index in slices]
    return np.stack(frames), [(slices[0] - index) * shown.spacing[0] for index in slices]
