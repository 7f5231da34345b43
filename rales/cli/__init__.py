"""The command line: ``rales`` and its subcommands."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from chestct.errors import RalesError
from chestct.text import printable
from rales.cli.lazy import LazyCommand, LazyGroup
from rales.cli.output import LONGEST

_COMMANDS = {
    name: LazyCommand(f"rales.cli.{module}", attribute, short_help)
    for name, module, attribute, short_help in (
        ("serve", "serve", "serve", "Run the node: receive, analyse and deliver."),
        ("status", "status", "status", "Show each series: state, reason, results, deliveries."),
        ("retry", "retry", "retry", "Analyse or deliver a finished series again."),
        ("config", "config", "config_group", "Check a configuration file."),
        ("check", "check", "check", "Check that the node can run on this machine."),
        ("echo", "echo", "echo", "Send a C-ECHO to this node or to another one."),
        ("fsck", "fsck", "fsck", "Compare the received files with the state file."),
        ("backup", "backup", "backup", "Copy all data of the node to a directory."),
        ("restore", "backup", "restore", "Copy a backup to an empty data directory."),
        ("analyze", "analyze", "analyze", "Analyse files without a network."),
        ("model", "model", "model_group", "Check a network of your own."),
        ("demo", "demo", "demo", "Run the node and a PACS on this machine, end to end."),
    )
}


@click.group(
    cls=LazyGroup,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="rales")
def cli() -> None:
    """Rales receives chest CT series, analyses them and sends a SEG and an SR to the PACS.

    \b
    First steps:
      rales config check rales.toml      check the configuration file
      rales check --config rales.toml    check that the node can run on this machine
      rales serve --config rales.toml    run the node
      rales status --config rales.toml   show what happened to each series, and why

    \b
    Analyse files without a network:
      rales analyze DIR --out OUT

    `rales COMMAND --help` explains each command and gives an example.

    Research use only: results are made by AI and not verified by a radiologist.
    """  # noqa: D301 - click wants the backspace character itself


def main() -> None:
    """Run the command line; print an expected error as one message, with exit status 1.

    A character that the terminal cannot show is printed as its number.
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
    # With standalone_mode=False, click returns the exit status of click.exceptions.Exit.
    sys.exit(status if isinstance(status, int) else 0)


__all__ = ["cli", "main"]
