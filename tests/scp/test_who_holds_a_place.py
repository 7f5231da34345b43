"""Who is rejected holds no place, and who does not read is not waited for."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pynetdicom_guard import limits as guard
from pynetdicom_guard.sockets import GuardedSend, Limits
from scp.admission import Admission
from scp.server import RunningScp

from .conftest import associate_request, make_ct, store

Serve = Callable[..., RunningScp]


def _rejected(port: int) -> socket.socket:
    """Ask as a stranger, read the A-ASSOCIATE-RJ, and keep the connection open."""
    line = socket.create_connection(("127.0.0.1", port), timeout=20)
    line.sendall(
        associate_request(CTImageStorage, ExplicitVRLittleEndian, called="RALES", calling="NOBODY")
    )
    assert line.recv(1) == b"\x03"
    return line


def test_rejected_callers_that_stay_keep_no_known_one_out(serve: Serve) -> None:
    node = serve(admission=Admission(callers={"SCANNER": ()}), maximum_associations=2)
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(_rejected(node.port))
        assert store(node, make_ct()).Status == 0x0000


def test_rejected_callers_count_for_no_address(serve: Serve) -> None:
    admission = Admission(callers={"SCANNER": ()}, maximum_per_address=1)
    node = serve(admission=admission)
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(_rejected(node.port))
        assert store(node, make_ct()).Status == 0x0000


def test_the_oldest_of_too_many_rejected_callers_goes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_MAXIMUM_IDLE_CONNECTIONS", 3)
    node = serve(admission=Admission(callers={"SCANNER": ()}))
    with ExitStack() as stack:
        lines = [stack.enter_context(_rejected(node.port)) for _ in range(6)]
        lines[0].settimeout(5)  # ARTIM alone would take 10
        while lines[0].recv(4096):
            pass


@pytest.mark.parametrize("length", [1 << 18, 1 << 20])
def test_a_stranger_has_no_megabyte_to_ask_in(serve: Serve, length: int) -> None:
    node = serve()
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as line:
        line.sendall(struct.pack(">BBL", 0x01, 0, length))
        assert line.recv(1) == b""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            yield near, far


def _send(near: socket.socket, seconds: float) -> tuple[GuardedSend, list[str]]:
    events: list[str] = []
    association: Any = SimpleNamespace(
        requestor=SimpleNamespace(address="192.0.2.1"),
        dul=SimpleNamespace(
            socket=SimpleNamespace(socket=near), event_queue=SimpleNamespace(put=events.append)
        ),
    )
    limits = Limits(maximum_pdu=16384, request_seconds=seconds, pdu_seconds=seconds)
    return GuardedSend(near, association, limits), events


def test_a_peer_that_never_reads_is_hung_up_on(
    pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    near, far = pair
    send, events = _send(near, 0.2)
    with caplog.at_level(logging.WARNING):
        send(bytes(64 << 20))
    assert events == ["Evt17"]
    assert "192.0.2.1: closed: it did not read within 0.2 s" in caplog.text
    far.settimeout(20)
    while far.recv(1 << 20):  # it reads what was on its way, and then the end
        pass


def test_a_peer_that_reads_byte_by_byte_is_hung_up_on_too(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    send, events = _send(near, 0.5)
    done = threading.Event()

    def trickle() -> None:
        while not done.wait(0.01) and far.recv(1):
            pass

    reader = threading.Thread(target=trickle)
    reader.start()
    send(bytes(64 << 20))
    done.set()
    reader.join(20)
    assert events == ["Evt17"]


def test_what_is_read_arrives_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    send, events = _send(near, 20)
    content = bytes(range(256)) * 8192
    got = bytearray()

    def read() -> None:
        while len(got) < len(content):
            got.extend(far.recv(1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    send(content)
    reader.join(20)
    assert (bytes(got), events) == (content, [])
