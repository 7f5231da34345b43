"""One HTTP request and what came of it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path

import urllib3

from chestct.errors import ConfigError
from chestct.text import printable
from dicom_out.network.allowance import Allowance, Bounds, Conversations, whole_seconds
from dicom_out.network.web import watch
from rales.config.tls import client_context

_LONGEST_ANSWER = 1 << 20
"""Bytes of an answer that are looked at."""
_LONGEST_MESSAGE = 500
_NEVER = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.NOT_ACCEPTABLE,
        HTTPStatus.GONE,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""The same message will have the same answer (RFC 9110 section 15.5, RFC 4918 section 11.2). What
a change on the other side mends (401, 403, 404, 409, 412, 5xx) is tried again."""


class OutcomeKind(StrEnum):
    """What to do next."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one attempt.

    Attributes:
        status: The HTTP status; None: there was no answer.
        message: One sentence for a person; it names no patient.
        answer: What the other side wrote; it may name the patient: logged at DEBUG, not kept.
        reached: False: nobody answered, and the next message would fare no better.
    """

    kind: OutcomeKind
    status: int | None = None
    message: str
    answer: str = ""
    reached: bool = True

    def __post_init__(self) -> None:
        """Keep the message fit for a log and a terminal: it may quote what a stranger answered."""
        object.__setattr__(self, "message", printable(self.message, _LONGEST_MESSAGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A body to POST, with its headers."""

    body: bytes
    headers: Mapping[str, str]


Poster = Callable[[Request], Outcome]
"""Sends one request; never raises for a failure of the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a target listens.

    The CA and the token are read for every message, so that new ones need no restart.
    Redirects are not followed: they would carry a patient's data to another place than the
    configured one.
    """

    url: str
    ca_file: Path | None
    token_file: Path | None
    timeout_seconds: float
    under_way: Conversations | None = None

    def post(self, request: Request) -> Outcome:
        """Send one request over a connection of its own."""
        return self._call("POST", request.headers, request.body)

    def knock(self) -> Outcome:
        """Ask whether anybody is there, with a request that changes nothing."""
        return self._call("HEAD", {}, None)

    def _call(self, method: str, headers: Mapping[str, str], body: bytes | None) -> Outcome:
        with Allowance(self._bounds(len(body or b""))) as allowance:
            try:
                return self._talk(allowance, method, headers, body)
            except (urllib3.exceptions.HTTPError, OSError, ConfigError) as error:
                message = f"{type(error).__name__}: {error}"
                if allowance.spent:
                    message = f"{self.url} was cut off: {allowance.spent}"
                return Outcome(kind=OutcomeKind.FAILED, message=message, reached=False)

    def _bounds(self, content: int) -> Bounds:
        seconds = self.timeout_seconds
        return Bounds(
            silence_seconds=seconds,
            whole_seconds=whole_seconds(seconds, messages=1, content=content),
            most_bytes=_LONGEST_ANSWER,
            setting="delivery.timeout_seconds",
            under_way=self.under_way,
        )

    def _talk(
        self, allowance: Allowance, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> Outcome:
        with urllib3.PoolManager(
            ssl_context=self._context(),
            retries=False,
            timeout=urllib3.Timeout(total=self.timeout_seconds),
        ) as pool:
            watch(pool.connection_from_url(self.url), allowance)
            answer = pool.request(
                method,
                self.url,
                body=body,
                headers={**headers, **self._authorization()},
                redirect=False,
                preload_content=False,
            )
            try:
                allowance.check()  # a head that is cut off looks like a whole one
                return _outcome(answer, allowance)
            finally:
                answer.close()

    def _context(self) -> ssl.SSLContext | None:
        if not self.url.startswith("https:"):
            return None
        return client_context(self.ca_file, None, None, match_host=True)

    def _authorization(self) -> dict[str, str]:
        if self.token_file is None:
            return {}
        return {"Authorization": f"Bearer {read_secret(self.token_file)}"}


def read_secret(path: Path) -> str:
    """Return the one line of a file that holds a secret.

    Raises:
        ConfigError: It cannot be read, or is not one line of printable ASCII.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no secret can be read from it") from error
    if not text or not text.isprintable():
        raise ConfigError(f"{path}: a secret is one line of printable ASCII")
    return text


def _outcome(answer: urllib3.BaseHTTPResponse, allowance: Allowance) -> Outcome:
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        kind = OutcomeKind.DELIVERED
    else:
        kind = OutcomeKind.REFUSED if status in _NEVER else OutcomeKind.FAILED
    said = _read(answer, allowance).decode("utf-8", "replace")
    return Outcome(kind=kind, status=status, message=f"HTTP {status}", answer=said)


def _read(answer: urllib3.BaseHTTPResponse, allowance: Allowance) -> bytes:
    """Return the body, or what of it came before it was cut off: the status is there already."""
    body = b""
    try:
        while len(body) < _LONGEST_ANSWER:
            part = answer.read1(_LONGEST_ANSWER - len(body))
            if not part:
                break
            body += part
    except (urllib3.exceptions.HTTPError, OSError):
        if not allowance.spent:
            raise
    return body
