"""Pieces of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from pydicom.uid import UID

_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
"""SOP classes that pydicom 3.0 does not name."""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar inside a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in r] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ranges(
    values: Iterable[int], describe: Callable[[int], str], write: Callable[[int], str]
) -> list[tuple[str, str]]:
    """Return ranges of values with one description each; the commonest is last: "any other"."""
    spans: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for description, group in groupby(values, key=describe):
        run = list(group)
        first, last = write(run[0]), write(run[-1])
        spans.setdefault(description, []).append(first if first == last else f"{first}-{last}")
        counts[description] = counts.get(description, 0) + len(run)
    commonest = max(counts, key=lambda description: counts[description])
    rows = [(", ".join(runs), words) for words, runs in spans.items() if words != commonest]
    return [*rows, ("any other", commonest)]


def uid_name(uid: str) -> str:
    """Return the name of a SOP class or transfer syntax."""
    return _NAMES.get(uid) or UID(uid).name.split(":")[0].removesuffix(" SOP Class")


def named_uid(uid: str) -> str:
    """Return the name of a UID, and the UID."""
    return f"{uid_name(uid)}, {uid}"


def anchor(title: str) -> str:
    """Return the fragment that GitHub and GitLab give a heading."""
    kept = "".join(
        character for character in title.lower() if character.isalnum() or character in " -_"
    )
    return kept.strip().replace(" ", "-")
