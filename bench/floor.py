"""The durable floor: the least that a receiver must do before it may answer 0x0000.

A bare loop takes what dcmtk's storescu sends, writes each data set to a file, syncs the file and
its folder, and answers. It checks nothing, and it serves nothing but the benchmarks.

    python bench/floor.py PORT FOLDER
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from pathlib import Path

_EXPLICIT = b"1.2.840.10008.1.2.1"
_MAXIMUM_PDU = 131072
_ASSOCIATE_AC, _DATA, _RELEASE_RQ, _RELEASE_RP = 2, 4, 5, 6
_CONTEXT, _CONTEXT_AC, _SYNTAX, _USER, _LENGTH, _CLASS = 0x20, 0x21, 0x40, 0x50, 0x51, 0x52


def _items(data: bytes) -> list[tuple[int, bytes]]:
    """Return the (type, content) of the items of an association PDU."""
    found, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxH", data, at)
        found.append((kind, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _accept(request: bytes) -> bytes:
    """Return the A-ASSOCIATE-AC that takes every context, uncompressed if offered."""
    contexts = b""
    for kind, content in _items(request[68:]):
        if kind == _CONTEXT:
            offered = [value for sub, value in _items(content[4:]) if sub == _SYNTAX]
            syntax = _EXPLICIT if _EXPLICIT in offered else offered[0]
            contexts += _item(_CONTEXT_AC, bytes([content[0], 0, 0, 0]) + _item(_SYNTAX, syntax))
    user = _item(_LENGTH, struct.pack(">I", _MAXIMUM_PDU)) + _item(_CLASS, b"1.2.3.4")
    body = request[:68] + _item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + _item(_USER, user)
    return struct.pack(">BxI", _ASSOCIATE_AC, len(body)) + body


def _answer(context: int, command: bytes) -> tuple[bytes, bool]:
    """Return the response of success, and whether a data set follows the request."""
    values, at = {}, 0
    while at < len(command):
        group, element, length = struct.unpack_from("<HHI", command, at)
        values[group, element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    kind = struct.unpack("<H", values[0, 0x100])[0]
    elements = [
        (0x0002, values[0, 0x0002]),
        (0x0100, struct.pack("<H", kind | 0x8000)),
        (0x0120, values[0, 0x0110]),
        (0x0800, b"\x01\x01"),
        (0x0900, b"\0\0"),
    ]
    if (0, 0x1000) in values:
        elements.append((0x1000, values[0, 0x1000]))
    body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements)
    body = struct.pack("<HHII", 0, 0, 4, len(body)) + body
    pdv = struct.pack(">IBB", len(body) + 2, context, 3) + body
    return struct.pack(">BxI", _DATA, len(pdv)) + pdv, values[0, 0x800] != b"\x01\x01"


def _serve(connection: socket.socket, folder: Path, prefix: str) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = connection.makefile("rb", buffering=1 << 20)
    answer, command, number = b"", b"", 0
    file = None
    while header := stream.read(6):
        kind, length = struct.unpack(">BxI", header)
        body = stream.read(length)
        if kind == _RELEASE_RQ:
            connection.sendall(struct.pack(">BxII", _RELEASE_RP, 4, 0))
            break
        if kind != _DATA:
            connection.sendall(_accept(body))
            continue
        at = 0
        while at < len(body):
            size, context, control = struct.unpack_from(">IBB", body, at)
            part = memoryview(body)[at + 6 : at + 4 + size]
            at += 4 + size
            if control & 1:
                command += part
                if control & 2:
                    answer, has_data = _answer(context, command)
                    command = b""
                    if not has_data:
                        connection.sendall(answer)
                continue
            if file is None:
                number += 1
                file = (folder / f"{prefix}-{number}.dcm").open("wb")
            file.write(part)
            if control & 2:
                file.flush()
                os.fsync(file.fileno())
                file.close()
                file = None
                _sync(folder)
                connection.sendall(answer)
    connection.close()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def main() -> None:
    """Receive until the process is terminated."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", port)) as server:
        for number in range(1 << 30):
            connection, _ = server.accept()
            threading.Thread(
                target=_serve, args=(connection, folder, str(number)), daemon=True
            ).start()


if __name__ == "__main__":
    main()
