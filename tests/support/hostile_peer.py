"""Destinations on raw sockets that never come to an end: they trickle, flood or say nothing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Misbehave = Callable[[socket.socket, threading.Event], None]
"""What is done on a connection, until the event is set or the line is cut."""

RELEASE = 0x05
DATA = 0x04
PATIENCE = 60.0
"""Seconds that no test waits."""
_TRICKLE_SECONDS = 0.05


@contextmanager
def peer(misbehave: Misbehave, *, buffer: int | None = None) -> Iterator[int]:
    """Listen, and misbehave on every connection; yield the port."""
    over = threading.Event()
    lines: list[socket.socket] = []
    with socket.socket() as listener:
        if buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve(line: socket.socket) -> None:
            with suppress(OSError), line:
                misbehave(line, over)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    lines.append(line)
                    threading.Thread(target=serve, args=[line], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for line in lines:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)


def silent(_line: socket.socket, over: threading.Event) -> None:
    """Accept the connection, and neither read nor write."""
    over.wait(PATIENCE)


def trickling(start: bytes = b"") -> Misbehave:
    """Return what sends ``start``, and then a byte now and then."""

    def trickle(line: socket.socket, over: threading.Event) -> None:
        line.sendall(start)
        while not over.wait(_TRICKLE_SECONDS):
            line.sendall(b"\0")

    return trickle


def flooding(start: bytes, megabytes: int = 300) -> Misbehave:
    """Return what sends ``start``, and then more than anybody should keep."""

    def flood(line: socket.socket, over: threading.Event) -> None:
        line.sendall(start)
        for _ in range(megabytes):
            if over.is_set():
                return
            line.sendall(bytes(1 << 20))
        over.wait(PATIENCE)

    return flood


def endless_message(context: int = 1, command: bool = True) -> Misbehave:  # noqa: FBT001, FBT002
    """Return what sends fragment after fragment of a message, none of them the last."""
    fragment = bytes(30_000)
    value = struct.pack(">IBB", len(fragment) + 2, context, int(command)) + fragment
    pdu = struct.pack(">BBI", DATA, 0, len(value)) + value

    def send(line: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            line.sendall(pdu)

    return send


def header(kind: int, length: int) -> bytes:
    """Return the first six bytes of a PDU."""
    return struct.pack(">BBI", kind, 0, length)


def read_pdu(line: socket.socket) -> bytes:
    """Return a whole PDU; empty at the end."""
    start = _exactly(line, 6)
    if not start:
        return b""
    return start + _exactly(line, struct.unpack(">I", start[2:])[0])


def _exactly(line: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = line.recv(count - len(parts))
        if not part:
            return b""
        parts += part
    return parts


def after(kinds: dict[int, Misbehave], behind: int) -> Misbehave:
    """Return what passes PDUs on to the port ``behind``, until one comes whose kind is named.

    That one is not answered, but with the misbehaviour.
    """

    def relay(line: socket.socket, over: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", behind)) as server:

            def back() -> None:
                with suppress(OSError):
                    while pdu := read_pdu(server):
                        line.sendall(pdu)

            answers = threading.Thread(target=back, daemon=True)
            answers.start()
            while pdu := read_pdu(line):
                if misbehave := kinds.get(pdu[0]):
                    misbehave(line, over)
                    break
                server.sendall(pdu)
            server.shutdown(socket.SHUT_RDWR)
            answers.join()

    return relay


class Watched:
    """Does something in a thread; knows whether it ended in time and what memory it took."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self.grown = 0
        before = resident()

        def run() -> None:
            try:
                self.result = action()
            except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
                self.error = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        waits = threading.Event()
        for _ in range(int(PATIENCE / 4 / 0.01)):
            self.grown = max(self.grown, resident() - before)
            if not thread.is_alive():
                break
            waits.wait(0.01)
        self.ended = not thread.is_alive()
        if self.error is not None:
            raise self.error


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096
