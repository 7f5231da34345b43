"""Pictures of slices with outlines: where the networks fail, and what they do without truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from training.metrics import Mask

TRUTH = (86, 180, 233)
FOUND = (230, 159, 0)
LUNGS = (0, 158, 115)
"""Of Okabe and Ito's palette, which colour-blind people tell apart."""
LARGEST_BYTES = 300_000

_WINDOW = (-1350.0, 150.0)
"""Lung window: centre -600, width 1500 HU."""
_TILE = 280
_CAPTION = 34
_HEADER = 26
_COLUMNS = 5
"""At most; rows are filled evenly."""
_MARGIN = 0.06
_APART = 5
_GREYS = 125


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One slice in canonical orientation: rows to the back, columns to the patient's left.

    Attributes:
        image: uint8 (row, column).
        found: What was marked as lesion.
        truth: The true lesion; None where nobody knows it.
        lungs: Their outline is drawn too, where given.
        caption: Two short lines.
        group: Of one patient or scan; the gallery shows only some of each.
        place: Number of the slice: neighbours of one group look alike.
        badness: The worse, the higher.
    """

    image: NDArray[np.uint8]
    found: Mask
    truth: Mask | None
    lungs: Mask | None
    caption: tuple[str, str]
    group: str
    place: int
    badness: float


def grey(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return HU in the lung window."""
    low, high = _WINDOW
    return np.clip((hu.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)


def box_of(*masks: Mask) -> tuple[slice, slice]:
    """Return a square box around all masks (row, column), at least half of the plane."""
    union = np.logical_or.reduce(masks)
    if not union.any():
        return slice(None), slice(None)
    (found,) = ndimage.find_objects(union.astype(np.uint8))
    side = max(one.stop - one.start for one in found)
    side = max(round(side * (1 + 2 * _MARGIN)), min(union.shape) // 2)
    side = min(side, *union.shape)
    starts = [
        int(np.clip((one.start + one.stop - side) // 2, 0, size - side))
        for one, size in zip(found, union.shape, strict=True)
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def squared(stack: NDArray[Any], fill: int) -> NDArray[Any]:
    """Return planes (slab, row, column) with as many rows as columns: a tile is square."""
    rows, columns = stack.shape[1:]
    side = max(rows, columns)
    margins = ((0, 0), (0, side - rows), (0, side - columns))
    return np.pad(stack, margins, constant_values=fill)


def worst(tiles: Iterable[Tile], most: int, of_each: int) -> list[Tile]:
    """Return the worst tiles, worst first; of a group at most ``of_each``, and no neighbours."""
    chosen: list[Tile] = []
    for tile in sorted(tiles, key=lambda one: one.badness, reverse=True):
        own = [one for one in chosen if one.group == tile.group]
        if len(own) < of_each and all(abs(one.place - tile.place) >= _APART for one in own):
            chosen.append(tile)
    return chosen[:most]


def write_sheet(path: Path, tiles: Sequence[Tile]) -> None:
    """Write tiles as a PNG sheet with a legend, below :data:`LARGEST_BYTES`.

    Raises:
        ValueError: There are no tiles, or the sheet does not become small enough.
    """
    if not tiles:
        raise ValueError(f"no tiles for {path.name}")
    rows = -(-len(tiles) // _COLUMNS)
    columns = -(-len(tiles) // rows)
    height = _TILE + _CAPTION
    sheet = Image.new("RGB", (columns * _TILE, _HEADER + rows * height))
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        sheet.paste(_draw(tile), (column * _TILE, _HEADER + row * height))
    _legend(sheet, tiles)
    path.write_bytes(_small_png(sheet, path.name))


def _draw(tile: Tile) -> Image.Image:
    size = (_TILE, _TILE)
    plane = cv2.resize(tile.image, size, interpolation=cv2.INTER_AREA)
    picture = np.asarray(cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    for mask, colour in ((tile.lungs, LUNGS), (tile.truth, TRUTH), (tile.found, FOUND)):
        if mask is not None:
            outline(picture, mask, colour)
    drawn = Image.new("RGB", (_TILE, _TILE + _CAPTION))
    drawn.paste(Image.fromarray(picture), (0, _CAPTION))
    draw = ImageDraw.Draw(drawn)
    for line, text in enumerate(tile.caption):
        draw.text((4, 2 + 15 * line), text, fill=(235, 235, 235), font=ImageFont.load_default(12))
    return drawn


def outline(picture: NDArray[np.uint8], mask: Mask, colour: tuple[int, int, int]) -> None:
    """Draw the outline of a mask into an RGB picture, smoothed to the size of the picture."""
    size = (picture.shape[1], picture.shape[0])
    large = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    contours, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, 1)


def _legend(sheet: Image.Image, tiles: Sequence[Tile]) -> None:
    draw, left = ImageDraw.Draw(sheet), 6
    entries = [("marked as lesion", FOUND)]
    if any(tile.truth is not None for tile in tiles):
        entries.append(("true lesion", TRUTH))
    if any(tile.lungs is not None for tile in tiles):
        entries.append(("lungs as found", LUNGS))
    font = ImageFont.load_default(13)
    for text, colour in entries:
        draw.line((left, 13, left + 18, 13), fill=colour, width=3)
        draw.text((left + 23, 4), text, fill=(235, 235, 235), font=font)
        left += 40 + round(draw.textlength(text, font=font))


def _small_png(sheet: Image.Image, name: str) -> bytes:
    """Encode with as many greys as fit, and the colours as they are: CT's noise is large."""
    greys = _GREYS
    while greys >= 8:
        buffer = BytesIO()
        palette = Image.new("P", (1, 1))
        steps = np.linspace(0, 255, greys).round().astype(int).tolist()
        palette.putpalette([*(step for step in steps for _ in "rgb"), *TRUTH, *FOUND, *LUNGS])
        sheet.quantize(palette=palette, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < LARGEST_BYTES:
            return buffer.getvalue()
        greys //= 2
    raise ValueError(f"{name} does not fit into {LARGEST_BYTES} bytes")
