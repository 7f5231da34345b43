"""Destinations of results: Application Entities and DICOMweb services."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from chestct.ae_title import check_ae_title
from chestct.results import Extra, Profile

TlsContext = Callable[[], ssl.SSLContext]
"""Returns the context for the next connection, so that new certificates need no restart."""

_ADDRESS = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>\[[^\]]+\]|[^:@]+):(?P<port>[0-9]{1,5})\Z")
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """The fields of every destination.

    Attributes:
        name: The name in the configuration.
        profile: The SEGs and the SR that it gets.
        extras: The kinds of further objects that it gets.
        fallback: The kinds of objects that it gets when it refuses the SEG.
    """

    name: str
    profile: Profile = Profile.OHIF
    extras: tuple[Extra, ...] = ()
    fallback: tuple[Extra, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination(_Common):
    """An Application Entity.

    Attributes:
        commitment: Whether an object counts as delivered only when the destination has committed
            to keep it.
        compress: Whether objects that compression makes small are sent compressed, if the
            destination accepts that.
        tls: Returns the context for a connection over TLS; None: without TLS.

    Raises:
        ValueError: The AE title, host or port is not valid.
    """

    ae_title: str
    host: str
    port: int
    commitment: bool = False
    compress: bool = False
    tls: TlsContext | None = None

    def __post_init__(self) -> None:
        check_ae_title(self.ae_title)
        if not self.host or not 0 < self.port <= _LAST_PORT:
            raise ValueError(
                f"{self.host}:{self.port} is not an address: give a host and a port from 1 to 65535"
            )

    @property
    def title(self) -> str:
        """The name of the destination in an audit trail."""
        return self.ae_title

    @property
    def place(self) -> str:
        """The address of the destination, for a person."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A bearer token, or a user with a password; each request reads the secret from its file."""

    token_file: Path | None = None
    user: str = ""
    password_file: Path | None = None

    def authorization(self) -> str:
        """Return the Authorization header; empty without credentials.

        Raises:
            OSError: A file cannot be read.
        """
        if self.token_file is not None:
            return f"Bearer {self.token_file.read_text(encoding='utf-8').strip()}"
        if self.password_file is not None:
            password = self.password_file.read_text(encoding="utf-8").strip("\r\n")
            return f"Basic {base64.b64encode(f'{self.user}:{password}'.encode()).decode()}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebDestination(_Common):
    """A DICOMweb service that takes results by STOW-RS.

    Attributes:
        url: The service; ``/studies`` is appended to it.
        tls: Returns the context for a connection with https.
    """

    url: str
    credentials: Credentials = Credentials()
    tls: TlsContext | None = None

    @property
    def commitment(self) -> bool:
        """DICOMweb has no storage commitment."""
        return False

    @property
    def title(self) -> str:
        """The name of the destination in an audit trail."""
        return self.url

    @property
    def host(self) -> str:
        """The host of the service."""
        return urlsplit(self.url).hostname or ""

    @property
    def place(self) -> str:
        """The address of the destination, for a person."""
        return self.url


Recipient = Destination | WebDestination
"""A destination of either kind."""
