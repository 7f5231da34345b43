"""How audit messages leave: syslog (RFC 5424) over UDP or TLS, or a file of such lines."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dicom_out.network.allowance import Allowance, Bounds, Conversations, CutOff

_FACILITY = 10
"""Security and authorization messages (PS3.15 sections A.6 and A.7)."""
_MESSAGE_ID = "DICOM+RFC3881"
_NIL = "-"
_SILENCE_SECONDS, _WHOLE_SECONDS = 10.0, 20.0
"""For connecting and for one message as a whole: a receiver may read byte by byte."""
_MOST_ANSWER = 1 << 16
_GOODBYE_SECONDS = 1.0
_MOST_HEADER = 255


class Transport(Protocol):
    """Carries one syslog message at a time."""

    def send(self, message: bytes) -> None:
        """Send ``message``.

        Raises:
            OSError: It could not be sent now.
        """

    def cut(self) -> None:
        """End a sending that is under way, from another thread; no further one succeeds."""

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogHeader:
    """The parts of an RFC 5424 header that stay the same."""

    host: str
    application: str
    process: str

    def wrap(self, text: str, *, severity: int, at: datetime) -> bytes:
        """Return one SYSLOG-MSG (RFC 5424 section 6); the UTF-8 text starts with its BOM."""
        priority = _FACILITY * 8 + severity
        fields = (
            f"<{priority}>1",
            at.isoformat(timespec="milliseconds"),
            _field(self.host, _MOST_HEADER),
            _field(self.application, 48),
            _field(self.process, 128),
            _MESSAGE_ID,
            _NIL,
        )
        return " ".join(fields).encode("ascii") + b" \xef\xbb\xbf" + text.encode()


def _field(value: str, longest: int) -> str:
    """Return ``value`` as PRINTUSASCII (RFC 5424 section 6), or the nil value."""
    plain = "".join(one for one in value if "!" <= one <= "~")
    return plain[:longest] or _NIL


class FileTransport:
    """Appends lines to a file that only its owner may read.

    It is opened for each message, so that logrotate may move it away at any time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: bytes) -> None:
        """Append one line; a line break within a message becomes a space."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self._path, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.replace(b"\n", b" ") + b"\n")

    def cut(self) -> None:
        """Do nothing: nobody is waited for."""

    def close(self) -> None:
        """Do nothing: no file is held open."""


class UdpTransport:
    """One datagram a message (RFC 5426); nobody says whether it arrived."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def send(self, message: bytes) -> None:
        """Send one datagram; the name is looked up anew each time."""
        found = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as datagrams:
            datagrams.sendto(message, address)

    def cut(self) -> None:
        """Do nothing: nobody is waited for."""

    def close(self) -> None:
        """Do nothing: no socket is held open."""


class TlsTransport:
    """Octet-counted messages over TLS (RFC 5425); connected when needed, and again.

    Syslog has no acknowledgement: what was sent as a connection broke may be lost. A
    connection that the receiver closed is noticed before the next message is written.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        *,
        whole_seconds: float = _WHOLE_SECONDS,
    ) -> None:
        self._host, self._port = host, port
        self._context = context
        self._connection: ssl.SSLSocket | None = None
        self._under_way = Conversations()
        self._bounds = Bounds(
            silence_seconds=min(_SILENCE_SECONDS, whole_seconds),
            whole_seconds=whole_seconds,
            most_bytes=_MOST_ANSWER,
            under_way=self._under_way,
        )

    def send(self, message: bytes) -> None:
        """Send one frame: MSG-LEN SP SYSLOG-MSG (RFC 5425 section 4.3)."""
        with Allowance(self._bounds) as allowance:
            try:
                self._connected(allowance).sendall(b"%d %s" % (len(message), message))
            except OSError as error:
                self._drop()
                if allowance.spent:
                    where = f"{self._host}:{self._port}"
                    raise CutOff(f"{where} was cut off: {allowance.spent}") from error
                raise

    def cut(self) -> None:
        """End a sending that is under way, from another thread; no further one succeeds."""
        self._under_way.cut("the node stops")

    def _connected(self, allowance: Allowance) -> ssl.SSLSocket:
        """Return a connection that stands, an older one or a new one."""
        present = self._connection
        if present is not None and not _is_closed(present):
            allowance.hold(present)
            return present
        self.close()
        address = (self._host, self._port)
        plain = socket.create_connection(address, self._bounds.connect_seconds)
        allowance.hold(plain)
        try:
            self._connection = self._context.wrap_socket(plain, server_hostname=self._host)
        except OSError:
            plain.close()
            raise
        return self._connection

    def _drop(self) -> None:
        """Close the connection without a word: there is nobody to hear it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection, with a close_notify (RFC 5425 section 4.4) where that works."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.settimeout(_GOODBYE_SECONDS)
        with suppress(OSError), connection.unwrap():
            pass
        connection.close()


def tls_context(
    ca_file: Path | None, certificate_file: Path | None, key_file: Path | None
) -> ssl.SSLContext:
    """Return a client context: TLS 1.2 at least, the receiver's certificate is checked.

    Raises:
        OSError: A file cannot be read or is not what it should be.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate_file is not None:
        context.load_cert_chain(certificate_file, key_file)
    return context


def _is_closed(connection: ssl.SSLSocket) -> bool:
    """Tell whether the receiver closed: a syslog receiver never writes."""
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except (ssl.SSLWantReadError, BlockingIOError):
        return False
    finally:
        connection.settimeout(timeout)
