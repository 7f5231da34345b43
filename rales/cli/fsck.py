"""``rales fsck``: is every acknowledged image on disk, and whole?"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chestct.errors import ConfigError
from chestct.text import printable
from rales.cli.options import config_option
from rales.cli.speech import say
from rales.config import file as config
from rales.node.fsck import HANDFUL, Fault, Finding, examine, set_aside
from rales.node.rebuild import rebuild as rebuild_rows
from rales.state.layout import Layout
from rales.state.store import Database, JobStore

_STAYS = frozenset({Fault.MISSING, Fault.HALF_WRITTEN, Fault.RELEASED})
"""Faults whose setting aside takes nothing away that may be wanted."""


@click.command()
@config_option
@click.option("--deep", is_flag=True, help="Read every file and compare its digest.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="First take whole images that the state file does not know in again, from spool/ and "
    "from quarantine/.",
)
@click.option("--repair", is_flag=True, help="Move unknown and damaged files to quarantine/.")
@click.option(
    "--any-number",
    is_flag=True,
    help=f"Let --repair move more than {HANDFUL} files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def fsck(
    context: click.Context,
    *,
    config_path: Path,
    deep: bool,
    rebuild: bool,
    repair: bool,
    any_number: bool,
    as_json: bool,
) -> None:
    """Compare the received files with the state file; the node must be stopped.

    \b
    When state.sqlite was lost, or an older one was put in its place:
      rales fsck --rebuild     every whole image of spool/ is taken in again; its series is
                               analysed, and its results keep their UIDs: no PACS shows two.
    After a power cut or with a doubtful disk:
      rales fsck --deep            what is missing, damaged or unknown?
      rales fsck --deep --repair   move what is damaged or unknown to quarantine/; a resend
                                   by the sender brings damaged and missing images back.

    Exit status 0: nothing is wrong, or all was set aside; 1: something is wrong.
    """  # noqa: D301 - click wants the backspace character itself
    layout = Layout(config.load(config_path).node.data_dir)
    if not layout.state.exists() and not rebuild:
        raise ConfigError(
            f"{layout.state} does not exist yet: has the node run? `rales fsck --rebuild` makes "
            "it from the images in spool/"
        )
    with stopped(layout), closing(Database(layout.state)) as database:
        if rebuild:
            _rebuild(database, layout)
        found = list(examine(database, layout.spool, deep=deep))
        if repair and not any_number:
            _refuse_many(found)
        done = [repair and set_aside(finding, layout.quarantine) for finding in found]
    _show(found, done, as_json=as_json)
    if not as_json:
        _tell_quarantine(layout.quarantine)
    context.exit(0 if all(done) else 1)


@contextmanager
def stopped(layout: Layout) -> Iterator[None]:
    """Keep the node from running meanwhile.

    Raises:
        ConfigError: It runs, or the folder cannot be used.
    """
    try:
        layout.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = layout.lock.open("a")
    except OSError as error:
        raise ConfigError(f"{layout.data_dir} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("the node is running: stop it first") from error
        yield


def _rebuild(database: Database, layout: Layout) -> None:
    taken = 0
    JobStore(database).leave_out(layout.results)
    for one in rebuild_rows(database, layout):
        if one.trouble:
            say(f"not taken in: {one.path}: {one.trouble}", err=True)
            continue
        taken += 1
        if taken % 1000 == 0:
            say(f"{taken} images taken in ...", err=True)
    say(f"{taken} images taken in", err=True)


def _refuse_many(found: Sequence[Finding]) -> None:
    """Refuse to move what looks like the spool of another state file.

    Raises:
        ConfigError: With what to do.
    """
    moved = [one for one in found if one.fault not in _STAYS]
    if len(moved) > HANDFUL:
        raise ConfigError(
            f"{len(moved)} files would be moved, and none was: so many are seldom damage. Was "
            "state.sqlite lost or an older one put in its place? `rales fsck --rebuild` takes "
            "images in again. `rales fsck --repair --any-number` moves them all the same"
        )


def _show(found: Sequence[Finding], done: Sequence[bool], *, as_json: bool) -> None:
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


def _tell_quarantine(folder: Path) -> None:
    """Say what lies in quarantine: it holds patient data and nobody else looks at it."""
    here = list(folder.glob("*"))
    if here:
        size = sum(path.stat().st_size for path in here)
        say(
            f"{folder}: {len(here)} files, {size / 1e6:.1f} MB; retention.days removes them, or you"
        )
