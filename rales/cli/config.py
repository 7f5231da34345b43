"""``rales config check``: is every key of the configuration file right?"""

from __future__ import annotations

from pathlib import Path

import click


@click.group("config")
def config_group() -> None:
    """Check a configuration file; deploy/rales.toml shows every key."""


@config_group.command("check")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def config_check(file: Path) -> None:
    """Check FILE without starting anything; name every wrong key.

    The command does not read the files that FILE names and sends nothing: use `rales check` for
    that.

    \b
    Example:
      rales config check rales.toml

    Exit status 0: FILE is valid. 1: FILE is wrong, and the message names each wrong key.
    """  # noqa: D301 - click wants the backspace character itself
    from rales.cli.output import say
    from rales.config.file import load

    settings = load(file)
    node = settings.node
    say(f"{file} is valid.")
    say(f"  {node.ae_title} listens on {node.host}:{node.port}")
    say(f"  data directory: {node.data_dir}")
    for it in settings.destinations:
        say(f"  destination {it.name}: {it.url or f'{it.ae_title}@{it.host}:{it.port}'}")
    if not settings.destinations:
        say("  no destination: results stay in the data directory")
