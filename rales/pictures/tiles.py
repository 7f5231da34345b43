"""Square pictures of one plane with outlines: axial slices, zooms, coronal plane, front view."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.findings import Coverage, Diameter, End, Findings, Side
from chestct.geometry import Geometry
from chestct.volume import LEFT_LABELS, RIGHT_LABELS, Label, is_lesion
from rales.pictures.sheet import BLACK, INK, PALE, WARNING, Colour, Picture, Sheet
from rales.pictures.upright import Upright, Zoom

_WINDOW = (-1350.0, 150.0)
"""Lung window: centre -600, width 1500 HU."""
COLOURS: dict[str, Colour] = {
    "left lung": (80, 170, 255),
    "right lung": (70, 220, 160),
    "opacity": (255, 80, 60),
}
_FILL = 0.35
_HALF = 0.5
_SIDES: Colour = (255, 220, 120)
_LUNG, _DEEP = np.array((70.0, 76.0, 86.0)), np.array((255.0, 90.0, 60.0))
_RULER_MM = 20.0
_TEXT = 16


def axial_tile(shown: Upright, index: int, side: int, *, note: str = "") -> Sheet:
    """Draw one slice with its name, and a note after it."""
    plane = draw_plane(shown.hu[index], shown.labels[index], shown.spacing[1:], side)
    return _captioned(plane, f"{shown.names[index]}: {note}" if note else shown.names[index])


def coronal_tile(shown: Upright, side: int) -> Sheet:
    """Draw the coronal plane with most opacity, or with most lung if there is none."""
    weight = sum(np.count_nonzero(is_lesion(plane), axis=1) for plane in shown.labels)
    if not np.any(weight):
        weight = sum(np.count_nonzero(plane, axis=1) for plane in shown.labels)
    row = int(np.argmax(weight))
    slices, _, columns = shown.spacing
    turned = slice(None, None, -1)
    plane = draw_plane(shown.hu[turned, row], shown.labels[turned, row], (slices, columns), side)
    return _captioned(plane, "coronal")


def zoom_tile(shown: Upright, zoom: Zoom, side: int) -> Sheet:
    """Draw the surroundings of a lesion: outlined, not filled, so that its density shows."""
    part = (zoom.index, zoom.rows, zoom.columns)
    spacing = shown.spacing[1:]
    plane = draw_plane(shown.hu[part], shown.labels[part], spacing, side, fill=0.0)
    sheet = Sheet(side, side)
    sheet.picture(plane)
    lesion = zoom.lesion
    name = f"{shown.names[zoom.index]}, {lesion.side} lung"
    sheet.text((8, 5), name, _TEXT, width=side - 16, halo=True)
    size = f"{lesion.number}: {axes_of(lesion.diameter)} mm, {lesion.volume_ml:.1f} ml"
    sheet.text((8, side - 26), size, _TEXT, width=side - 16, halo=True)
    longest = max(
        (part.stop - part.start) * step
        for part, step in zip((zoom.rows, zoom.columns), spacing, strict=True)
    )
    length = _RULER_MM * side / longest
    right, down = side - 12, side - 34
    sheet.line([(right - length, down), (right, down)], BLACK, width=5)
    sheet.line([(right - length, down), (right, down)], INK, width=2)
    sheet.text((right, down - 22), f"{_RULER_MM:.0f} mm", 14, right=True, halo=True)
    return sheet


def axes_of(diameter: Diameter) -> str:
    """Return both axes of a lesion in whole millimetres."""
    return f"{diameter.long_axis_mm:.0f} \N{MULTIPLICATION SIGN} {diameter.short_axis_mm:.0f}"


def draw_plane(
    hu: NDArray[np.int16],
    labels: NDArray[np.uint8],
    spacing: tuple[float, float],
    side: int,
    *,
    fill: float = _FILL,
) -> Picture:
    """Draw one plane, scaled to fit a square of ``side`` pixels with square millimetres.

    ``fill`` is the opacity of the colour on the lesions.
    """
    size = _fitted((hu.shape[0], hu.shape[1]), spacing, side)
    low, high = _WINDOW
    grey = np.clip((hu.astype(np.float32) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    enlarged = size[0] > hu.shape[1]
    resized = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC if enlarged else cv2.INTER_AREA)
    plane = cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB).astype(np.float32)
    lesion = is_lesion(labels)
    for name, mask in (
        ("left lung", np.isin(labels, LEFT_LABELS)),
        ("right lung", np.isin(labels, RIGHT_LABELS)),
        ("opacity", lesion),
    ):
        smooth = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        inside = (smooth >= _HALF).astype(np.uint8)
        if mask is lesion:
            plane[inside > 0] = (1 - fill) * plane[inside > 0] + fill * np.array(COLOURS[name])
        # A mask that goes on beyond the picture has no outline along its edge.
        wider = np.pad(inside, 1, mode="edge")
        contours, _ = cv2.findContours(wider, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(plane, contours, -1, COLOURS[name], 1, offset=(-1, -1))
    return _centred(plane, side)


def _fitted(shape: tuple[int, int], spacing: tuple[float, float], side: int) -> tuple[int, int]:
    """Return the width and height, in pixels, of a plane that fits a square."""
    height, width = shape[0] * spacing[0], shape[1] * spacing[1]
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def axial_grid(geometry: Geometry, side: int) -> Geometry:
    """Return the grid of the pixels of :func:`axial_tile`, on the slices of ``geometry``."""
    slices, rows, columns = geometry.shape
    width, height = _fitted((rows, columns), geometry.pixel_spacing, side)
    down, along = rows / height, columns / width  # voxels per pixel
    top, left = _margin(height, side), _margin(width, side)
    return replace(
        geometry,
        shape=(slices, side, side),
        origin=geometry.position((0.0, (0.5 - top) * down - 0.5, (0.5 - left) * along - 0.5)),
        pixel_spacing=(geometry.pixel_spacing[0] * down, geometry.pixel_spacing[1] * along),
    )


def _margin(length: int, side: int) -> int:
    return (side - length) // 2


def front_view(shown: Upright, findings: Findings, levels: Collection[int], side: int) -> Sheet:
    """Draw the lungs from the front; the deeper the opacity, the brighter it is.

    The view shows what the scan covers: a line for each slice in ``levels``, a mark at an end of
    the scan that cuts the lungs, and a note on the side of a lung that is not assessable.
    """
    lungs: NDArray[np.bool_] = np.any(shown.labels > Label.BACKGROUND, axis=1)[::-1]
    depth = is_lesion(shown.labels).sum(axis=1)[::-1] * shown.spacing[1]
    height, width = lungs.shape[0] * shown.spacing[0], lungs.shape[1] * shown.spacing[2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    lung = cv2.resize(lungs.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    deep = cv2.resize(depth.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    deepest = float(depth.max())
    strength = (0.35 + 0.65 * deep / deepest) * (deep > 0) if deepest else np.zeros_like(deep)
    plane = lung[..., None] * _LUNG * (1 - strength[..., None]) + strength[..., None] * _DEEP
    sheet = _captioned(_centred(plane, side), "front view")
    top = (side - size[1]) // 2
    for index in levels:
        row = top + (len(lungs) - 0.5 - index) * shown.spacing[0] * scale
        sheet.line([(20, row), (28, row)], PALE)
        sheet.line([(side - 28, row), (side - 20, row)], PALE)
    _mark_limits(sheet, findings, (top, top + size[1] - 1), side)
    return sheet


def _mark_limits(sheet: Sheet, findings: Findings, ends: tuple[int, int], side: int) -> None:
    """Mark the ends at which the scan cuts the lungs, and a lung that is not assessable."""
    for end, row in zip((End.HEAD, End.FEET), ends, strict=True):
        if end in findings.cut:
            sheet.line([(0, row), (side, row)], WARNING, width=3)
            words = f"lungs cut at the {end} end"
            below = row + 24 if end is End.HEAD else row - 26
            sheet.text((8, below), words, 15, WARNING, width=side - 16, halo=True)
    if findings.missing is not None:
        missing = Side.RIGHT if findings.covers is Coverage.LEFT else Side.LEFT
        left = 30 if missing is Side.RIGHT else side / 2 + 6
        for line, words in enumerate((f"{missing} lung", "not assessable")):
            at = (left, side / 2 + 14 + 19 * line)
            sheet.text(at, words, 15, WARNING, width=side / 2 - 10, halo=True)


def _captioned(plane: Picture, text: str) -> Sheet:
    """Return a picture with a caption and the patient's right and left."""
    side = plane.shape[0]
    sheet = Sheet(side, side)
    sheet.picture(plane)
    sheet.text((8, 5), text, _TEXT, width=side - 16, halo=True)
    sheet.text((6, side / 2 - 10), "R", _TEXT, _SIDES, halo=True)
    sheet.text((side - 6, side / 2 - 10), "L", _TEXT, _SIDES, right=True, halo=True)
    return sheet


def _centred(plane: NDArray[np.float32], side: int) -> Picture:
    """Return a plane in the middle of a black square."""
    tile = np.zeros((side, side, 3), dtype=np.uint8)
    height, width = plane.shape[:2]
    top, left = _margin(height, side), _margin(width, side)
    tile[top : top + height, left : left + width] = plane.astype(np.uint8)
    return tile
