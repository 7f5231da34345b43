"""``rales serve``: run the node."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from chestct.errors import ConfigError
from rales.cli import logs
from rales.cli.environment import refuse_shadowed_packages
from rales.cli.options import config_option
from rales.config import file as config
from rales.runtime.allocator import spare_memory
from rales.runtime.signals import Signals


@click.command()
@config_option
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    default="INFO",
    show_default=True,
)
def serve(config_path: Path, log_level: str) -> None:
    """Listen for chest CT series, analyse them and deliver the results.

    Runs until SIGTERM or SIGINT, then finishes what it is doing. Nothing is lost by a kill:
    what was received is on disk, and the next start takes it up. SIGHUP makes it read its
    TLS certificate again.
    """
    from rales.node.node import Node

    settings = config.load(config_path)
    os.umask(0o077)  # what is received and made holds patient data
    logs.configure(log_level)
    spare_memory()
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
