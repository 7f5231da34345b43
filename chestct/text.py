"""Text from outside, made fit to stand in a message, a log line, a table or a terminal."""

from __future__ import annotations

_CUT = "…"


def printable(outside: str | bytes, limit: int = 160) -> str:
    r"""Return text from outside as one line of printable characters, at most ``limit`` of them.

    What does not print (control characters, line ends, characters that turn the direction of
    writing, lone surrogates) is shown as Python writes it in a literal: ``\x1b``. Text that is
    cut ends with an ellipsis. Printable ASCII that fits comes back unchanged.

    It may still hold brackets: rich markup is never to be built from it.
    """
    if isinstance(outside, bytes):
        outside = outside[: limit + 1].decode("utf-8", "backslashreplace")
    shown = "".join(map(_shown, outside[: limit + 1]))
    return shown if len(shown) <= limit else shown[: max(0, limit - 1)] + _CUT[:limit]


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
