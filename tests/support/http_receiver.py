"""An HTTP server on loopback that answers as a test says, and keeps what it was sent."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from certificates import Pair

TAKEN = json.dumps(
    {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [{"response": {"status": "201 Created"}}],
    }
)


@dataclass(frozen=True)
class Received:
    """One POST: the path, the headers, the body."""

    path: str
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class HttpReceiver:
    """``answers`` are (status, body) of the next requests; then ``usual``; None: no answer.

    With ``trickle`` a body comes byte by byte, a minute for a line or two.
    """

    answers: list[tuple[int, str] | None] = field(default_factory=list)
    usual: tuple[int, str] = (200, TAKEN)
    received: list[Received] = field(default_factory=list)
    port: int = 0
    trickle: bool = False
    ending: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/hook", scheme: str = "http") -> str:
        """Return where it listens."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"


class _Server(ThreadingHTTPServer):
    def __init__(self, receiver: HttpReceiver) -> None:
        super().__init__(("127.0.0.1", receiver.port), _Handler)
        self.receiver = receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address  # a client that does not trust us hangs up


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.received.append(Received(self.path, self.headers, body))
        answer = receiver.answers.pop(0) if receiver.answers else receiver.usual
        if answer is None:
            receiver.ending.wait(60)
            return
        status, text = answer
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", receiver.url("/elsewhere"))
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self._write(text.encode())

    def do_HEAD(self) -> None:
        self.send_response(405)
        self.end_headers()

    def _write(self, body: bytes) -> None:
        receiver = self.server.receiver
        if not receiver.trickle:
            self.wfile.write(body)
            return
        for byte in body:
            if receiver.ending.wait(0.05):
                return
            self.wfile.write(bytes([byte]))

    def log_message(self, *_said: Any) -> None:
        pass


@contextmanager
def http_receiver(
    receiver: HttpReceiver | None = None, *, pair: Pair | None = None
) -> Iterator[HttpReceiver]:
    """Run ``receiver``, on its port if it has one, over TLS with ``pair``."""
    receiver = receiver or HttpReceiver()
    server = _Server(receiver)
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()
