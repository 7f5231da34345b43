"""The trend picture: percent of the lungs involved over the studies of a patient."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from chestct.evolution import Evolution
from chestct.findings import Coverage

_SIZE = (640, 360)
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 56, 30, 60
_INK, _PALE, _LINE, _WARNING = (235, 235, 235), (110, 110, 110), (255, 80, 60), (255, 200, 90)
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
    draw_trend(evolution).save(path, format="PNG")


def draw_trend(evolution: Evolution) -> Image.Image:
    """Return the picture of all comparable studies."""
    sheet = Image.new("RGB", _SIZE)
    draw = ImageDraw.Draw(sheet)
    top = _scale(max(percent for _, percent in evolution.trend))
    for part in range(5):
        value = top * part / 4
        row = _row(value, top)
        draw.line((_LEFT, row, _SIZE[0] - _RIGHT, row), fill=_PALE)
        draw.text((12, row - 9), f"{value:g} %", fill=_INK, font=ImageFont.load_default(14))
    points = _points(evolution, top)
    if len(points) > 1:
        draw.line([place for place, _ in points], fill=_LINE, width=3)
    for (column, row), _ in points:
        draw.ellipse((column - 5, row - 5, column + 5, row + 5), fill=_LINE)
    font = ImageFont.load_default(13)
    taken: list[float] = []
    for (column, _), label in (
        points[-1],
        *points[:-1],
    ):  # the date of this study always has a label
        width = draw.textlength(label, font=font)
        start = min(max(4, column - width / 2), _SIZE[0] - width - 4)
        if all(abs(start - other) > width + _GAP for other in taken):
            draw.text((start, _SIZE[1] - _BOTTOM + 8), label, fill=_INK, font=font)
            taken.append(start)
    draw.text((12, 8), _TITLES[evolution.covers], fill=_INK, font=ImageFont.load_default(18))
    note = "Rales: AI-made, research use only, not verified by a radiologist."
    draw.text((12, _SIZE[1] - 24), note, fill=_WARNING, font=ImageFont.load_default(13))
    return sheet


def _scale(largest: float) -> float:
    """Return a round upper end of the scale, above ``largest``."""
    return next((step for step in _STEPS if step >= largest * 1.05), 100.0)


def _row(value: float, top: float) -> float:
    return _TOP + (1 - value / top) * (_SIZE[1] - _TOP - _BOTTOM)


def _points(evolution: Evolution, top: float) -> list[tuple[tuple[float, float], str]]:
    """Return position and date of each study on the time axis."""
    first, last = evolution.trend[0][0], evolution.trend[-1][0]
    whole = max((last - first).total_seconds(), 1.0)
    width = _SIZE[0] - _LEFT - _RIGHT - 40
    return [
        (
            (_LEFT + 20 + (at - first).total_seconds() / whole * width, _row(percent, top)),
            f"{at:%Y-%m-%d}",
        )
        for at, percent in evolution.trend
    ]
