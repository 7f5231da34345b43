"""``rales backup`` and ``rales restore``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rales.cli.options import config_option
from rales.cli.output import say

if TYPE_CHECKING:
    from rales.node.backup import Copied


@click.command()
@config_option
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def backup(config_path: Path, directory: Path) -> None:
    """Copy all data of the node to DIR, an empty or new directory.

    The node may be running: the backup holds its state at one moment. DIR gets the state file, all
    images and results that the state file names, and their digests. The command writes backup.json
    last: a DIR without backup.json is incomplete.

    On the same file system, images in DIR are hard links and take no space. To protect against a
    broken disk, copy DIR to another disk.

    DIR holds patient data; only its owner may read it.

    \b
    Example:
      rales backup /mnt/backup/rales-$(date +%F)

    Exit status 0: DIR is complete. 1: images are missing in the data directory.
    """  # noqa: D301 - click wants the backspace character itself
    from rales.cli.opening import layout_of
    from rales.node.backup import back_up

    _report(back_up(layout_of(config_path), directory, partial(say, err=True)))


@click.command()
@config_option
@click.argument(
    "directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
def restore(config_path: Path, directory: Path) -> None:
    """Copy the backup in DIR to node.data_dir, which must be empty; stop the node first.

    The command compares every file with its digest and does not change DIR. After the restore,
    the node delivers the results that were undelivered at the time of the backup. Result objects
    keep their UIDs, so a PACS shows no result twice. Senders must resend the images that arrived
    after the backup.

    \b
    Example, on a new machine:
      rales config check rales.toml
      rales restore /mnt/backup/rales-2026-01-31
      rales serve

    Exit status 0: all files were restored. 1: files were missing or damaged; `rales fsck` names
    the images, and a resend restores them.
    """  # noqa: D301 - click wants the backspace character itself
    from rales.cli.opening import layout_of, stopped
    from rales.node.backup import restore as restore_from

    layout = layout_of(config_path)
    with stopped(layout):
        _report(restore_from(directory, layout, partial(say, err=True)))


def _report(copied: Copied) -> None:
    say(
        f"{copied.series} series, {copied.images} images, {copied.results} result files; "
        f"{copied.missing} missing, {copied.damaged} damaged"
    )
    if copied.missing or copied.damaged:
        raise click.exceptions.Exit(1)
