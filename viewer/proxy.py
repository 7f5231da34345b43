"""Serves a viewer and the DICOMweb service of its PACS from one origin, on this machine only.

It replaces the nginx of ``deploy/compose/nginx.conf``: it serves the files of the viewer, its
configuration and ``GET /dicom-web/``. No other path of the PACS is reachable.
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
    """The content of the server.

    Attributes:
        files: The built viewer. An unknown path returns its start page, as its routes need.
        config: Its ``app-config.js``.
        pacs: The port of the web interface of the PACS on this machine.
    """

    files: Path
    config: Path
    pacs: int


@contextmanager
def serve_site(site: Site, port: int) -> Iterator[str]:
    """Serve ``site`` on ``port`` of the loopback interface (0: any port) and yield its URL.

    Raises:
        DemoFailed: The port cannot be used.
    """
    try:
        server = _Server(("127.0.0.1", port), partial(_Handler, site))
    except OSError as error:
        raise DemoFailed(
            f"port {port} of this machine cannot be used: {error.strerror}; choose another"
        ) from error
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # browsers keep connections open
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, *args: Any) -> None:
        self._site = site
        super().__init__(*args)

    def do_GET(self) -> None:
        # A web page whose host name resolves to this machine must not read the studies.
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in {"localhost", "127.0.0.1"}:
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers requests to localhost only")
        elif self.path.startswith(_DICOMWEB):
            self._forward()
        else:
            self._file()

    def log_message(self, *_args: Any) -> None:
        """Log nothing: URLs contain Study Instance UIDs."""

    def _forward(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._site.pacs, timeout=_PACS_SECONDS)
        # Orthanc builds BulkDataURIs from the Host header.
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
        requested = unquote(urlsplit(self.path).path)
        files = self._site.files.resolve()
        path = (files / requested.lstrip("/")).resolve()
        if requested == "/app-config.js":
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
        # Browsers need both headers to allow SharedArrayBuffer, which the viewer uses for volumes.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(body)
