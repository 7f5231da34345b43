"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("rales.toml"),
    show_default=True,
    envvar="RALES_CONFIG",
    help="The configuration file. $RALES_CONFIG changes the default.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
