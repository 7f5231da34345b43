"""The HTTP client of STOW-RS, QIDO-RS, WADO-RS, webhooks and FHIR: conversations with limits.

Every request has the limits of an :class:`~dicom_out.network.allowance.Allowance`. No redirect is
followed: a POST would become a GET and look like success, and a patient's data would go to another
place than the configured one. No proxy of the environment is used.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from chestct.errors import ConfigError
from dicom_out.network.allowance import Allowance, Bounds

_CHUNK = 1 << 16


class RequestFailed(Exception):
    """A request has no usable answer.

    Attributes:
        reached: Whether there was a connection; where not, no other request fares better.
    """

    def __init__(self, message: str, *, reached: bool) -> None:
        super().__init__(message)
        self.reached = reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a request; the names in ``headers`` are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    redirects: bool = False

    @property
    def media_type(self) -> str:
        """The media type, without parameters; empty where none is given."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


class HttpClient:
    """A conversation with a service; :func:`open_client` opens it."""

    def __init__(
        self, url: str, pool: urllib3.HTTPConnectionPool, allowance: Allowance, authorization: str
    ) -> None:
        self.url = url
        self._target = urllib3.util.parse_url(url).request_uri
        self._pool = pool
        self._allowance = allowance
        self._headers = {"Authorization": authorization} if authorization else {}

    def request(
        self,
        method: str,
        path: str = "",
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        at_most: int | None = None,
    ) -> Answer:
        """Send a request and read the answer.

        Args:
            method: The HTTP method.
            path: Is appended to the URL of the service.
            query: Names and values of the query.
            headers: Headers beside those of every request.
            body: Sent as a whole: many servers accept no chunked body.
            at_most: Read only so many bytes of the answer, and ignore how its body ends; None:
                read all of it.

        Raises:
            CutOff: The conversation was cut off; the message says why.
            RequestFailed: There is no usable answer.
        """
        try:
            response = self._pool.urlopen(
                method,
                self._target_of(path, query),
                body=body,
                headers={**self._headers, **(headers or {})},
                redirect=False,
                retries=False,
                preload_content=False,
            )
            return self._answer(response, at_most)
        except (HTTPError, OSError, ValueError) as error:
            self._allowance.check(error)
            raise self._failure(error) from error

    def _target_of(self, path: str, query: Sequence[tuple[str, str]]) -> str:
        # The target of a URL without a path is "/".
        target = self._target.removesuffix("/") + path if path else self._target
        return f"{target}?{urlencode(query)}" if query else target

    def _answer(self, response: urllib3.BaseHTTPResponse, at_most: int | None) -> Answer:
        try:
            self._allowance.check()  # a head that is cut off looks like a whole one
            content = self._read(response, at_most)
            if at_most is None:
                self._allowance.check()
        except BaseException:
            response.close()
            raise
        if at_most is None:
            response.release_conn()
        else:
            response.close()
        return Answer(
            status=response.status,
            headers=response.headers,
            content=content,
            redirects=bool(response.get_redirect_location()),
        )

    def _read(self, response: urllib3.BaseHTTPResponse, at_most: int | None) -> bytes:
        """Read the body; the bytes that count are the unpacked ones."""
        content = bytearray()
        if at_most is None:
            for chunk in response.stream(_CHUNK, decode_content=True):
                self._allowance.take(len(chunk))
                content += chunk
            return bytes(content)
        try:
            while len(content) < at_most and (chunk := response.read1(at_most - len(content))):
                content += chunk
        except (HTTPError, OSError):
            if not self._allowance.spent:
                raise
        return bytes(content)

    def _failure(self, error: Exception) -> RequestFailed:
        if isinstance(error, ReadTimeoutError):
            return RequestFailed(
                "no answer in time; the service may have carried the request out", reached=True
            )
        if isinstance(error, NewConnectionError | ConnectTimeoutError | SSLError):
            return RequestFailed(f"{self.url}: no connection: {_cause(error)}", reached=False)
        if isinstance(error, ValueError) and not isinstance(error, HTTPError):
            # Not quoted: the value of a header may be a secret.
            return RequestFailed("a header of the request has an invalid value", reached=False)
        return RequestFailed(f"{self.url}: {_cause(error)}", reached=True)


@contextmanager
def open_client(
    url: str,
    *,
    bounds: Bounds,
    tls: Callable[[], ssl.SSLContext] | None = None,
    authorization: str = "",
) -> Iterator[HttpClient]:
    """Yield a client for the service at ``url``.

    Args:
        url: The service; ``https`` needs ``tls``.
        bounds: What the conversation may cost.
        tls: Makes the context of the connection.
        authorization: The Authorization header; empty: none is sent.

    Raises:
        RequestFailed: A file of the TLS configuration cannot be read.
    """
    with Allowance(bounds) as allowance:
        options: dict[str, Any] = {}
        if tls is not None and url.startswith("https:"):
            try:
                options["ssl_context"] = tls()
            except ConfigError as error:
                raise RequestFailed(str(error), reached=False) from error
        pool = urllib3.connection_from_url(
            url,
            timeout=urllib3.Timeout(connect=bounds.connect_seconds, read=bounds.silence_seconds),
            **options,
        )
        _hold_connections(pool, allowance)
        try:
            yield HttpClient(url, pool, allowance, authorization)
        finally:
            pool.close()


def _hold_connections(pool: Any, allowance: Allowance) -> None:
    """Let the allowance hold each connection of the pool, from before its TLS handshake."""
    kind = type(pool).ConnectionCls

    class Held(kind):  # type: ignore[misc, valid-type]
        def _new_conn(self) -> Any:
            line = super()._new_conn()
            allowance.hold(line)
            return line

    pool.ConnectionCls = Held


def _cause(error: BaseException) -> str:
    """Return the text of the innermost error: urllib3's own texts name objects in memory."""
    while True:
        inner = error.__cause__ or next(
            (part for part in error.args if isinstance(part, BaseException)), None
        )
        if inner is None:
            return str(error) or type(error).__name__
        error = inner
