"""The overlay: slices with the outlines of lungs and lesions on one PNG picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from chestct.findings import Findings
from chestct.orientation import CanonicalView
from chestct.verdict import sentence, sides_involved, verdict, volumes
from chestct.volume import (
    LEFT_LABELS,
    LESION_LABELS,
    RIGHT_LABELS,
    Label,
    LesionMap,
    Volume,
    is_lesion,
    slice_names,
)

Picture = NDArray[np.uint8]

_WINDOW = (-1350.0, 150.0)
"""Lung window: centre -600, width 1500 HU."""
TILE = 320
_COLUMNS, _ROWS = 5, 2
_BAR = 64
COLOURS: dict[str, tuple[int, int, int]] = {
    "left": (80, 170, 255),
    "right": (70, 220, 160),
    "lesion": (255, 80, 60),
}
_FILL = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical:
    """HU and labels; rows run front to back, columns right to left, slices feet to head.

    ``names`` are the names of the slices for captions.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    spacing: tuple[float, float, float]
    names: tuple[str, ...]


def write_montage(path: Path, volume: Volume, lesion_map: LesionMap, findings: Findings) -> None:
    """Write a PNG of axial slices and one coronal plane with outlines of lungs and lesions.

    The patient's right is on the left of the picture (radiological convention) for every
    orientation of the source. The picture names no patient.
    """
    upright = canonical(volume, lesion_map)
    tiles = [
        axial_tile(upright, index) for index in choose_slices(upright.labels, _COLUMNS * _ROWS - 1)
    ]
    tiles.append(_coronal_tile(upright))
    width, height = _COLUMNS * TILE, _ROWS * TILE + _BAR
    sheet = Image.new("RGB", (width, height))
    for position, tile in enumerate(tiles):
        row, column = divmod(position, _COLUMNS)
        sheet.paste(Image.fromarray(tile), (column * TILE, row * TILE + _BAR))
    _write_header(sheet, findings)
    sheet.save(path, format="PNG")


def canonical(volume: Volume, lesion_map: LesionMap) -> Canonical:
    """Return a volume in the orientation of the pictures."""
    view = CanonicalView.of(volume.geometry)
    upright = view.volume(volume)
    return Canonical(
        hu=upright.hu,
        labels=view.turn(lesion_map.labels),
        spacing=upright.geometry.spacing,
        names=slice_names(upright.sources),
    )


def choose_slices(labels: NDArray[np.uint8], wanted: int) -> list[int]:
    """Return slices from head to feet: over the lesions if there are any, else over the lungs."""
    per_slice = is_lesion(labels).sum(axis=(1, 2))
    if not per_slice.any():
        per_slice = (labels > Label.BACKGROUND).sum(axis=(1, 2))
    inside = np.flatnonzero(per_slice)
    if inside.size == 0:
        inside = np.arange(labels.shape[0])
    places = np.linspace(inside.size - 1, 0, wanted + 2)[1:-1]
    return list(dict.fromkeys(int(inside[round(float(place))]) for place in places))


def axial_tile(shown: Canonical, index: int) -> Picture:
    """Draw one slice with its name."""
    plane = draw_plane(shown.hu[index], shown.labels[index], shown.spacing[1:], TILE)
    return caption(plane, shown.names[index])


def _coronal_tile(shown: Canonical) -> Picture:
    """Draw the coronal plane with most lesion, or with most lung if there is no lesion."""
    weight = is_lesion(shown.labels).sum(axis=(0, 2))
    if not weight.any():
        weight = (shown.labels > Label.BACKGROUND).sum(axis=(0, 2))
    row = int(weight.argmax())
    slices, _, columns = shown.spacing
    upright = slice(None, None, -1)
    plane = draw_plane(shown.hu[upright, row], shown.labels[upright, row], (slices, columns), TILE)
    return caption(plane, "coronal")


def draw_plane(
    hu: NDArray[np.int16], labels: NDArray[np.uint8], spacing: tuple[float, float], side: int
) -> Picture:
    """Draw one plane, scaled to fit a square of ``side`` pixels with square millimetres."""
    height, width = hu.shape[0] * spacing[0], hu.shape[1] * spacing[1]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    low, high = _WINDOW
    grey = np.clip((hu.astype(np.float32) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    plane = cv2.cvtColor(
        cv2.resize(grey, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB
    ).astype(np.float32)
    for name, members in (
        ("left", LEFT_LABELS),
        ("right", RIGHT_LABELS),
        ("lesion", LESION_LABELS),
    ):
        mask = np.isin(labels, members).astype(np.float32)
        shown = (cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR) >= 0.5).astype(np.uint8)  # noqa: PLR2004
        colour = COLOURS[name]
        if name == "lesion":
            plane[shown > 0] = (1 - _FILL) * plane[shown > 0] + _FILL * np.array(colour)
        contours, _ = cv2.findContours(shown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(plane, contours, -1, colour, 1)
    tile = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = plane.astype(np.uint8)
    return tile


def caption(tile: Picture, text: str) -> Picture:
    """Write ``text`` and the patient's right and left into a square picture."""
    side = tile.shape[0]
    picture = Image.fromarray(tile)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13)
    for place, words, colour in (
        ((6, 4), text, (230, 230, 230)),
        ((6, side // 2 - 8), "R", (255, 220, 120)),
        ((side - 16, side // 2 - 8), "L", (255, 220, 120)),
    ):
        draw.text(place, words, fill=colour, font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture)


def _write_header(sheet: Image.Image, findings: Findings) -> None:
    draw = ImageDraw.Draw(sheet)
    covered = findings.covered
    if findings.lesions:
        text = (
            f"Opacities in {covered.involved_percent:.1f} % of {findings.covers.words} "
            f"({sides_involved(findings, ' %')}), "
            f"{covered.lesion_ml:.0f} ml, high opacity {covered.high_opacity_percent:.0f} % of it"
        )
        text += f", {findings.severity}" if findings.severity else ""
    else:
        text = sentence(verdict(findings))
    draw.text(
        (10, 6),
        f"{text}.  {volumes(findings)}.",
        fill=(255, 255, 255),
        font=ImageFont.load_default(18),
    )
    note = "Rales: AI-made, research use only, not verified by a radiologist."
    draw.text((10, 36), note, fill=(255, 200, 90), font=ImageFont.load_default(15))
    position = sheet.width - 330
    for name, colour in COLOURS.items():
        draw.rectangle((position, 40, position + 14, 54), fill=colour)
        label = name if name == "lesion" else f"{name} lung"
        draw.text((position + 20, 37), label, fill=(230, 230, 230), font=ImageFont.load_default(15))
        position += 110
