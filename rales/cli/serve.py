"""``rales serve``: run the node."""

from __future__ import annotations

from pathlib import Path

import click

from rales.cli.options import config_option


@click.command()
@config_option
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    default="INFO",
    show_default=True,
    help="Log messages of this level and above to standard error.",
)
def serve(config_path: Path, log_level: str) -> None:
    """Receive chest CT series, analyse them and deliver the results.

    Runs until SIGTERM or SIGINT, then exits within 30 seconds. The next start continues the work
    that did not end in time, also after a kill or a power cut. On SIGHUP the node reads its TLS
    certificate again.

    \b
    Example:
      rales serve --config /etc/rales/rales.toml
    """  # noqa: D301 - click wants the backspace character itself
    import os
    import signal

    from chestct.errors import ConfigError
    from rales.cli import logs
    from rales.cli.environment import refuse_shadowed_packages
    from rales.config import file as config
    from rales.node.node import Node
    from rales.runtime.allocator import limit_freed_memory
    from rales.runtime.signals import Signals

    settings = config.load(config_path)
    os.umask(0o077)  # the spool and the results hold patient data
    logs.configure(log_level)
    limit_freed_memory()
    refuse_shadowed_packages()
    try:
        with (
            Signals({signal.SIGTERM, signal.SIGINT, signal.SIGHUP}) as signals,
            Node(settings) as node,
        ):
            while signals.wait() == signal.SIGHUP:
                node.reload()
    except OSError as error:
        raise ConfigError(f"the node cannot run: {error}") from error
