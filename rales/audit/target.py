"""The destination of audit messages, as the configuration file names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_TARGET = re.compile(
    r"(?P<kind>udp|tls)://(?P<host>\[[0-9A-Fa-f:]+\]|[^\[\]:/\s]+)(:(?P<port>[0-9]{1,5}))?/?\Z"
)
_PORTS = {"udp": 514, "tls": 6514}
"""RFC 5426 section 3.3, RFC 5425 section 4.1."""
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogTarget:
    """The address of a syslog receiver; ``kind`` is udp or tls."""

    kind: str
    host: str
    port: int


def parse_target(text: str) -> SyslogTarget | Path | None:
    """Parse ``off``, ``file:PATH``, ``udp://HOST[:PORT]`` or ``tls://HOST[:PORT]``.

    Raises:
        ValueError: ``text`` has none of these forms, or the port is out of range.
    """
    if text == "off":
        return None
    if text.startswith("file:") and text != "file:":
        return Path(text.removeprefix("file:"))
    match = _TARGET.match(text)
    if match is None:
        raise ValueError("write off, file:PATH, udp://HOST[:PORT] or tls://HOST[:PORT]")
    port = int(match["port"] or _PORTS[match["kind"]])
    if not 0 < port <= _LAST_PORT:
        raise ValueError(f"port {port} is not between 1 and {_LAST_PORT}")
    return SyslogTarget(kind=match["kind"], host=match["host"].strip("[]"), port=port)
