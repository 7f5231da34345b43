"""``rales fsck``: is every acknowledged image on disk, and whole?"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chestct.errors import ConfigError
from chestct.text import printable
from rales import config
from rales.cli.options import config_option
from rales.fsck import examine, set_aside
from rales.node import Layout
from rales.store import Database


@click.command()
@config_option
@click.option("--deep", is_flag=True, help="Read every file and compare its digest.")
@click.option("--repair", is_flag=True, help="Move orphans and damaged files to quarantine/.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def fsck(
    context: click.Context,
    config_path: Path,
    deep: bool,  # noqa: FBT001 - click's way
    repair: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Compare the received files with the state file; the node must be stopped.

    Exit status 0: nothing is wrong, or all was set aside; 1: something is wrong.
    """
    layout = Layout(config.load(config_path).node.data_dir)
    if not layout.state.exists():
        raise ConfigError(f"{layout.state} does not exist yet: has the node run?")
    with layout.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("the node is running: stop it first") from error
        found = list(examine(Database(layout.state), layout.spool, deep=deep))
        quarantine = layout.quarantine
        done = [repair and set_aside(finding, quarantine) for finding in found]
    rows = [
        {
            "fault": finding.fault,
            "path": str(finding.path),
            "series_uid": finding.series_uid,
            "set_aside": moved,
        }
        for finding, moved in zip(found, done, strict=True)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        table = Table("fault", "file", "series", "set aside", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(printable(str(value), 1000)) for value in row.values()))
        Console().print(table)
    else:
        click.echo("nothing is wrong")
    context.exit(0 if all(done) else 1)
