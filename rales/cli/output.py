"""Print text that may quote data from outside: printable characters only, of bounded length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chestct.text import printable

if TYPE_CHECKING:
    from rich.table import Table

LONGEST = 1000
"""The most characters of a line or of a table's cell."""


def say(line: str, *, err: bool = False) -> None:
    """Print one line."""
    click.echo(printable(line, LONGEST), err=err)


def table(*headings: str) -> Table:
    """Return an empty table without lines; long cells are folded, not cut."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        shown.add_column(heading, overflow="fold")
    return shown


def add_row(to: Table, *cells: object) -> None:
    """Add a row of text; markup in a cell is shown as it is."""
    from rich.text import Text

    to.add_row(
        *(cell if isinstance(cell, Text) else Text(printable(str(cell), LONGEST)) for cell in cells)
    )
