"""The contact sheet of a series: slices from feet to head, with outlines of lungs and lesions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from chestct.volume import LEFT_LABELS, LESION_LABELS, RIGHT_LABELS, LesionMap, Volume
from rales.pictures.upright import Upright, upright
from training.report.gallery import box_of, outline

WINDOW = (-1100.0, 300.0)
"""HU that are black and white."""
COLOURS = {
    "right lung": (0, 158, 115),
    "left lung": (86, 180, 233),
    "lesion": (230, 159, 0),
}
"""Of Okabe and Ito's palette, which colour-blind people tell apart."""
TILE, HEADER = 320, 40
COLUMNS = 6

_MEMBERS = {
    "right lung": RIGHT_LABELS,
    "left lung": LEFT_LABELS,
    "lesion": LESION_LABELS,
}
_AIR_HU = -300
_TEXT = (235, 235, 235)


def write_sheet(
    path: Path, volume: Volume, lesion_map: LesionMap | None, title: str, *, every: int
) -> None:
    """Write every ``every``-th slice as a PNG, from the feet to the head.

    The patient's right is on the left of each slice, whatever the orientation of the source.
    Slices count from 1 at the feet. All show the same part of the plane: the patient, the table
    and every outline. Without a ``lesion_map`` nothing is outlined.
    """
    blank = np.zeros(volume.geometry.shape, dtype=np.uint8)
    shown = upright(volume, lesion_map or LesionMap(labels=blank, geometry=volume.geometry))
    box = box_of(shown.hu.max(axis=0) > _AIR_HU, shown.labels.max(axis=0) > 0)
    chosen = range(0, len(shown.hu), every)
    rows = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (min(len(chosen), COLUMNS) * TILE, rows * TILE + HEADER))
    for place, index in enumerate(chosen):
        row, column = divmod(place, COLUMNS)
        sheet.paste(_tile(shown, index, box), (column * TILE, row * TILE + HEADER))
    _write_header(sheet, title)
    sheet.save(path, format="PNG")


def _tile(shown: Upright, index: int, box: tuple[slice, slice]) -> Image.Image:
    """Draw one slice with square millimetres, centred in a square tile."""
    hu, labels = shown.hu[index][box], shown.labels[index][box]
    height, width = np.multiply(hu.shape, shown.spacing[1:])
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    plane = cv2.resize(_grey(hu), size, interpolation=cv2.INTER_AREA)
    picture = np.asarray(cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    for name, members in _MEMBERS.items():
        outline(picture, np.isin(labels, members), COLOURS[name])
    tile = Image.new("RGB", (TILE, TILE))
    tile.paste(Image.fromarray(picture), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    ImageDraw.Draw(tile).text(
        (6, 4),
        str(index + 1),
        fill=_TEXT,
        font=ImageFont.load_default(15),
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
    return tile


def _grey(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    low, high = WINDOW
    return np.clip((hu.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)


def _write_header(sheet: Image.Image, title: str) -> None:
    """Write the title and, below it, the legend."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    draw.text((6, 2), title, fill=_TEXT, font=font)
    left = 6.0
    for name, colour in COLOURS.items():
        draw.line((left, 30, left + 18, 30), fill=colour, width=3)
        draw.text((left + 23, 20), name, fill=_TEXT, font=font)
        left += 40 + draw.textlength(name, font=font)
