"""``rales fsck``: is every acknowledged image on disk and undamaged?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chestct.errors import ConfigError
from rales.cli.options import config_option, json_option
from rales.cli.output import add_row, say, table

if TYPE_CHECKING:
    from rales.node.fsck import Finding
    from rales.state.layout import Layout
    from rales.state.store import Database


@click.command()
@config_option
@click.option("--deep", is_flag=True, help="Read every file and compare its digest.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="First record the undamaged images of spool/ and quarantine/ that the state file does "
    "not know.",
)
@click.option("--repair", is_flag=True, help="Move unknown and damaged files to quarantine/.")
@click.option("--any-number", is_flag=True, help="Let --repair move more than 10 files.")
@json_option
def fsck(
    *,
    config_path: Path,
    deep: bool,
    rebuild: bool,
    repair: bool,
    any_number: bool,
    as_json: bool,
) -> None:
    """Compare the received files with the state file; stop the node first.

    \b
    Examples, after a power cut or with a failing disk:
      rales fsck --deep            list missing, damaged and unknown files
      rales fsck --deep --repair   move damaged and unknown files to quarantine/; a resend
                                   restores the damaged and missing images
    Example, after state.sqlite was lost or replaced by an older one:
      rales fsck --rebuild         record the images again; results keep their UIDs

    Exit status 0: nothing is wrong, or --repair removed every fault. 1: faults remain.
    """  # noqa: D301 - click wants the backspace character itself
    from rales.cli.opening import layout_of, stopped
    from rales.node.fsck import examine, set_aside
    from rales.state.store import Database

    layout = layout_of(config_path)
    _require_state(layout, rebuild=rebuild)
    with stopped(layout), closing(Database(layout.state)) as database:
        if rebuild or repair:
            (_rebuild if rebuild else _record_cut_off)(database, layout)
        findings = list(examine(database, layout.spool, deep=deep))
        if repair and not any_number:
            _refuse_many(findings)
        moved = [repair and set_aside(finding, layout.quarantine) for finding in findings]
    if as_json:
        _print_json(findings, moved)
    else:
        _print_table(findings, moved, layout.quarantine)
    if not all(moved):
        raise click.exceptions.Exit(1)


def _require_state(layout: Layout, *, rebuild: bool) -> None:
    if not layout.state.exists() and not rebuild:
        raise ConfigError(
            f"{layout.state} does not exist yet: has the node run? `rales fsck --rebuild` creates "
            "it from the images in spool/"
        )


def _record_cut_off(database: Database, layout: Layout) -> None:
    """Record acknowledged images that a crash cut off, before they look unknown."""
    from rales.node.cut_off import record_cut_off
    from rales.state.store.clock import ClockStore

    record_cut_off(database, layout, since=ClockStore(database).seen())


def _rebuild(database: Database, layout: Layout) -> None:
    from rales.node.rebuild import rebuild
    from rales.state.store import JobStore

    recorded = 0
    JobStore(database).leave_out(layout.results)
    for image in rebuild(database, layout):
        if image.trouble:
            say(f"not recorded: {image.path}: {image.trouble}", err=True)
            continue
        recorded += 1
        if recorded % 1000 == 0:
            say(f"{recorded} images recorded ...", err=True)
    say(f"{recorded} images recorded", err=True)


def _refuse_many(findings: Sequence[Finding]) -> None:
    """Refuse to move so many files that the state file is more likely wrong than the files.

    Raises:
        ConfigError: More than ``HANDFUL`` files would be moved.
    """
    from rales.node.fsck import HANDFUL, Fault

    harmless = {Fault.MISSING, Fault.HALF_WRITTEN, Fault.RELEASED}
    count = sum(finding.fault not in harmless for finding in findings)
    if count > HANDFUL:
        raise ConfigError(
            f"{count} files are damaged or unknown; --repair moves at most {HANDFUL} and moved "
            "none. Was state.sqlite lost or replaced by an older one? Then `rales fsck --rebuild` "
            "records the images again. `rales fsck --repair --any-number` moves all these files"
        )


def _print_json(findings: Sequence[Finding], moved: Sequence[bool]) -> None:
    rows = [
        {
            "fault": finding.fault,
            "path": str(finding.path),
            "series_uid": finding.series_uid,
            "set_aside": done,
        }
        for finding, done in zip(findings, moved, strict=True)
    ]
    click.echo(json.dumps(rows, indent=2))


def _print_table(findings: Sequence[Finding], moved: Sequence[bool], quarantine: Path) -> None:
    from rich.console import Console

    if findings:
        shown = table("fault", "file", "series", "repaired")
        for finding, done in zip(findings, moved, strict=True):
            add_row(shown, finding.fault, finding.path, finding.series_uid, "yes" if done else "no")
        Console().print(shown)
    else:
        click.echo("nothing is wrong")
    _report_quarantine(quarantine)


def _report_quarantine(directory: Path) -> None:
    """Print how much patient data is in quarantine: no other command shows it."""
    paths = list(directory.glob("*"))
    if paths:
        size = sum(path.stat().st_size for path in paths)
        say(
            f"{directory}: {len(paths)} files, {size / 1e6:.1f} MB, with patient data; delete "
            "them, or set retention.days"
        )
