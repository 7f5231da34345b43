"""The trend picture: percent of the lungs involved over the studies of a patient."""

from __future__ import annotations

from pathlib import Path

from chestct.evolution import Evolution
from chestct.findings import Coverage
from rales.pictures.lettering import font
from rales.pictures.sheet import WARNING, Sheet

_SIZE = (640, 360)
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 56, 30, 60
_GRID, _LINE = (110, 110, 110), (255, 80, 60)
_NOTE = "Rales: AI-made, research use only, not verified by a radiologist."
_GAP = 6
_TITLES = {
    Coverage.BOTH: "Lungs involved, percent",
    Coverage.LEFT: "Left lung involved, percent (right lung not assessable)",
    Coverage.RIGHT: "Right lung involved, percent (left lung not assessable)",
}
_STEPS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def write_trend(path: Path, evolution: Evolution) -> None:
    """Write the picture as a PNG; it names no patient.

    Raises:
        OSError: The file cannot be written.
    """
    draw_trend(evolution).image.save(path, format="PNG")


def draw_trend(evolution: Evolution, size: tuple[int, int] = _SIZE) -> Sheet:
    """Return the picture of all comparable studies; ``size`` is its width and height."""
    sheet = Sheet(*size)
    top = _scale(max(percent for _, percent in evolution.trend))
    for part in range(5):
        value = top * part / 4
        row = _row(value, top, size)
        sheet.line([(_LEFT, row), (size[0] - _RIGHT, row)], _GRID)
        sheet.text((12, row - 9), f"{value:g} %", 14)
    points = _points(evolution, top, size)
    if len(points) > 1:
        sheet.line([place for place, _ in points], _LINE, width=3)
    for place, _ in points:
        sheet.dot(place, 5, _LINE)
    taken: list[float] = []
    # The date of this study always has a label.
    for (column, _), label in (points[-1], *points[:-1]):
        width = font(13).getlength(label)
        start = min(max(4, column - width / 2), size[0] - width - 4)
        if all(abs(start - other) > width + _GAP for other in taken):
            sheet.text((start, size[1] - _BOTTOM + 8), label, 13)
            taken.append(start)
    sheet.text((12, 8), _TITLES[evolution.covers], 18, width=size[0] - 24)
    sheet.text((12, size[1] - 24), _NOTE, 13, WARNING, width=size[0] - 24)
    return sheet


def _scale(largest: float) -> float:
    """Return a round upper end of the scale, above ``largest``."""
    return next((step for step in _STEPS if step >= largest * 1.05), 100.0)


def _row(value: float, top: float, size: tuple[int, int]) -> float:
    return _TOP + (1 - value / top) * (size[1] - _TOP - _BOTTOM)


def _points(
    evolution: Evolution, top: float, size: tuple[int, int]
) -> list[tuple[tuple[float, float], str]]:
    """Return position and date of each study on the time axis."""
    first, last = evolution.trend[0][0], evolution.trend[-1][0]
    whole = max((last - first).total_seconds(), 1.0)
    width = size[0] - _LEFT - _RIGHT - 40
    return [
        (
            (_LEFT + 20 + (at - first).total_seconds() / whole * width, _row(percent, top, size)),
            f"{at:%Y-%m-%d}",
        )
        for at, percent in evolution.trend
    ]
