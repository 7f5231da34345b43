"""``rales check``: can the node run on this machine?"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chestct.errors import ConfigError, RalesError
from rales.cli.options import config_option
from rales.cli.output import say

if TYPE_CHECKING:
    from dicom_out.network.destination import Recipient
    from rales.config.sections import Config, NotificationConfig

_GIB = 1 << 30
_LOW_SPACE = 10 * _GIB

Check = Callable[[], str]
"""Returns what it found in order; raises ConfigError or OSError when something is wrong."""


@click.command()
@config_option
def check(config_path: Path) -> None:
    """Check that the node can run on this machine.

    Checks the configuration file, the Python environment, the data directory, the models, TLS
    files, the port, each destination (C-ECHO or an HTTP request) and each notification target.
    Prints one line per check. The node may be running.

    \b
    Example:
      rales check --config rales.toml

    Exit status 0: every check passed. 1: at least one failed, and its line says why.
    """  # noqa: D301 - click wants the backspace character itself
    from rales.config import file as config

    settings = config.load(config_path)
    say(f"ok    configuration {config_path}")
    results = [_run(name, run) for name, run in _checks(settings)]
    if not all(results):
        raise click.exceptions.Exit(1)


def _checks(settings: Config) -> Iterator[tuple[str, Check]]:
    from rales.config.peers import destinations_of

    yield "environment", _check_environment
    yield "data directory", partial(_check_data_dir, settings.node.data_dir)
    yield "models", partial(_check_models, settings)
    yield "TLS", partial(_check_tls, settings)
    yield "port", partial(_check_port, settings)
    for destination in destinations_of(settings).values():
        yield f"destination {destination.name}", partial(check_destination, destination, settings)
    for target in settings.notifications:
        yield f"notification {target.name}", partial(check_notification, target, settings)


def _run(name: str, run: Check) -> bool:
    try:
        say(f"ok    {name}: {run()}")
    except (RalesError, OSError) as error:
        say(f"FAIL  {name}: {error}")
        return False
    return True


def _check_environment() -> str:
    from rales.cli.environment import refuse_shadowed_packages, refuse_two_runtimes

    refuse_shadowed_packages()
    refuse_two_runtimes()
    return "no other distribution owns a package of Rales"


def _check_data_dir(data_dir: Path) -> str:
    from rales.cli.environment import free_bytes

    data_dir.mkdir(parents=True, exist_ok=True)
    probe = data_dir / ".probe"
    probe.write_bytes(b"")
    probe.unlink()
    free = free_bytes(data_dir)
    if free < _LOW_SPACE:
        raise ConfigError(
            f"{data_dir} has {free / _GIB:.1f} GiB free, needs {_LOW_SPACE / _GIB:.0f} GiB: "
            "free some space, or set node.data_dir to a larger disk"
        )
    return f"{data_dir}, {free / _GIB:.0f} GiB free"


def _check_models(settings: Config) -> str:
    from rales.analysis.pipeline import warm_up
    from rales.analysis.settings import settings_of

    facts = warm_up(settings_of(settings))
    names = ", ".join(f"{model.name} {model.version}" for model in facts.models)
    return "; ".join((f"{names} on {facts.summary}", *facts.self_test))


def _check_tls(settings: Config) -> str:
    from rales.config.tls import server_context

    tls = settings.tls
    if tls.certificate_file is None:
        return "off: peers send images to this node unencrypted"
    server_context(tls.certificate_file, tls.key_file, tls.client_ca_file)
    if tls.client_ca_file is None:
        return f"{tls.certificate_file}; callers need no certificate"
    return f"{tls.certificate_file}; callers need a certificate signed by {tls.client_ca_file}"


def _check_port(settings: Config) -> str:
    host, port = settings.node.host, settings.node.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if _this_node_answers(settings):
                return f"{port} is in use by this node, which answers C-ECHO"
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}; change node.host or node.port"
            ) from error
    return f"{host}:{port} is free"


def _this_node_answers(settings: Config) -> bool:
    from dicom_out.network.outcome import OutcomeKind
    from dicom_out.network.sender import echo
    from rales.cli.echo import this_node

    outcome = echo(this_node(settings), calling_ae=settings.node.ae_title)
    return outcome.kind is OutcomeKind.DELIVERED


def check_destination(destination: Recipient, settings: Config) -> str:
    """Ask a destination whether it answers, with C-ECHO or an HTTP request.

    Raises:
        ConfigError: It does not answer.
    """
    from dicom_out.network.outcome import OutcomeKind
    from dicom_out.network.recipients import ask

    outcome = ask(destination, calling_ae=settings.node.ae_title)
    if outcome.kind is not OutcomeKind.DELIVERED:
        raise ConfigError(outcome.message)
    return f"{destination.place} {outcome.message}"


def check_notification(target: NotificationConfig, settings: Config) -> str:
    """Ask the host of a notification target whether it answers, without sending data.

    Raises:
        ConfigError: It does not answer.
    """
    from rales.steps.notify.targets import endpoint_of

    outcome = endpoint_of(target, settings.delivery.timeout_seconds).probe()
    if not outcome.reached:
        raise ConfigError(outcome.message)
    return f"{target.url} answers (HTTP {outcome.status})"
