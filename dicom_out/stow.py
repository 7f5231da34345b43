"""The STOW-RS user agent (PS3.18 section 10.5): one outcome per object, as the storage SCU has."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from chestct.errors import ResultDamaged
from chestct.results import Extra, ResultObject, SegKind
from dicom_out.allowance import TooMuch, shut
from dicom_out.sender import Outcome, OutcomeKind, outcome_of
from dicom_out.written import read_whole

Answers = list[requests.Response]
"""What came over the line; dicomweb-client keeps most of it to itself."""

_WHOLE = 1 << 40
"""Bytes of one piece: an object travels whole, since many servers take no chunked bodies."""
_NOT_THERE = {
    401: "it does not take these credentials (HTTP 401)",
    403: "it forbids this (HTTP 403)",
    404: "there is no STOW-RS service at this URL (HTTP 404)",
    405: "there is no STOW-RS service at this URL (HTTP 405)",
}
"""What a person has to mend, at this end or at that: no object fares better until then."""
_FOR_GOOD = {
    400: "refused, HTTP 400",
    409: "refused, HTTP 409",
    413: "it is too large (HTTP 413)",
    422: "refused, HTTP 422",
}
"""Verdicts on the object."""
_NOT_ACCEPTED = {
    406: "what it answers is no DICOM JSON (HTTP 406)",
    415: "DICOM files are not accepted there (HTTP 415)",
    501: "it does not store (HTTP 501)",
}
_CONFLICT = 409
_PRESENT = frozenset({0x0110, 0x0111})
"""Failure Reasons that come with 409 for an object that is there already (dcm4chee: 0x0110)."""
_FAILURES = ("FailedSOPSequence", "OtherFailuresSequence")
"""What failed, named and unnamed; the reason may be missing (PS3.18 table I.2.1)."""
_PATIENCE = 20.0
"""So many times the longest silence, a request may take as a whole: large objects, slow lines."""
_MOST_BYTES = 4 << 20
"""That a service may say of an object that it was sent."""
_NO_QUERY = frozenset({404, 405, 501})


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

    The others are those of :class:`dicom_out.sender.Destination`.
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


def store(
    objects: Sequence[ResultObject], destination: WebDestination, *, timeout_seconds: float
) -> tuple[Outcome, ...]:
    """Send ``objects``, a request each; return one outcome each, in order."""
    return tuple(store_each(objects, destination, timeout_seconds=timeout_seconds))


def store_each(
    objects: Sequence[ResultObject], destination: WebDestination, *, timeout_seconds: float
) -> Iterator[Outcome]:
    """Send ``objects``, a request each; yield one outcome each, in order, once it is known.

    Never raises for what the service or the network does. When one object finds that nobody
    is there, or that the credentials are wrong, the others are not tried.
    """
    gone: Outcome | None = None
    for item in objects:
        outcome = gone or _store(item, destination, timeout_seconds)
        gone = None if outcome.reached else outcome
        yield outcome


def ask(destination: WebDestination, *, timeout_seconds: float) -> Outcome:
    """Ask whether the service answers, by a query for one study (QIDO-RS, PS3.18 section 10.6)."""

    def query(client: DICOMwebClient, answers: Answers) -> Outcome:
        message = "answers QIDO-RS"
        try:
            client.search_for_studies(limit=1)
        except requests.HTTPError:
            status = answers[-1].status_code
            if status not in _NO_QUERY:
                return outcome_of_refusal(Dataset(), "", status)
            message = "answers, but not to QIDO-RS; STOW-RS was not tried"
        return Outcome(kind=OutcomeKind.DELIVERED, status=None, message=message)

    return _with_client(destination, timeout_seconds, query)


def _store(item: ResultObject, destination: WebDestination, timeout_seconds: float) -> Outcome:
    try:
        file = read_whole(item)
    except ResultDamaged as error:
        return Outcome(kind=OutcomeKind.DAMAGED, status=None, message=str(error))
    except OSError as error:
        return _failed(f"could not be sent: {error}")

    def post(client: DICOMwebClient, answers: Answers) -> Outcome:
        uid = item.sop_instance_uid
        try:
            told = _post(client, file)
        except requests.HTTPError:
            return outcome_of_refusal(_told_with(answers[-1]), uid, answers[-1].status_code)
        return outcome_of_answer(told, uid, answers[-1])

    return _with_client(destination, timeout_seconds, post)


def _post(client: Any, file: bytes) -> Dataset:
    """Post a file as it is; the client's ``store_instances`` would decode and encode it."""
    url = f"{client.base_url}/studies"
    told: Dataset = client._http_post_multipart_application_dicom(url, [file])  # noqa: SLF001
    return told


def outcome_of_answer(told: Dataset, sop_instance_uid: str, answer: requests.Response) -> Outcome:
    """Classify a successful answer to STOW-RS (PS3.18 section 10.5.3).

    A page that is no DICOM, such as the form of a login, is no success: the object is not there.
    """
    http = f"HTTP {answer.status_code}"
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if answer.content and kind not in {
        "application/dicom+json",
        "application/json",
        "application/dicom+xml",
        "application/xml",
    }:
        return _failed(f"{http} with {kind or 'something'} that is no DICOM: is the URL right?")
    reason = _reason(told, "FailedSOPSequence", "FailureReason", sop_instance_uid)
    if reason is not None:
        return outcome_of(reason)
    if told.get("ReferencedSOPSequence"):
        if not _named(told, "ReferencedSOPSequence", sop_instance_uid):
            return _failed(f"{http} speaks of other objects than the one that was sent")
        warning = _reason(told, "ReferencedSOPSequence", "WarningReason", sop_instance_uid)
        if warning:
            return Outcome(
                kind=OutcomeKind.DELIVERED,
                status=warning,
                message=f"stored, {http}, warning 0x{warning:04X}",
            )
    elif any(told.get(keyword) for keyword in _FAILURES):
        return _failed(f"{http} speaks of a failure, and of nothing stored")
    return Outcome(kind=OutcomeKind.DELIVERED, status=0x0000, message=f"stored, {http}")


def outcome_of_refusal(told: Dataset, sop_instance_uid: str, http_status: int) -> Outcome:
    """Classify an answer with an HTTP status of 400 or above.

    What the service says of the object counts before the HTTP status.
    """
    reason = _reason(told, "FailedSOPSequence", "FailureReason", sop_instance_uid)
    if reason is not None:
        outcome = outcome_of(reason)
        present = outcome.present or (http_status == _CONFLICT and reason in _PRESENT)
        return replace(outcome, present=present)
    if http_status in _NOT_THERE:
        return _failed(_NOT_THERE[http_status], reached=False)
    if http_status in _NOT_ACCEPTED:
        why = _NOT_ACCEPTED[http_status]
        return Outcome(kind=OutcomeKind.NOT_ACCEPTED, status=None, message=why)
    if http_status in _FOR_GOOD:
        # A conflict without a word of a failure: that is how some say that they have it.
        present = http_status == _CONFLICT and not any(told.get(one) for one in _FAILURES)
        why = _FOR_GOOD[http_status]
        return Outcome(kind=OutcomeKind.REFUSED, status=None, message=why, present=present)
    return _failed(f"it cannot just now (HTTP {http_status})")


def _with_client(
    destination: WebDestination,
    timeout_seconds: float,
    action: Callable[[DICOMwebClient, Answers], Outcome],
) -> Outcome:
    """Do something with a client of its own; turn every failure into an outcome."""
    try:
        with client_of(destination, timeout_seconds, timeout_seconds * _PATIENCE) as (
            client,
            answers,
        ):
            return action(client, answers)
    except (OSError, ValueError) as error:  # requests' own are OSErrors
        return outcome_of_error(error, destination)
    except Exception as error:  # noqa: BLE001 - dicomweb-client raises anything over an odd answer
        return _failed(f"its answer cannot be read ({type(error).__name__})")


@contextmanager
def client_of(
    destination: WebDestination,
    timeout_seconds: float,
    whole_seconds: float,
    most_bytes: int = _MOST_BYTES,
) -> Iterator[tuple[DICOMwebClient, Answers]]:
    """Yield a client with a session of its own, and the list of what comes over the line.

    No silence may be longer than ``timeout_seconds``. A peer that trickles is never silent:
    after ``whole_seconds`` the lines are cut. More than ``most_bytes`` are not read, unpacked
    ones, all answers together.

    Raises:
        OSError: A file with a secret cannot be read.
    """
    lines = _Lines(most_bytes)
    with closing(requests.Session()) as session, lines.cut_after(whole_seconds):
        for scheme in ("http://", "https://"):
            session.mount(scheme, lines)
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
            timeout=(min(timeout_seconds, 10.0), timeout_seconds),
        )
        client.set_http_retry_params(retry=False)
        answers: Answers = []
        session.hooks["response"].append(lambda one, **_: answers.append(one))
        yield client, answers


def outcome_of_error(error: OSError | ValueError, destination: WebDestination) -> Outcome:
    """Return the outcome of a request that was not answered, or not so that it can be read."""
    reached = False
    if isinstance(error, requests.ReadTimeout):
        reached, said = True, "no answer in time; it may be stored"
    elif isinstance(error, requests.TooManyRedirects):
        said = "it redirects to another address: is the URL right?"
    elif isinstance(error, requests.RequestException):
        reached, said = _was_connected(error), f"{destination.url}: {_cause(error)}"
    elif isinstance(error, TooMuch):
        reached, said = True, str(error)
    elif isinstance(error, OSError):
        said = f"{error.filename}: {error.strerror}"
    else:
        reached, said = True, f"its answer cannot be read: {error}"
    return _failed(said, reached=reached)


def _told_with(answer: requests.Response) -> Dataset:
    """Return what a refusal says in DICOM; empty where it says nothing that can be read."""
    try:
        return Dataset.from_json(answer.json())
    except (ValueError, TypeError, AttributeError, KeyError):
        return Dataset()


def _reason(told: Dataset, sequence: str, keyword: str, sop_instance_uid: str) -> int | None:
    """Return what is said of an object; of the only one when no object is named."""
    for item in told.get(sequence) or ():
        if not sop_instance_uid or item.get("ReferencedSOPInstanceUID") == sop_instance_uid:
            reason = item.get(keyword)
            return None if reason is None else int(reason)
    return None


def _named(told: Dataset, sequence: str, sop_instance_uid: str) -> bool:
    return any(
        item.get("ReferencedSOPInstanceUID") == sop_instance_uid for item in told.get(sequence)
    )


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


def _failed(message: str, *, reached: bool = True) -> Outcome:
    return Outcome(kind=OutcomeKind.FAILED, status=None, message=message, reached=reached)


class _Lines(HTTPAdapter):
    """Knows the sockets of a session, to cut them when its time is up, and counts what it reads."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = False
        super().__init__()

    @contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """Cut what there is after so long, and let nothing begin any more."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request; its connections tell of their sockets."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        lines, kind = self, type(pool).ConnectionCls

        class Told(kind):  # type: ignore[misc, valid-type]
            def connect(self) -> None:
                super().connect()
                lines._add(self.sock)

        pool.ConnectionCls = Told
        return pool

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """Return the response; reading its content counts."""
        stream = resp.stream

        def counted(*args: Any, **kwargs: Any) -> Iterator[bytes]:
            for piece in stream(*args, **kwargs):
                self._left -= len(piece)
                if self._left < 0:
                    raise TooMuch("it sends too much")
                yield piece

        resp.stream = counted
        return super().build_response(req, resp)

    def _add(self, line: socket.socket) -> None:
        with self._lock:
            self._sockets.append(line)
            over = self._over
        if over:
            shut(line)

    def _cut(self) -> None:
        with self._lock:
            self._over = True
        for line in self._sockets:
            shut(line)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request
