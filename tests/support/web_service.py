"""A DICOMweb service for tests: a real HTTP server that answers as it is told."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/dicom+json"
Answer = Callable[["Service", BaseHTTPRequestHandler, bytes], None]


class Service:
    """A DICOMweb service that answers as it is told, and keeps what it was sent."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        service = self
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.bodies.append(body)
                service.headers.append(dict(self.headers.items()))
                answer(service, self, body)

            def do_GET(self) -> None:
                answer(service, self, b"")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/dicom-web"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def says(
    status: int, told: Any = None, kind: str = JSON, **headers: str
) -> Callable[[Service, BaseHTTPRequestHandler, bytes], None]:
    """Return what answers every request in the same way."""

    def answer(_service: Service, handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        content = (
            b"" if told is None else told if isinstance(told, bytes) else json.dumps(told).encode()
        )
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if content:
            handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def named(tag: str, uid: str, **more: int) -> dict[str, Any]:
    """Return a payload (PS3.18 section 10.5.3.2) with one item in the sequence ``tag``."""
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    for keyword, value in more.items():
        number = {"failure": "00081197", "warning": "00081196"}[keyword]
        item[number] = {"vr": "US", "Value": [value]}
    return {tag: {"vr": "SQ", "Value": [item]}}


STORED, FAILED = "00081199", "00081198"


def sent(body: bytes) -> bytes:
    """Return the only part of a multipart body."""
    head, _, rest = body.partition(b"\r\n\r\n")
    boundary = head.strip().split(b"\r\n")[0]
    return rest.rpartition(b"\r\n" + boundary)[0]
