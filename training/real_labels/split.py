"""The committed split of the real chests with labels: training/splits/chest-hu.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from training.chests import LabelledChest, load_chests

TO_LEARN = ("train",)
TO_WATCH = ("train", "selection")
"""The parts to learn from, and to choose settings on. The test part is for the report alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownChest:
    """An entry of the committed split of the labelled chests.

    Attributes:
        part: ``train``, ``selection`` or ``test``.
        normal: The chest has no lesion.
        free: The first and one past the last slab of the part without lesions, where the whole
            chest is not free; None: nobody judged a part.
    """

    part: str
    normal: bool
    free: tuple[int, int] | None


def known_parts() -> dict[str, str]:
    """Return the part of each series by its Series Instance UID: train, selection or test."""
    return {uid: str(entry["part"]) for uid, entry in _entries().items()}


def known_chests() -> dict[str, KnownChest]:
    """Return the committed split of the labelled chests by name."""
    return {
        entry["name"]: KnownChest(
            part=entry["part"],
            normal=entry.get("normal", False),
            free=tuple(entry["free"]) if "free" in entry else None,
        )
        for entry in _entries().values()
    }


def chests_of(
    places: Iterable[Path], parts: Iterable[str], say: Callable[[str], None]
) -> Iterator[LabelledChest]:
    """Yield the labelled chests that the split has in ``parts``, or does not name.

    ``say`` receives a line for each chest that is left out: no network learns from a chest that
    judges it, even if a command line names it.
    """
    known, allowed = known_chests(), set(parts)
    for chest in load_chests(places):
        entry = known.get(chest.name)
        if entry is not None and entry.part not in allowed:
            say(f"{chest.name} left out: it is of the {entry.part} part")
        else:
            yield chest


def _entries() -> dict[str, dict[str, Any]]:
    """Return the entries of the file by Series Instance UID."""
    text = (resources.files("training") / "splits/chest-hu.json").read_text()
    entries: dict[str, dict[str, Any]] = json.loads(text)["series"]
    return entries
