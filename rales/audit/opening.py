"""Opens the audit trail that the configuration asks for."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chestct.errors import ConfigError
from rales.audit.hooks import AuditHooks, node_participant
from rales.audit.messages import AuditSource
from rales.audit.target import parse_target
from rales.audit.trail import AuditTrail
from rales.audit.transports import (
    FileTransport,
    SyslogHeader,
    TlsTransport,
    Transport,
    UdpTransport,
)
from rales.config.sections import AuditConfig
from rales.config.tls import client_context
from rales.runtime.clock import utc_now


@contextmanager
def audit_trail(config: AuditConfig, ae_title: str) -> Iterator[AuditHooks | None]:
    """Yield the hooks of a running trail, or None if it is off; send the queue at the end.

    Raises:
        ConfigError: The trail cannot be opened; the message names the key.
    """
    transport = open_transport(config)
    if transport is None:
        yield None
        return
    node = node_participant(ae_title, platform.node())
    trail = AuditTrail(
        transport,
        source=AuditSource(id=f"{ae_title}@{node.address}", site=config.site),
        reporter=node,
        header=SyslogHeader(host=node.address, application="rales", process=node.user_id),
    )
    with trail:
        yield AuditHooks(trail, node, utc_now)


def open_transport(config: AuditConfig) -> Transport | None:
    """Return the transport that ``audit.to`` names.

    Raises:
        ConfigError: A file cannot be used; the message names the key.
    """
    target = parse_target(config.to)
    if target is None:
        return None
    if isinstance(target, Path):
        return _file(target)
    if target.kind == "udp":
        return UdpTransport(target.host, target.port)
    try:
        context = client_context(
            config.ca_file, config.certificate_file, config.key_file, match_host=True
        )
    except ConfigError as error:
        raise ConfigError(f"audit.ca_file, certificate_file or key_file: {error}") from error
    return TlsTransport(target.host, target.port, context)


def _file(path: Path) -> FileTransport:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("ab"):
            path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"audit.to: {path} cannot be written: {error.strerror}") from error
    return FileTransport(path)
