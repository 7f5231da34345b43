"""The Application Entity that gets results, as it is configured."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from chestct.results import Extra, SegKind

_ADDRESS = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>\[[^\]]+\]|[^:@]+):(?P<port>[0-9]{1,5})\Z")
_LAST_PORT = 65535
_TITLE_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An Application Entity and where it listens.

    With ``commitment``, an object counts as delivered when it has committed to keep it. With
    ``compress``, what gets small by it is sent compressed, if it accepts that. It gets the SEG
    of the kind ``segmentation`` and all ``extras``; when it refuses the SEG, the ``fallback``.
    ``tls`` returns the context for a connection over TLS; none: without.

    Raises:
        ValueError: The AE title, host or port cannot be.
    """

    name: str
    ae_title: str
    host: str
    port: int
    commitment: bool = False
    tls: Callable[[], ssl.SSLContext] | None = None
    segmentation: SegKind = SegKind.BINARY
    compress: bool = False
    extras: tuple[Extra, ...] = ()
    fallback: tuple[Extra, ...] = ()

    def __post_init__(self) -> None:
        if not self.ae_title.strip() or len(self.ae_title) > _TITLE_LENGTH:
            raise ValueError("an AE title has 1 to 16 characters")
        if not self.host or not 0 < self.port <= _LAST_PORT:
            raise ValueError(f"{self.host}:{self.port} is no address")

    @property
    def title(self) -> str:
        """Who it is, in an audit trail."""
        return self.ae_title

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Parse ``AE@host:port``; an IPv6 host stands in brackets.

        Raises:
            ValueError: ``text`` is no such address.
        """
        match = _ADDRESS.match(text)
        if match is None:
            raise ValueError(f"{text!r} is no address of the form AE@host:port")
        host = match["host"].strip("[]")
        return cls(name=text, ae_title=match["title"], host=host, port=int(match["port"]))
