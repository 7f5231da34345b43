"""Makes received text safe for a message, a log line, a table or a terminal."""

from __future__ import annotations

_CUT = "…"


def printable(outside: str | bytes, limit: int = 160) -> str:
    r"""Return received text as one line of at most ``limit`` printable characters.

    Unprintable characters (control characters, line ends, direction marks, lone surrogates) become
    Python escapes such as ``\x1b``. Cut text ends with an ellipsis. Printable ASCII that fits is
    returned unchanged.

    The result may hold brackets: never build rich markup from it.
    """
    if isinstance(outside, bytes):
        outside = outside[: limit + 1].decode("utf-8", "backslashreplace")
    shown = "".join(map(_shown, outside[: limit + 1]))
    return shown if len(shown) <= limit else shown[: max(0, limit - 1)] + _CUT[:limit]


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
