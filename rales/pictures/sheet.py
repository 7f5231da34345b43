"""A picture with text: draws both, and keeps the text with its places for a text layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rales.pictures.lettering import drawable, fit, font, wrap

Picture = NDArray[np.uint8]
"""Colours (row, column, 3), red, green and blue, 0 to 255."""
Colour = tuple[int, int, int]

INK: Colour = (238, 238, 238)
PALE: Colour = (165, 170, 180)
WARNING: Colour = (255, 190, 70)
BLACK: Colour = (0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A line of text on a sheet.

    Attributes:
        text: The text as drawn.
        left, top: The upper left corner of the line in pixels.
        size: Size of the font in pixels.
        bold: Whether the bold font drew it.
    """

    text: str
    left: float
    top: float
    size: int
    bold: bool

    @property
    def baseline(self) -> float:
        """Row of the baseline."""
        return self.top + font(self.size, bold=self.bold).getmetrics()[0]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The drawn letters: left, top, right and bottom."""
        left, top, right, bottom = font(self.size, bold=self.bold).getbbox(self.text)
        return self.left + left, self.top + top, self.left + right, self.top + bottom


class Sheet:
    """A picture in colour and the text on it."""

    def __init__(self, width: int, height: int, paper: Colour = BLACK) -> None:
        self.image = Image.new("RGB", (width, height), paper)
        self.written: list[Written] = []
        self._draw = ImageDraw.Draw(self.image)

    @property
    def pixels(self) -> Picture:
        """The picture."""
        return np.asarray(self.image)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: Colour = INK,
        *,
        bold: bool = False,
        width: float | None = None,
        right: bool = False,
        halo: bool = False,
    ) -> None:
        """Write one line.

        Args:
            at: The upper left corner of the line, or its upper right corner.
            text: Any text.
            size: Size of the font in pixels.
            colour: Colour of the letters.
            bold: Whether the font is bold.
            width: Greatest width in pixels; longer text is cut. None: the text is not cut.
            right: Whether ``at`` is the upper right corner.
            halo: Whether a black edge sets the letters off from a picture.
        """
        shown = drawable(text)
        if width is not None:
            shown = fit(shown, size, width, bold=bold)
        letters = font(size, bold=bold)
        left = at[0] - letters.getlength(shown) if right else at[0]
        self._draw.text(
            (left, at[1]),
            shown,
            fill=colour,
            font=letters,
            stroke_width=2 if halo else 0,
            stroke_fill=BLACK,
        )
        self.written.append(Written(text=shown, left=left, top=at[1], size=size, bold=bold))

    def paragraph(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: Colour = INK,
        *,
        width: float,
        bold: bool = False,
        most: int = 3,
    ) -> float:
        """Write text in at most ``most`` lines of at most ``width`` pixels; longer text is cut.

        Returns:
            The top of the next line.
        """
        lines = wrap(drawable(text), size, width, bold=bold)
        if len(lines) > most:
            lines[most - 1 :] = [" ".join(lines[most - 1 :])]
        down = at[1]
        for line in lines:
            self.text((at[0], down), line, size, colour, bold=bold, width=width)
            down += line_height(size)
        return down

    def fill(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        """Fill a box (left, top, right, bottom), its edges included."""
        self._draw.rectangle(box, fill=colour)

    def line(self, points: list[tuple[float, float]], colour: Colour, width: int = 1) -> None:
        """Draw a line through points (column, row)."""
        self._draw.line(points, fill=colour, width=width)

    def dot(self, at: tuple[float, float], radius: float, colour: Colour) -> None:
        """Draw a dot."""
        column, row = at
        self._draw.ellipse(
            (column - radius, row - radius, column + radius, row + radius), fill=colour
        )

    def picture(self, picture: Picture, at: tuple[int, int] = (0, 0)) -> None:
        """Place a picture; ``at`` is its upper left corner."""
        self.image.paste(Image.fromarray(picture), at)

    def paste(self, other: Sheet, at: tuple[int, int]) -> None:
        """Place another sheet with its text."""
        self.image.paste(other.image, at)
        self.written += [
            replace(line, left=line.left + at[0], top=line.top + at[1]) for line in other.written
        ]


def line_height(size: int) -> int:
    """Return the distance between two lines in pixels."""
    return round(size * 1.3)
