"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from pydicom.uid import UID

_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
"""SOP classes that pydicom 3.0 does not know by name."""
_HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar inside a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in r] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ranges(
    values: Iterable[int], told: Callable[[int], str], written: Callable[[int], str]
) -> list[tuple[str, str]]:
    """Return values in ranges that are told alike; the commonest stands last, as any other."""
    spans: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for says, run in groupby(values, key=told):
        its = list(run)
        first, last = written(its[0]), written(its[-1])
        spans.setdefault(says, []).append(first if first == last else f"{first}-{last}")
        counts[says] = counts.get(says, 0) + len(its)
    commonest = max(counts, key=lambda says: counts[says])
    rows = [(", ".join(its), says) for says, its in spans.items() if says != commonest]
    return [*rows, ("any other", commonest)]


def uid_name(uid: str) -> str:
    """Return the name of a SOP class or transfer syntax."""
    return _NAMES.get(uid) or UID(uid).name.split(":")[0].removesuffix(" SOP Class")


def named_uid(uid: str) -> str:
    """Return a UID behind its name."""
    return f"{uid_name(uid)}, {uid}"


def anchor(title: str) -> str:
    """Return the fragment that GitHub and GitLab give a heading."""
    kept = "".join(one for one in title.lower() if one.isalnum() or one in " -_")
    return kept.strip().replace(" ", "-")


def contents(document: str) -> str:
    """Return the table of contents of a document: its headings of the second and third level."""
    return "\n".join(
        f"{'  ' * (len(marks) - 2)}- [{title}](#{anchor(title)})"
        for marks, title in _HEADING.findall(document)
    )
