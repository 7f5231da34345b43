"""Messages of rejections: how many images of a series are concerned, and the first by its UID."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from chestct.errors import SeriesRejected

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def for_each_image(
    items: Iterable[_Item], name_of: Callable[[_Item], str], step: Callable[[_Item], _Result]
) -> list[_Result]:
    """Apply a step to every image of a series, also after the step rejected some.

    Raises:
        SeriesRejected: For the first rejected image; the message names it and says how many
            images are rejected in all.
    """
    results: list[_Result] = []
    rejected: list[tuple[str, SeriesRejected]] = []
    count = 0
    for item in items:
        count += 1
        try:
            results.append(step(item))
        except SeriesRejected as rejection:
            rejected.append((name_of(item), rejection))
    if rejected:
        name, first = rejected[0]
        message = naming_images(len(rejected), count, name, str(first))
        raise SeriesRejected(first.reason, message) from first
    return results


def naming_images(rejected: int, count: int, first: str, message: str) -> str:
    """Return the message with the count of the rejected images and the UID of the first."""
    return f"{rejected} of {count} images: {first}: {message}"
