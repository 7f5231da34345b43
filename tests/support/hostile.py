"""What a hostile peer may send, and a socket that sends it without any manners.

The corpus is made by code, always the same: :mod:`hostile_pdus` (PS3.8), :mod:`hostile_messages`
(PS3.7) and :mod:`hostile_datasets` (PS3.5) each give a list of :class:`Attack`.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Self

from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
CONTEXTS = {
    1: (CTImageStorage, ExplicitVRLittleEndian),
    3: (CTImageStorage, ImplicitVRLittleEndian),
    5: (VERIFICATION, ImplicitVRLittleEndian),
    7: (CTImageStorage, DeflatedExplicitVRLittleEndian),
    9: (CTImageStorage, RLELossless),
    11: (CTImageStorage, JPEG2000Lossless),
    13: (CTImageStorage, JPEGLSLossless),
    15: (CTImageStorage, JPEGLosslessSV1),
}
"""The presentation contexts of every established attack."""
CONTEXT_OF = {syntax: number for number, (kind, syntax) in CONTEXTS.items() if kind != VERIFICATION}

_FRAGMENT = 1 << 16
_MOMENT = 5.0
RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = 1, 2, 3, 4, 5, 6, 7


class Fate(Enum):
    """What the node must do with an attack."""

    ENDED = auto()
    """It rejects, aborts or closes by itself."""
    REFUSED = auto()
    """It answers a status that is neither success nor a warning."""
    TAKEN = auto()
    """It stores it: odd, but a whole data set that is what it claims to be."""
    ENDED_OR_REFUSED = auto()
    SURVIVED = auto()
    """It may wait for more, or answer anything but a success to a C-STORE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Bytes for the node.

    Attributes:
        established: They are sent inside an association with :data:`CONTEXTS`.
        content: The data set of a C-STORE, when there is one whose fate matters.
    """

    name: str
    payload: bytes
    fate: Fate
    established: bool = False
    content: bytes | None = None


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """Return a PDU (PS3.8 section 9.3); ``length`` lies."""
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def item(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """Return a variable item of an association request; ``length`` lies."""
    return struct.pack(">BBH", kind, 0, len(body) if length is None else length) + body


def context_item(number: int, abstract: bytes, *syntaxes: bytes) -> bytes:
    """Return a proposed presentation context (PS3.8 section 9.3.2.2)."""
    inner = item(0x30, abstract) + b"".join(item(0x40, one) for one in syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + inner)


def user_items() -> list[bytes]:
    """Return the sub-items that everybody sends (PS3.7 annex D.3.3)."""
    return [
        item(0x51, struct.pack(">L", 16382)),
        item(0x52, b"1.2.826.0.1.3680043.9.3811.0.0"),
        item(0x55, b"HOSTILE"),
    ]


def request_head(
    *, called: bytes = b"RALES", calling: bytes = b"HOSTILE", version: int = 1
) -> bytes:
    """Return the fixed fields of an A-ASSOCIATE-RQ."""
    return struct.pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)


def associate(items: list[bytes] | None = None, *, head: bytes | None = None) -> bytes:
    """Return an A-ASSOCIATE-RQ, by default the one of :data:`CONTEXTS`."""
    body = b"".join(request_items() if items is None else items)
    return pdu(RQ, (request_head() if head is None else head) + body)


def request_items() -> list[bytes]:
    """Return the items of an honest request."""
    return [
        item(0x10, APPLICATION_CONTEXT),
        *(
            context_item(number, str(kind).encode(), str(syntax).encode())
            for number, (kind, syntax) in CONTEXTS.items()
        ),
        item(0x50, b"".join(user_items())),
    ]


def p_data(content: bytes, *, control: int, context: int = 1) -> bytes:
    """Return a P-DATA-TF of one presentation data value (PS3.8 section 9.3.5)."""
    return pdu(DATA, struct.pack(">LBB", len(content) + 2, context, control) + content)


def command_element(element: int, value: bytes, *, length: int | None = None) -> bytes:
    """Return an element of a command set: group 0000, implicit VR."""
    return struct.pack("<HHL", 0, element, len(value) if length is None else length) + value


def store_command(
    *, instance: bytes, sop_class: bytes = str(CTImageStorage).encode()
) -> dict[int, bytes]:
    """Return the elements of a C-STORE-RQ (PS3.7 section 9.3.1.1) by element number."""
    return {
        0x0002: _even(sop_class),
        0x0100: b"\x01\x00",
        0x0110: b"\x07\x00",
        0x0700: b"\x00\x00",
        0x0800: b"\x01\x00",
        0x1000: _even(instance),
    }


def command_set(elements: dict[int, bytes]) -> bytes:
    """Return an encoded command set with its group length."""
    body = b"".join(command_element(number, value) for number, value in sorted(elements.items()))
    return command_element(0x0000, struct.pack("<L", len(body))) + body


def message(command: bytes, content: bytes | None, *, context: int = 1) -> bytes:
    """Return the PDUs of a message."""
    pdus = p_data(command, control=0x03, context=context)
    if content is not None:
        for place in range(0, max(len(content), 1), _FRAGMENT):
            last = place + _FRAGMENT >= len(content)
            part = content[place : place + _FRAGMENT]
            pdus += p_data(part, control=0x02 if last else 0x00, context=context)
    return pdus


def store_attack(
    name: str,
    content: bytes,
    fate: Fate,
    *,
    instance: bytes = b"1.2.3",
    syntax: UID = ExplicitVRLittleEndian,
) -> Attack:
    """Return an attack by the data set of an otherwise honest C-STORE."""
    command = command_set(store_command(instance=instance))
    return Attack(
        name=name,
        payload=message(command, content, context=CONTEXT_OF[syntax]),
        fate=fate,
        established=True,
        content=content,
    )


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)


class Wire:
    """A bare socket to the node."""

    def __init__(self, port: int, *, seconds: float) -> None:
        self._seconds = seconds
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, content: bytes) -> None:
        """Send; the node may hang up in the middle of it."""
        try:
            self.socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError):
            return

    def read(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; (0, b"") when the node hung up.

        Raises:
            TimeoutError: Nothing came in time.
        """
        end = time.monotonic() + self._seconds
        head = self._exactly(6, end)
        if len(head) < 6:
            return 0, b""
        return head[0], self._exactly(struct.unpack(">L", head[2:])[0], end)

    def establish(self) -> None:
        """Ask for an association with :data:`CONTEXTS`."""
        self.send(associate())
        kind, _ = self.read()
        assert kind == AC, f"the node answered an honest request with PDU type {kind}"

    def status(self) -> int | None:
        """Return the status of the next answer; None when the node ended the association."""
        kind, body = self.read()
        if kind != DATA:
            return None
        place = 6  # behind the head of the presentation data value
        while place + 8 <= len(body):
            group, element, length = struct.unpack("<HHL", body[place : place + 8])
            if (group, element) == (0x0000, 0x0900):
                status: int = struct.unpack("<H", body[place + 8 : place + 10])[0]
                return status
            place += 8 + length
        raise AssertionError("an answer without a status")

    def hurry(self) -> None:
        """Say that nothing more will be sent, and wait no longer than a moment for an answer."""
        self._seconds = _MOMENT
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def release(self) -> None:
        """End the association as one should."""
        self.send(pdu(RELEASE_RQ, bytes(4)))
        kind, _ = self.read()
        assert kind == RELEASE_RP, f"PDU type {kind} instead of a release"

    def _exactly(self, count: int, end: float) -> bytes:
        content = b""
        while len(content) < count:
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                part = self.socket.recv(min(count - len(content), 1 << 16))
            except ConnectionResetError:
                part = b""
            if not part:
                return content
            content += part
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()


def echo(port: int, *, seconds: float) -> float:
    """Have a C-ECHO answered over an association of its own; return how long that took.

    Raises:
        TimeoutError: It was not answered in time.
    """
    start = time.monotonic()
    command = command_set(
        {
            0x0002: _even(VERIFICATION.encode()),
            0x0100: b"\x30\x00",
            0x0110: b"\x01\x00",
            0x0800: b"\x01\x01",
        }
    )
    with Wire(port, seconds=seconds) as wire:
        wire.establish()
        wire.send(message(command, None, context=5))
        assert wire.status() == 0
        wire.release()
    return time.monotonic() - start
