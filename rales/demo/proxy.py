"""One origin for a viewer and the DICOMweb of its PACS, on this machine only.

What ``deploy/compose/nginx.conf`` does in the compose file, without nginx: the viewer's files, the
configuration that ships, and ``GET /dicom-web/``; nothing else of the PACS can be reached.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from rales.demo.pacs import DemoFailed

_DICOMWEB = "/dicom-web/"
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_PACS_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is served.

    Attributes:
        files: The built viewer; a path that it has not is its start page, as its routes want.
        config: Its ``app-config.js``.
        pacs: Port of the PACS's web interface on this machine.
    """

    files: Path
    config: Path
    pacs: int


@contextmanager
def serve_site(site: Site, port: int) -> Iterator[str]:
    """Serve ``site`` at ``port`` of the loopback interface (0: any) and yield its URL.

    Raises:
        DemoFailed: The port is taken.
    """
    try:
        server = _Server(("127.0.0.1", port), partial(_Handler, site))
    except OSError as error:
        raise DemoFailed(f"port {port} of this machine: {error.strerror}") from error
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a browser keeps its connections open
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, *args: Any) -> None:
        self._site = site
        super().__init__(*args)

    def do_GET(self) -> None:
        # A page of elsewhere that has its own name point here must not read the studies.
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in {"localhost", "127.0.0.1"}:
            self.send_error(HTTPStatus.FORBIDDEN, "for this machine only")
        elif self.path.startswith(_DICOMWEB):
            self._forward()
        else:
            self._file()

    def log_message(self, *_args: Any) -> None:
        """Say nothing: URLs name studies."""

    def _forward(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._site.pacs, timeout=_PACS_SECONDS)
        # Orthanc builds its BulkDataURIs from the host that the browser asked for.
        headers = {name: self.headers[name] for name in ("Host", "Accept") if name in self.headers}
        try:
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException) as error:
            self.send_error(HTTPStatus.BAD_GATEWAY, f"the PACS did not answer: {error}")
            return
        finally:
            connection.close()
        kind = answer.headers.get("Content-Type", "application/octet-stream")
        self._answer(answer.status, kind, body)

    def _file(self) -> None:
        wanted = unquote(urlsplit(self.path).path)
        files = self._site.files.resolve()
        path = (files / wanted.lstrip("/")).resolve()
        if wanted == "/app-config.js":
            path = self._site.config
        elif not (path.is_file() and path.is_relative_to(files)):
            path = files / "index.html"
        guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self._answer(HTTPStatus.OK, _TYPES.get(path.suffix, guessed), path.read_bytes())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        # Both make the browser grant SharedArrayBuffer, which the viewer's volumes use.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(body)
