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
    tls_context,
)
from rales.config.sections import AuditConfig
from rales.runtime.clock import utc_now


@contextmanager
def audit_trail(config: AuditConfig, ae_title: str) -> Iterator[AuditHooks | None]:
    """Yield the hooks of a running trail, or None when it is off; drain it at the end.

    Raises:
        ConfigError: The trail cannot be opened; the message names the key.
    """
    transport = open_transport(config)
    if transport is None:
        yield None
        return
    itself = node_participant(ae_title, platform.node())
    trail = AuditTrail(
        transport,
        source=AuditSource(id=f"{ae_title}@{itself.address}", site=config.site),
        reporter=itself,
        header=SyslogHeader(host=itself.address, application="rales", process=itself.user_id),
    )
    with trail:
        hooks = AuditHooks(trail, itself, utc_now)
        yield hooks


def open_transport(config: AuditConfig) -> Transport | None:
    """Return the transport that ``audit.to`` names.

    Raises:
        ConfigError: A file that it needs cannot be used.
    """
    target = parse_target(config.to)
    if target is None:
        return None
    if isinstance(target, Path):
        return _file(target)
    if target.kind == "udp":
        return UdpTransport(target.host, target.port)
    try:
        context = tls_context(config.ca_file, config.certificate_file, config.key_file)
    except OSError as error:
        raise ConfigError(
            f"audit.ca_file, certificate_file or key_file cannot be used: {error}"
        ) from error
    return TlsTransport(target.host, target.port, context)


def _file(path: Path) -> FileTransport:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("ab"):
            path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"audit.to: {path} cannot be written: {error.strerror}") from error
    return FileTransport(path)
