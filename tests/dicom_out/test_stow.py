"""STOW-RS against HTTP servers of the test's own: what each answer means for the object."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from certificates import Authority
from sending import store
from web_service import FAILED, STORED, Answer, Service, named, says, sent

from chestct.results import ResultObject
from dicom_out.network.destination import Credentials, WebDestination
from dicom_out.network.outcome import OutcomeKind
from dicom_out.network.stow import ask
from rales.config.tls import client_context


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start(answer: Answer, context: ssl.SSLContext | None = None) -> Service:
        started.append(Service(answer, context))
        return started[-1]

    yield start
    for one in started:
        one.close()


def put(item: ResultObject, service: Service, **settings: Any) -> Any:
    destination = WebDestination(name="web", url=service.url, **settings)
    (outcome,) = store([item], destination, timeout_seconds=5)
    return outcome


def test_the_file_travels_as_it_is(
    serve: Callable[..., Service], make_object: Callable[..., ResultObject]
) -> None:
    item = make_object(size=5_000_000)
    service = serve(says(200, named(STORED, item.sop_instance_uid)))
    outcome = put(item, service)
    assert (outcome.kind, outcome.status) == (OutcomeKind.DELIVERED, 0)
    assert sent(service.bodies[0]) == item.path.read_bytes()
    assert pydicom.dcmread(BytesIO(sent(service.bodies[0]))).SOPInstanceUID == item.sop_instance_uid
    assert service.headers[0]["Content-Type"].startswith("multipart/related")
    assert "Transfer-Encoding" not in service.headers[0]


@pytest.mark.parametrize(
    "case",
    [
        (200, STORED, {}, OutcomeKind.DELIVERED, 0),
        (202, STORED, {"warning": 0xB006}, OutcomeKind.DELIVERED, 0xB006),
        (202, FAILED, {"failure": 0xA700}, OutcomeKind.FAILED, 0xA700),
        (202, FAILED, {"failure": 0x0122}, OutcomeKind.NOT_ACCEPTED, 0x0122),
        (409, FAILED, {"failure": 0xA700}, OutcomeKind.FAILED, 0xA700),
        (409, FAILED, {"failure": 0xC122}, OutcomeKind.REFUSED, 0xC122),
    ],
)
def test_what_the_service_says_of_the_object_counts(
    serve: Callable[..., Service],
    make_object: Callable[..., ResultObject],
    case: tuple[int, str, dict[str, int], OutcomeKind, int],
) -> None:
    status, tag, more, kind, code = case
    item = make_object()
    outcome = put(item, serve(says(status, named(tag, item.sop_instance_uid, **more))))
    assert (outcome.kind, outcome.status) == (kind, code)


@pytest.mark.parametrize(
    ("status", "kind", "reached"),
    [
        (200, OutcomeKind.DELIVERED, True),
        (400, OutcomeKind.REFUSED, True),
        (401, OutcomeKind.FAILED, False),
        (403, OutcomeKind.FAILED, False),
        (404, OutcomeKind.FAILED, False),
        (409, OutcomeKind.REFUSED, True),
        (413, OutcomeKind.REFUSED, True),
        (415, OutcomeKind.NOT_ACCEPTED, True),
        (429, OutcomeKind.FAILED, True),
        (500, OutcomeKind.FAILED, True),
        (503, OutcomeKind.FAILED, True),
    ],
)
def test_without_a_word_on_the_object_the_http_status_counts(
    serve: Callable[..., Service],
    make_object: Callable[..., ResultObject],
    status: int,
    kind: OutcomeKind,
    *,
    reached: bool,
) -> None:
    service = serve(says(status))
    outcome = put(make_object(), service)
    assert (outcome.kind, outcome.reached) == (kind, reached)
    assert len(service.bodies) == 1, (
        "the pauses between attempts are the delivery's, not the client's"
    )


@pytest.mark.parametrize(
    ("status", "failure", "present"),
    [
        (409, None, True),
        (409, 272, True),
        (409, 273, True),
        (409, 0xC000, False),
        (202, 273, True),
        (202, 272, False),
        (400, None, False),
    ],
)
def test_what_may_say_that_it_is_there_already(
    serve: Callable[..., Service],
    make_object: Callable[..., ResultObject],
    status: int,
    failure: int | None,
    *,
    present: bool,
) -> None:
    item = make_object()
    told = None if failure is None else named(FAILED, item.sop_instance_uid, failure=failure)
    outcome = put(item, serve(says(status, told)))
    assert outcome.kind is not OutcomeKind.DELIVERED, "only a delivery sent before knows"
    assert outcome.present is present


def test_a_page_that_is_no_dicom_is_no_success(
    serve: Callable[..., Service], make_object: Callable[..., ResultObject]
) -> None:
    outcome = put(make_object(), serve(says(200, b"<html>Please log in</html>", "text/html")))
    assert outcome.kind is OutcomeKind.FAILED
    assert "text/html" in outcome.message


def test_an_answer_for_another_object_is_no_success(
    serve: Callable[..., Service], make_object: Callable[..., ResultObject]
) -> None:
    outcome = put(make_object(), serve(says(200, named(STORED, "1.2.3.4"))))
    assert outcome.kind is OutcomeKind.FAILED


@pytest.mark.parametrize(
    "told",
    [
        {"00081198": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["2.25.1"]}}]}},
        {"0008119A": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}},
    ],
    ids=["of another name, without a reason", "of no name"],
)
def test_a_failure_beside_nothing_stored_is_no_success(
    serve: Callable[..., Service], make_object: Callable[..., ResultObject], told: dict[str, Any]
) -> None:
    outcome = put(make_object(), serve(says(202, told)))
    assert outcome.kind is OutcomeKind.FAILED


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"error": 1}, "application/json"),
        ([], "application/json"),
        ({"00081199": 7}, "application/dicom+json"),
        (b"<a", "application/xml"),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_outcome_too(
    serve: Callable[..., Service],
    make_object: Callable[..., ResultObject],
    told: object,
    kind: str,
) -> None:
    outcome = put(make_object(), serve(says(200, told, kind)))
    assert (outcome.kind, outcome.reached) == (OutcomeKind.FAILED, True)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n{"])
def test_a_service_that_trickles_for_ever_is_cut_off(
    make_object: Callable[..., ResultObject], head: bytes
) -> None:
    over = threading.Event()

    def trickle(listener: socket.socket) -> None:
        line, _ = listener.accept()
        with line, suppress(OSError):
            line.sendall(head)
            while not over.wait(0.05):
                line.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done: list[Any] = []
        where = WebDestination(name="web", url=url)
        asking = threading.Thread(
            target=lambda: done.extend(store([make_object()], where, timeout_seconds=0.1)),
            daemon=True,
        )
        asking.start()
        asking.join(20)
        over.set()
        thread.join(5)
    assert done, "it hangs"


def test_a_redirect_is_not_followed(
    serve: Callable[..., Service], make_object: Callable[..., ResultObject]
) -> None:
    elsewhere = serve(says(200))
    service = serve(says(302, Location=elsewhere.url))
    outcome = put(make_object(), service)
    assert (outcome.kind, outcome.reached) == (OutcomeKind.FAILED, False)
    assert "redirects" in outcome.message
    assert elsewhere.bodies == []


def test_an_answer_that_is_cut_off_or_never_comes_may_mean_that_it_is_stored(
    serve: Callable[..., Service], make_object: Callable[..., ResultObject]
) -> None:
    leave = threading.Event()

    def hang(_service: Service, _handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        leave.wait(30)

    def hang_up(_service: Service, handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        handler.connection.close()

    item = make_object()
    for answer in (hang, hang_up):
        destination = WebDestination(name="web", url=serve(answer).url)
        (outcome,) = store([item], destination, timeout_seconds=0.5)
        assert (outcome.kind, outcome.status, outcome.reached) == (OutcomeKind.FAILED, None, True)
    leave.set()


def test_nobody_there_is_asked_once_and_said_in_words(
    make_object: Callable[..., ResultObject],
) -> None:
    items = [make_object("one"), make_object("two")]
    destination = WebDestination(name="web", url="http://127.0.0.1:9/dicom-web")
    one, two = store(items, destination, timeout_seconds=5)
    assert one == two
    assert (one.kind, one.reached) == (OutcomeKind.FAILED, False)
    assert "refused" in one.message
    assert "object at 0x" not in one.message


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda file: Credentials(token_file=file), "Bearer s3cret"),
        (lambda file: Credentials(user="rales", password_file=file), "Basic cmFsZXM6czNjcmV0"),
    ],
    ids=["token", "password"],
)
def test_secrets_are_read_from_their_file_every_time(
    serve: Callable[..., Service],
    make_object: Callable[..., ResultObject],
    make: Callable[[Path], Credentials],
    wanted: str,
    tmp_path: Path,
) -> None:
    service, file = serve(says(200)), tmp_path / "secret"
    file.write_text("old\n")
    credentials = make(file)
    put(make_object(), service, credentials=credentials)
    file.write_text("s3cret\n")
    put(make_object(), service, credentials=credentials)
    first, second = (one["Authorization"] for one in service.headers)
    assert first != second == wanted
    file.unlink()
    outcome = put(make_object(), service, credentials=credentials)
    assert (outcome.kind, outcome.reached) == (OutcomeKind.FAILED, False)
    assert "secret: No such file" in outcome.message


def test_a_certificate_is_checked_and_ones_own_is_shown(
    serve: Callable[..., Service], make_object: Callable[..., ResultObject], tmp_path: Path
) -> None:
    trusted, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    pair, own = trusted.issue("server"), trusted.issue("node")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(trusted.file)
    context.verify_mode = ssl.CERT_REQUIRED
    service = serve(says(200), context)

    def trusting(authority: Authority, *shown: Path) -> partial[ssl.SSLContext]:
        return partial(client_context, authority.file, *(shown or (None, None)), match_host=True)

    taken = put(make_object(), service, tls=trusting(trusted, own.certificate, own.key))
    assert taken.kind is OutcomeKind.DELIVERED
    stranger = put(make_object(), service, tls=trusting(other, own.certificate, own.key))
    assert (stranger.kind, stranger.reached) == (OutcomeKind.FAILED, False)
    assert "certificate verify failed" in stranger.message
    nobody = put(make_object(), service, tls=trusting(trusted))
    assert nobody.kind is OutcomeKind.FAILED


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (200, OutcomeKind.DELIVERED, "answers QIDO-RS"),
        (204, OutcomeKind.DELIVERED, "answers QIDO-RS"),
        (404, OutcomeKind.DELIVERED, "STOW-RS was not tried"),
        (401, OutcomeKind.FAILED, "credentials"),
        (503, OutcomeKind.FAILED, "503"),
    ],
)
def test_a_service_can_be_asked_whether_it_is_there(
    serve: Callable[..., Service], status: int, kind: OutcomeKind, said: str
) -> None:
    service = serve(says(status, [] if status == 200 else None))
    outcome = ask(WebDestination(name="web", url=service.url), timeout_seconds=5)
    assert outcome.kind is kind
    assert said in outcome.message
