"""The committed split of the real chests with labels: training/splits/chest-hu.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any


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


def _entries() -> dict[str, dict[str, Any]]:
    """Return the entries of the file by Series Instance UID."""
    text = (resources.files("training") / "splits/chest-hu.json").read_text()
    entries: dict[str, dict[str, Any]] = json.loads(text)["series"]
    return entries
