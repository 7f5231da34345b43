"""``rales echo``, ``rales check`` and ``rales config check``: is everything in its place?"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from chestct.errors import ConfigError, RalesError
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.network.recipients import Recipient, ask
from dicom_out.network.sender import echo as send_echo
from rales.cli.environment import free_bytes, refuse_shadowed_packages
from rales.cli.options import config_option
from rales.cli.speech import say
from rales.config import file as config
from rales.config.peers import destinations_of
from rales.config.sections import Config, NotificationConfig
from rales.config.tls import own_context, server_context

_GIB = 1 << 30
_LOW_SPACE = 10 * _GIB


@click.command()
@config_option
@click.argument("address", required=False)
def echo(config_path: Path, address: str | None) -> None:
    """Send a C-ECHO to this node itself, or to ADDRESS (AE@host:port).

    Without ADDRESS the node that the configuration file describes is asked: the health
    check of containers. Exit status 0 when it answers.
    """
    settings = config.load(config_path) if config_path.exists() or not address else Config()
    target = Destination.parse(address) if address else _itself(settings)
    outcome = send_echo(target, calling_ae=settings.node.ae_title)
    say(f"{target.place}: {outcome.message}")
    if outcome.kind is not OutcomeKind.DELIVERED:
        raise click.exceptions.Exit(1)


def _itself(settings: Config) -> Destination:
    host = settings.node.host
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    own = settings.tls.certificate_file
    return Destination(
        name="itself",
        ae_title=settings.node.ae_title,
        host=reachable,
        port=settings.node.port,
        tls=partial(own_context, own, settings.tls.key_file) if own else None,
    )


@click.command()
@config_option
def check(config_path: Path) -> None:
    """Check that the node can run here: file, folders, models, port, destinations.

    Exit status 0 when nothing is wrong; every line says what was looked at.
    """
    settings = config.load(config_path)
    say(f"ok    configuration {config_path}")
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("environment", _check_environment),
        ("data folder", lambda: _check_data_dir(settings)),
        ("models", lambda: _check_models(settings)),
        ("TLS", lambda: _check_tls(settings)),
        ("port", lambda: _check_port(settings)),
        *(
            (f"destination {one.name}", lambda one=one: _check_destination(one, settings))
            for one in destinations_of(settings).values()
        ),
        *(
            (f"notification {one.name}", lambda one=one: _check_notification(one, settings))
            for one in settings.notifications
        ),
    )
    results = [_report(name, step) for name, step in steps]
    if not all(results):
        raise click.exceptions.Exit(1)


def _report(name: str, step: Callable[[], str]) -> bool:
    try:
        say(f"ok    {name}: {step()}")
    except (RalesError, OSError) as error:
        say(f"FAIL  {name}: {error}")
        return False
    return True


def _check_environment() -> str:
    refuse_shadowed_packages()
    return "the package names are ours alone"


def _check_data_dir(settings: Config) -> str:
    folder = settings.node.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".probe"
    probe.write_bytes(b"")
    probe.unlink()
    free = free_bytes(folder)
    if free < _LOW_SPACE:
        raise ConfigError(f"{folder} has only {free / _GIB:.1f} GiB free")
    return f"{folder}, {free / _GIB:.0f} GiB free"


def _check_models(settings: Config) -> str:
    from rales.analysis.pipeline import settings_of, warm_up

    facts = warm_up(settings_of(settings))
    names = ", ".join(f"{model.name} {model.version}" for model in facts.models)
    return f"{names} on {facts.provider}"


def _check_tls(settings: Config) -> str:
    tls = settings.tls
    if tls.certificate_file is None:
        return "off: what is sent to this node travels unencrypted"
    server_context(tls.certificate_file, tls.key_file, tls.client_ca_file)
    who = f"who has a certificate of {tls.client_ca_file}" if tls.client_ca_file else "anybody"
    return f"{tls.certificate_file}; {who} may call"


def _check_port(settings: Config) -> str:
    host, port = settings.node.host, settings.node.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            outcome = send_echo(_itself(settings), calling_ae=settings.node.ae_title)
            if outcome.kind is OutcomeKind.DELIVERED:
                return f"{port} is in use by this node, which answers C-ECHO"
            raise ConfigError(f"{host}:{port} cannot be bound: {error.strerror}") from error
    return f"{host}:{port} is free"


def _check_destination(destination: Recipient, settings: Config) -> str:
    outcome = ask(destination, calling_ae=settings.node.ae_title)
    if outcome.kind is not OutcomeKind.DELIVERED:
        raise ConfigError(outcome.message)
    return f"{destination.place} {outcome.message}"


def _check_notification(one: NotificationConfig, settings: Config) -> str:
    from rales.steps.notify.targets import endpoint_of

    outcome = endpoint_of(one, settings.delivery.timeout_seconds).knock()
    if not outcome.reached:
        raise ConfigError(outcome.message)
    return f"{one.url} answers (HTTP {outcome.status})"


@click.group("config")
def config_group() -> None:
    """Work with the configuration file."""


@config_group.command("check")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def config_check(file: Path) -> None:
    """Check FILE without starting anything; every mistake is named with its key."""
    settings = config.load(file)
    node = settings.node
    say(f"{file} is right.")
    say(f"  {node.ae_title} will listen on {node.host}:{node.port}")
    say(f"  data in {node.data_dir}")
    for name, one in destinations_of(settings).items():
        say(f"  results go to {name}: {one.place}")
    if not settings.destinations:
        say("  no destination: results stay in the data folder")
