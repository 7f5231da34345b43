"""Lines for the terminal that may quote what came from outside."""

from __future__ import annotations

import click

from chestct.text import printable

LONGEST = 1000
"""Characters of a line."""


def say(line: str, *, err: bool = False) -> None:
    """Print one line, printable and bounded whatever it quotes."""
    click.echo(printable(line, LONGEST), err=err)
