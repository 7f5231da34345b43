"""Which images of a series a refusal is about: how many, and the first by its UID."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from chestct.errors import SeriesRejected

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def each(
    items: Iterable[_Item], name_of: Callable[[_Item], str], step: Callable[[_Item], _Made]
) -> list[_Made]:
    """Do a step with every image of a series.

    Raises:
        SeriesRejected: For the first image that the step refused; the message names it and says
            how many are refused in all.
    """
    made: list[_Made] = []
    refused: list[tuple[str, SeriesRejected]] = []
    count = 0
    for item in items:
        count += 1
        try:
            made.append(step(item))
        except SeriesRejected as rejection:
            refused.append((name_of(item), rejection))
    if refused:
        name, first = refused[0]
        message = about(len(refused), count, name, str(first))
        raise SeriesRejected(first.reason, message) from first
    return made


def about(refused: int, count: int, first: str, message: str) -> str:
    """Say how many of how many images are refused, and of the first what it is and why."""
    return f"{refused} of {count} images: {first}: {message}"
