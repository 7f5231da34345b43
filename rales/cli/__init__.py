"""The command line: ``rales`` and its subcommands."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from chestct.errors import RalesError
from chestct.text import printable
from rales.cli.analyze import analyze
from rales.cli.backup import backup, restore
from rales.cli.demo import demo
from rales.cli.fsck import fsck
from rales.cli.model import model_group
from rales.cli.serve import serve
from rales.cli.speech import LONGEST
from rales.cli.status import retry, status
from rales.cli.tools import check, config_group, echo


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="rales")
def cli() -> None:
    """Rales reads chest CT series and answers the PACS with a SEG and an SR.

    \b
    First steps:
      rales config check rales.toml      is the file right?
      rales check --config rales.toml    can the node run here?
      rales serve --config rales.toml    run it
      rales status --config rales.toml   what happened to each series, and why

    \b
    Without a network: rales analyze DIR --out OUT
    A model of your own: rales model check FILE.onnx --manifest FILE.toml

    Research use only: results are AI-made and not verified by a radiologist.
    """  # noqa: D301 - click wants the backspace character itself


for command in (
    serve,
    analyze,
    status,
    retry,
    fsck,
    backup,
    restore,
    echo,
    check,
    config_group,
    model_group,
    demo,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; an expected error is one message and exit status 1.

    A terminal that lacks a character of a name shows its number instead of ending the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = cli.main(standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RalesError as error:
        lines = (printable(line, LONGEST) for line in str(error).splitlines())
        click.echo("rales: " + "\n".join(lines), err=True)
        sys.exit(1)
    # Outside its standalone mode click hands the status of an Exit back.
    sys.exit(status if isinstance(status, int) else 0)


__all__ = ["cli", "main"]
