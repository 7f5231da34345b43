"""``rales echo``: does this node, or another one, answer a C-ECHO?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rales.cli.options import config_option

if TYPE_CHECKING:
    from dicom_out.network.destination import Destination
    from rales.config.sections import Config


@click.command()
@config_option
@click.argument("address", metavar="[AE@HOST:PORT]", required=False)
def echo(config_path: Path, address: str | None) -> None:
    """Send a C-ECHO to this node, or to AE@HOST:PORT.

    The calling AE title is node.ae_title. Without AE@HOST:PORT, the command asks the node that
    the configuration file describes; containers use this as their health check.

    \b
    Examples:
      rales echo                           does this node answer?
      rales echo ORTHANC@10.0.0.7:4242     does the PACS answer?

    Exit status 0: the node answers. 1: it does not answer, and the message says why.
    """  # noqa: D301 - click wants the backspace character itself
    from dicom_out.network.destination import Destination
    from dicom_out.network.outcome import OutcomeKind
    from dicom_out.network.sender import echo as send_echo
    from rales.cli.output import say
    from rales.config import file as config
    from rales.config.sections import Config

    settings = config.load(config_path) if config_path.exists() or not address else Config()
    try:
        target = Destination.parse(address) if address else this_node(settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    outcome = send_echo(target, calling_ae=settings.node.ae_title)
    named = target.place in outcome.message
    say(outcome.message if named else f"{target.place}: {outcome.message}")
    if outcome.kind is not OutcomeKind.DELIVERED:
        raise click.exceptions.Exit(1)


def this_node(settings: Config) -> Destination:
    """Return the configured node as a destination on this machine."""
    from dicom_out.network.destination import Destination
    from rales.config.tls import own_context

    host = settings.node.host
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    certificate = settings.tls.certificate_file
    return Destination(
        name="this node",
        ae_title=settings.node.ae_title,
        host=reachable,
        port=settings.node.port,
        tls=partial(own_context, certificate, settings.tls.key_file) if certificate else None,
    )
