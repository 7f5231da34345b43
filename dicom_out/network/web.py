"""A DICOMweb service, and a client for it whose conversations are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from chestct.results import Extra, SegKind
from dicom_out.network.allowance import Allowance, Bounds, CutOff
from dicom_out.network.outcome import Outcome, failed

Answers = list[requests.Response]
"""What came over the line; dicomweb-client keeps most of it to itself."""

_WHOLE = 1 << 40
"""Bytes of one piece: an object travels whole, since many servers take no chunked bodies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A bearer token, or a user with a password; each secret is read from its file every time."""

    token_file: Path | None = None
    user: str = ""
    password_file: Path | None = None

    def read(self) -> AuthBase | None:
        """Return what authenticates a request; None: nothing does.

        Raises:
            OSError: A file cannot be read.
        """
        if self.token_file is not None:
            return _Bearer(self.token_file.read_text(encoding="utf-8").strip())
        if self.password_file is not None:
            password = self.password_file.read_text(encoding="utf-8").strip("\r\n")
            return HTTPBasicAuth(self.user.encode(), password.encode())
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebDestination:
    """A DICOMweb service that takes results by STOW-RS.

    Attributes:
        url: Of the service; ``/studies`` is added to it.
        ca_file: Whom to believe with https; none: whom this machine believes.
        own: Certificate and key to show where they are asked for.

    The others are those of :class:`dicom_out.network.destination.Destination`.
    """

    name: str
    url: str
    credentials: Credentials = Credentials()
    ca_file: Path | None = None
    own: tuple[Path, Path | None] | None = None
    segmentation: SegKind = SegKind.BINARY
    extras: tuple[Extra, ...] = ()
    fallback: tuple[Extra, ...] = ()

    @property
    def commitment(self) -> bool:
        """DICOMweb has no storage commitment."""
        return False

    @property
    def title(self) -> str:
        """Who it is, in an audit trail."""
        return self.url

    @property
    def host(self) -> str:
        """Where it is."""
        return urlsplit(self.url).hostname or ""

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return self.url


@contextmanager
def client_of(
    destination: WebDestination, bounds: Bounds
) -> Iterator[tuple[DICOMwebClient, Answers]]:
    """Yield a client with a session of its own, and the list of what comes over the line.

    The bytes that are counted are unpacked ones, of all answers together.

    Raises:
        OSError: A file with a secret cannot be read.
        CutOff: The conversation was cut off; the message says why.
    """
    with Allowance(bounds) as allowance, closing(requests.Session()) as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Counting(allowance))
        session.trust_env = False  # no proxy and no password that the file does not name
        session.max_redirects = 0  # followed, a POST becomes a GET, and looks like success
        session.auth = destination.credentials.read()
        session.verify = str(destination.ca_file) if destination.ca_file else True
        if destination.own is not None:
            certificate, key = destination.own
            session.cert = (str(certificate), str(key)) if key else str(certificate)
        client = DICOMwebClient(
            destination.url,
            session=session,
            chunk_size=_WHOLE,
            timeout=(bounds.connect_seconds, bounds.silence_seconds),
        )
        client.set_http_retry_params(retry=False)
        answers: Answers = []
        session.hooks["response"].append(lambda one, **_: answers.append(one))
        try:
            yield client, answers
        except (OSError, ValueError) as error:
            allowance.check(error)
            raise
        allowance.check()  # a head that is cut off looks like a whole answer without a body


def outcome_of_error(error: OSError | ValueError, destination: WebDestination) -> Outcome:
    """Return the outcome of a request that was not answered, or not so that it can be read."""
    reached = False
    if isinstance(error, CutOff):
        reached, said = True, f"{destination.place} was cut off: {error}"
    elif isinstance(error, requests.ReadTimeout):
        reached, said = True, "no answer in time; it may be stored"
    elif isinstance(error, requests.TooManyRedirects):
        said = "it redirects to another address: is the URL right?"
    elif isinstance(error, requests.RequestException):
        reached, said = _was_connected(error), f"{destination.url}: {_cause(error)}"
    elif isinstance(error, OSError):
        said = f"{error.filename}: {error.strerror}"
    else:
        reached, said = True, f"its answer cannot be read: {error}"
    return failed(said, reached=reached)


def _was_connected(error: requests.RequestException) -> bool:
    """Tell whether a connection broke, rather than that there was none."""
    refused = ("NewConnectionError", "NameResolutionError")
    never = isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError)
    return not never and not any(name in repr(error) for name in refused)


def _cause(error: Exception) -> str:
    """Return what lies at the bottom of requests' exceptions, without the objects they print."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[0], BaseException):
        cause = cause.args[0]
    reason = getattr(cause, "reason", None)
    return str(reason if isinstance(reason, BaseException) else cause).rpartition(">: ")[2]


class _Counting(HTTPAdapter):
    """Has an allowance watch the connections of a session, and counts what it reads."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        watch(pool, self._allowance)
        return pool

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """Return the response; reading its content counts."""
        stream = resp.stream

        def counted(*args: Any, **kwargs: Any) -> Iterator[bytes]:
            for piece in stream(*args, **kwargs):
                self._allowance.take(len(piece))
                yield piece

        resp.stream = counted
        return super().build_response(req, resp)


def watch(pool: Any, allowance: Allowance) -> None:
    """Have an allowance hold each connection of a urllib3 pool, from before its TLS handshake."""
    kind = type(pool).ConnectionCls

    class Held(kind):  # type: ignore[misc, valid-type]
        def _new_conn(self) -> Any:
            line = super()._new_conn()
            allowance.hold(line)
            return line

    pool.ConnectionCls = Held


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request
