"""Transports of audit messages: syslog (RFC 5424) over UDP or TLS, or a file of syslog lines."""

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
"""Limits of one silence and of the time for a whole message: a receiver may read slowly."""
_MOST_ANSWER = 1 << 16
_GOODBYE_SECONDS = 1.0
_MOST_HEADER = 255


class Transport(Protocol):
    """Carries one syslog message at a time."""

    def send(self, message: bytes) -> None:
        """Send ``message``.

        Raises:
            OSError: The message could not be sent now.
        """

    def cut(self) -> None:
        """End a running :meth:`send`, from another thread; no further message is sent."""

    def close(self) -> None:
        """Release connections and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogHeader:
    """The parts of an RFC 5424 header that are the same in all messages."""

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
    plain = "".join(character for character in value if "!" <= character <= "~")
    return plain[:longest] or _NIL


class FileTransport:
    """Appends lines to a file that only its owner can read.

    The file is opened for each message, so that logrotate can move it at any time.
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
        """Do nothing: sending never waits."""

    def close(self) -> None:
        """Do nothing: no file stays open."""


class UdpTransport:
    """Sends one datagram per message (RFC 5426); UDP does not report whether it arrived."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def send(self, message: bytes) -> None:
        """Send one datagram; the host name is resolved each time."""
        addresses = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = addresses[0]
        with socket.socket(family, kind, protocol) as datagrams:
            datagrams.sendto(message, address)

    def cut(self) -> None:
        """Do nothing: sending never waits."""

    def close(self) -> None:
        """Do nothing: no socket stays open."""


class TlsTransport:
    """Sends octet-counted messages over TLS (RFC 5425); connects when needed.

    Syslog has no acknowledgement: messages sent while a connection breaks may be lost. A
    connection that the receiver closed is replaced before the next message is sent.
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
        """End a running :meth:`send`, from another thread; no further message is sent."""
        self._under_way.cut("the node stops")

    def _connected(self, allowance: Allowance) -> ssl.SSLSocket:
        """Return an open connection, a new one if needed."""
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
        """Close a broken connection, without close_notify."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection, with close_notify (RFC 5425 section 4.4) if possible."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.settimeout(_GOODBYE_SECONDS)
        with suppress(OSError), connection.unwrap():
            pass
        connection.close()


def _is_closed(connection: ssl.SSLSocket) -> bool:
    """Return whether the receiver closed the connection; a syslog receiver never writes."""
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except (ssl.SSLWantReadError, BlockingIOError):
        return False
    finally:
        connection.settimeout(timeout)
