"""AE titles: which are valid, and how one that came over the network is shown."""

from __future__ import annotations

from chestct.text import printable

AE_TITLE_LENGTH = 16
"""Characters of an AE title (PS3.5 table 6.2-1)."""


def check_ae_title(text: str) -> str:
    """Return an AE title without the spaces around it, which mean nothing (PS3.5 section 6.2).

    Raises:
        ValueError: It is no AE title.
    """
    title = text.strip(" ")
    if not title or len(title) > AE_TITLE_LENGTH:
        raise ValueError(
            f"{text!r} is not an AE title: it must have 1 to {AE_TITLE_LENGTH} characters"
        )
    if "\\" in title or not title.isascii() or not title.isprintable():
        raise ValueError(
            f"{text!r} is not an AE title: use printable ASCII characters without a backslash"
        )
    return title


def shown_ae_title(text: object) -> str:
    """Return an AE title that came over the network, printable and of at most 16 characters."""
    return printable(str(text).strip(), AE_TITLE_LENGTH)
