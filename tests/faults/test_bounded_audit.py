"""An audit repository that trickles, floods or never reads holds neither the trail nor the stop."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority
from hostile_peer import Misbehave, Watched, flooding, peer, silent, trickling

from rales.audit.opening import audit_trail
from rales.audit.transports import TlsTransport
from rales.config.sections import AuditConfig

SECONDS = 1.0
BIG = bytes(32_000_000)
"""More than the buffers of both sockets hold."""
MEGABYTES_50 = 50 << 20
Then = Callable[[ssl.SSLSocket, threading.Event], None]
HELLO = b"\x16\x03\x03\x40\x00\x02"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def shaking(
    authority: Authority, then: Callable[[ssl.SSLSocket, threading.Event], None]
) -> Misbehave:
    """Return what shakes hands as it should, and misbehaves afterwards."""
    pair = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def serve(line: socket.socket, over: threading.Event) -> None:
        with context.wrap_socket(line, server_side=True) as secure:
            then(secure, over)

    return serve


def _reading_slowly(line: ssl.SSLSocket, over: threading.Event) -> None:
    while not over.wait(0.02):
        line.recv(16384)


def _never_reading(_line: ssl.SSLSocket, over: threading.Event) -> None:
    over.wait(60)


def sent(port: int, authority: Authority) -> Watched:
    context = ssl.create_default_context(cafile=authority.file)
    transport = TlsTransport("localhost", port, context, whole_seconds=SECONDS)

    def send() -> None:
        try:
            with pytest.raises(OSError, match=r"cut off: it takes too long|timed out|SSL"):
                transport.send(BIG)
        finally:
            transport.close()

    return Watched(send)


@pytest.mark.parametrize(
    "how",
    [silent, trickling(HELLO), flooding(HELLO)],
    ids=["accepts only", "trickles its handshake", "floods"],
)
def test_one_that_misbehaves_in_the_handshake(how: Misbehave, authority: Authority) -> None:
    with peer(how) as port:
        watched = sent(port, authority)
    assert watched.ended
    assert watched.grown < MEGABYTES_50


@pytest.mark.parametrize("then", [_never_reading, _reading_slowly], ids=["never", "slowly"])
def test_one_that_hardly_reads(then: Then, authority: Authority) -> None:
    with peer(shaking(authority, then), buffer=65536) as port:
        watched = sent(port, authority)
    assert watched.ended


def test_a_stop_does_not_wait_for_a_handshake_that_trickles(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()

    def noting(line: socket.socket, over: threading.Event) -> None:
        called.set()
        trickling(HELLO)(line, over)

    def run() -> None:
        config = AuditConfig(to=f"tls://localhost:{port}", ca_file=authority.file)
        with audit_trail(config, "RALES") as hooks:
            assert hooks is not None
            hooks.started()
            assert called.wait(20)

    with caplog.at_level(logging.WARNING), peer(noting) as port:
        watched = Watched(run)
    assert watched.ended
    assert not [one for one in threading.enumerate() if one.name == "audit"]
    assert "audit messages wait" in caplog.text
