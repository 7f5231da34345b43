"""The font of the pictures, and text that fits a width."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont

from chestct.text import printable

_FONTS = Path(__file__).parent / "fonts"
_UNASSIGNED = "\uffff"
"""A character without a glyph: it shows what the font draws for a missing glyph."""
_LONGEST = 400
_CUT = "…"


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font: DejaVu Sans Condensed (Latin, Greek, Cyrillic and more, not Chinese)."""
    name = f"DejaVuSansCondensed{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(str(_FONTS / name), size, layout_engine=ImageFont.Layout.BASIC)


def drawable(text: str) -> str:
    """Return text as one line; a question mark stands for each character without a glyph."""
    return "".join(
        character if _has_glyph(character) else "?" for character in printable(text, _LONGEST)
    )


def fit(text: str, size: int, width: float, *, bold: bool = False) -> str:
    """Return text that is at most ``width`` pixels wide; cut text ends with an ellipsis."""
    letters = font(size, bold=bold)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + _CUT) > width:
        text = text[:-1]
    return text.rstrip() + _CUT


def wrap(text: str, size: int, width: float, *, bold: bool = False) -> list[str]:
    """Return text in lines at most ``width`` pixels wide; a longer word is cut."""
    letters, lines = font(size, bold=bold), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(fit(word, size, width, bold=bold))
    return [line for line in lines if line]


@cache
def _has_glyph(character: str) -> bool:
    letters = font(20)
    return character.isspace() or bytes(letters.getmask(character)) != bytes(
        letters.getmask(_UNASSIGNED)
    )
