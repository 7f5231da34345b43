"""Markdown and how numbers are written in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.metrics import Distances
from training.report.statistics import Agreement, Estimate

NOTHING = "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def interval(found: Estimate, digits: int = 2, scale: float = 1.0) -> str:
    """Return a mean with its interval."""
    mean = number(None if found.mean is None else found.mean * scale, digits)
    if found.low is None or found.high is None:
        return mean
    return f"{mean} [{found.low * scale:.{digits}f}, {found.high * scale:.{digits}f}]"


def percent(found: Estimate) -> str:
    """Return a proportion in percent with its interval."""
    return interval(found, 0, 100.0) + (" %" if found.mean is not None else "")


def limits(found: Agreement | None) -> str:
    """Return bias and limits of agreement."""
    if found is None:
        return NOTHING
    return f"{found.bias:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def picture(name: str, text: str, figures: Sequence[str]) -> str:
    """Return a figure with its caption; empty if the figure does not exist."""
    return f"![{text}](figures/{name}.png)\n\n*{text}*" if name in figures else ""


def blocks(*parts: str) -> str:
    """Join the blocks that are not empty by blank lines."""
    return "\n\n".join(part for part in parts if part)


def signed(found: Estimate) -> str:
    """Return a mean difference with its sign."""
    return NOTHING if found.mean is None else f"{found.mean:+.3f}"


def distance_cells(found: Distances | None) -> tuple[str, str]:
    """Return two cells: mean and 95th percentile."""
    return (number(found.average), number(found.most)) if found else (NOTHING, NOTHING)
