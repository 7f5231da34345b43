"""What ``rales status`` shows of the images and associations that were refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from chestct.text import printable
from rales.state.store.refusals import Refusal

_SHOWN = 20
_LONGEST = 200


def as_dicts(refusals: Sequence[Refusal]) -> list[dict[str, Any]]:
    """Return refusals for JSON."""
    return [
        {
            "calling_ae": one.peer.ae_title,
            "address": one.peer.address,
            "refused": one.kind,
            "reason": one.reason,
            "count": one.count,
            "first_at": one.first_at.isoformat(),
            "last_at": one.last_at.isoformat(),
        }
        for one in refusals
    ]


def table(refusals: Sequence[Refusal]) -> Table | None:
    """Return the latest refusals as a table; None where nothing was ever refused."""
    if not refusals:
        return None
    shown = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for heading in ("refused", "from", "times", "last", "why"):
        shown.add_column(heading, overflow="fold")
    for one in refusals[:_SHOWN]:
        at = f"{one.last_at.astimezone():%Y-%m-%d %H:%M:%S}"
        peer = f"{one.peer.ae_title}@{one.peer.address}"
        cells = (one.kind, peer, str(one.count), at, one.reason)
        shown.add_row(*(Text(printable(cell, _LONGEST)) for cell in cells))
    more = len(refusals) - _SHOWN
    if more > 0:
        shown.caption = Text(f"and {more} more reasons: --json shows all")
    return shown
