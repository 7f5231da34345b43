"""``rales backup`` and ``rales restore``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from rales.cli.fsck import stopped
from rales.cli.options import config_option
from rales.cli.speech import say
from rales.config import file as config
from rales.node.backup import Copied, back_up
from rales.node.backup import restore as bring_back
from rales.state.layout import Layout

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@config_option
@click.argument("folder", metavar="DIR", type=_FOLDER)
def backup(config_path: Path, folder: Path) -> None:
    """Copy everything the node holds to DIR, which must be empty; the node may run.

    \b
    rales backup /mnt/backup/rales-$(date +%F)
    The state file as it is at one moment, the images and results that it names, and digests.
    On the same file system images are linked and take no space: that is no copy against a
    broken disk until DIR is copied elsewhere. backup.json is written last: a DIR without it
    was cut off.

    DIR holds patient data; only its owner may read it. Exit status 1: images are missing.
    """  # noqa: D301 - click wants the backspace character itself
    layout = Layout(config.load(config_path).node.data_dir)
    _tell(back_up(layout, folder, partial(say, err=True)))


@click.command()
@config_option
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
def restore(config_path: Path, folder: Path) -> None:
    """Copy the backup in DIR to node.data_dir, which must be empty; the node must be stopped.

    \b
    On a new machine:
      rales config check rales.toml
      rales restore /mnt/backup/rales-2026-01-31
      rales serve
    Every file is compared with its digest. Series go on where they were at the backup: what
    was not delivered yet is delivered. Results keep their UIDs, so that what was delivered
    after the backup is not shown twice. Images received after it have to be sent again.

    DIR is left as it is. Exit status 1: files were missing or damaged; `rales fsck` names
    the images then, and a resend brings them back.
    """  # noqa: D301 - as above
    layout = Layout(config.load(config_path).node.data_dir)
    with stopped(layout):
        _tell(bring_back(folder, layout, partial(say, err=True)))


def _tell(copied: Copied) -> None:
    say(
        f"{copied.series} series, {copied.images} images, {copied.results} files of results; "
        f"{copied.missing} missing, {copied.damaged} damaged"
    )
    if copied.missing or copied.damaged:
        raise click.exceptions.Exit(1)
