"""Posts one notification over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path

from chestct.errors import ConfigError
from chestct.text import printable
from dicom_out.network.allowance import Bounds, Conversations, CutOff, whole_seconds
from dicom_out.network.http_client import Answer, RequestFailed, open_client
from dicom_out.network.outcome import OutcomeKind
from rales.config.tls import client_context

_ANSWER_BYTES = 1 << 20
"""Bytes of an answer that are read."""
_MESSAGE_LENGTH = 500
_REFUSALS = frozenset(
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
"""The same message will have the same answer (RFC 9110 section 15.5, RFC 4918 section 11.2). A
status that a change at the receiver can mend (401, 403, 404, 409, 412, 5xx) is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostResult:
    """The result of one attempt.

    Attributes:
        kind: DELIVERED, REFUSED or FAILED.
        status: The HTTP status; None: there was no answer.
        message: One printable sentence for a person; it names no patient.
        answer: The body of the answer. It may name the patient: it is logged at DEBUG and not kept.
        reached: False: nobody answered, and the next message would fare no better.
    """

    kind: OutcomeKind
    status: int | None = None
    message: str
    answer: str = ""
    reached: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message, _MESSAGE_LENGTH))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A body to POST, with its headers."""

    body: bytes
    headers: Mapping[str, str]


Poster = Callable[[Request], PostResult]
"""Sends one request; never raises for a failure of the receiver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The URL of a receiver, with the files that a connection needs.

    The CA and the token are read for every message, so that new ones need no restart.
    """

    url: str
    ca_file: Path | None
    token_file: Path | None
    timeout_seconds: float
    under_way: Conversations | None = None

    def post(self, request: Request) -> PostResult:
        """Send one request over a connection of its own."""
        return self._call("POST", request.headers, request.body)

    def probe(self) -> PostResult:
        """Ask whether anybody answers, with a request that changes nothing."""
        return self._call("HEAD", {}, None)

    def _call(self, method: str, headers: Mapping[str, str], body: bytes | None) -> PostResult:
        try:
            authorization = f"Bearer {read_secret(self.token_file)}" if self.token_file else ""
            with open_client(
                self.url,
                bounds=self._bounds(len(body or b"")),
                tls=partial(client_context, self.ca_file, None, None, match_host=True),
                authorization=authorization,
            ) as client:
                answer = client.request(method, headers=headers, body=body, at_most=_ANSWER_BYTES)
        except CutOff as error:
            return _failed(f"{self.url} was cut off: {error}")
        except (RequestFailed, ConfigError) as error:
            return _failed(str(error))
        return _result_of(answer)

    def _bounds(self, content: int) -> Bounds:
        seconds = self.timeout_seconds
        return Bounds(
            silence_seconds=seconds,
            whole_seconds=whole_seconds(seconds, messages=1, content=content),
            most_bytes=_ANSWER_BYTES,
            setting="delivery.timeout_seconds",
            under_way=self.under_way,
        )


def read_secret(path: Path) -> str:
    """Return the one line of a file that holds a secret.

    Raises:
        ConfigError: The file cannot be read, or is not one line of printable ASCII.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no secret can be read from it") from error
    if not text or not text.isprintable():
        raise ConfigError(f"{path}: a secret is one line of printable ASCII")
    return text


def _failed(message: str) -> PostResult:
    return PostResult(kind=OutcomeKind.FAILED, message=message, reached=False)


def _result_of(answer: Answer) -> PostResult:
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        kind = OutcomeKind.DELIVERED
    else:
        kind = OutcomeKind.REFUSED if answer.status in _REFUSALS else OutcomeKind.FAILED
    text = answer.content.decode("utf-8", "replace")
    return PostResult(kind=kind, status=answer.status, message=f"HTTP {answer.status}", answer=text)
