"""Every HTTP request that Rales sends ends in time and costs little, whatever the service does."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from certificates import Authority
from hostile_peer import Misbehave, Watched, flooding, peer, silent, trickling
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from chestct.results import ResultObject
from chestct.uids import Uid, derive_uid
from dicom_out.network import stow
from dicom_out.network.allowance import Conversations
from dicom_out.network.destination import WebDestination
from dicom_out.network.outcome import OutcomeKind
from rales.config.tls import client_context
from rales.steps.notify import transport
from rales.steps.notify.transport import Endpoint, Request

pytestmark = pytest.mark.slow

SECONDS = 0.5
MEGABYTES_50 = 50 << 20
BIG = 8_000_000
"""More than the buffers of both sockets hold."""

Talk = Callable[[str, Path | None], tuple[str, str]]
"""Asks the service at a URL that a CA vouches for; returns the kind of outcome and its message."""


def trusting(ca_file: Path | None) -> partial[ssl.SSLContext]:
    return partial(client_context, ca_file, None, None, match_host=True)


@pytest.fixture
def talks(tmp_path: Path) -> dict[str, Talk]:
    path = tmp_path / "object.dcm"
    uid, kind = derive_uid("object"), Uid("1.2.840.10008.5.1.4.1.1.66.4")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.PixelData = bytes(BIG)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)

    def store(url: str, ca_file: Path | None) -> tuple[str, str]:
        item = ResultObject(
            role="seg",
            path=path,
            sop_class_uid=kind,
            sop_instance_uid=uid,
            series_uid=derive_uid("series"),
            study_uid=derive_uid("study"),
        )
        there = WebDestination(name="web", url=url, tls=trusting(ca_file))
        (outcome,) = stow.store_each([item], there, timeout_seconds=SECONDS, slowest=1e9)
        return outcome.kind, outcome.message

    def ask(url: str, ca_file: Path | None) -> tuple[str, str]:
        there = WebDestination(name="web", url=url, tls=trusting(ca_file))
        outcome = stow.ask(there, timeout_seconds=SECONDS)
        return outcome.kind, outcome.message

    def notify(url: str, ca_file: Path | None) -> tuple[str, str]:
        target = Endpoint(url=url, ca_file=ca_file, token_file=None, timeout_seconds=SECONDS)
        outcome = target.post(Request(body=b"{}", headers={}))
        return outcome.kind, outcome.message

    def knock(url: str, ca_file: Path | None) -> tuple[str, str]:
        target = Endpoint(url=url, ca_file=ca_file, token_file=None, timeout_seconds=SECONDS)
        outcome = target.probe()
        return outcome.kind, outcome.message

    return {"STOW-RS": store, "QIDO-RS": ask, "notification": notify, "knock": knock}


def bounded(talk: Talk, url: str, ca_file: Path | None = None) -> tuple[str, str]:
    """Return the outcome of a conversation that ended in time, without much memory."""
    watched = Watched(lambda: talk(url, ca_file))
    assert watched.ended
    assert watched.grown < MEGABYTES_50
    assert isinstance(watched.result, tuple)
    return watched.result


def reading(then: Misbehave) -> Misbehave:
    """Return what reads whatever comes beside its misbehaviour, as a service would."""

    def serve(line: socket.socket, over: threading.Event) -> None:
        def drain() -> None:
            try:
                while line.recv(1 << 16):
                    pass
            except OSError:
                pass

        threading.Thread(target=drain, daemon=True).start()
        then(line, over)

    return serve


def _continuing(line: socket.socket, over: threading.Event) -> None:
    while not over.is_set():
        line.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


_OK = b"HTTP/1.1 200 OK\r\n"
_JSON = _OK + b"Content-Type: application/dicom+json\r\n"
NO_ANSWER: dict[str, Misbehave] = {
    "accepts the connection only": silent,
    "falls silent": reading(silent),
    "trickles its status": reading(trickling(b"HTTP/1.1 2")),
    "trickles a header": reading(trickling(_OK + b"X-Slow: ")),
    "continues for ever": reading(_continuing),
    "floods a header": reading(flooding(_OK + b"X-Long: ")),
}


@pytest.mark.parametrize("name", ["STOW-RS", "QIDO-RS", "notification", "knock"])
@pytest.mark.parametrize("how", NO_ANSWER)
def test_a_service_that_gives_no_answer(talks: dict[str, Talk], name: str, how: str) -> None:
    with peer(NO_ANSWER[how], buffer=8192) as port:
        kind, _ = bounded(talks[name], f"http://127.0.0.1:{port}/x")
    assert kind == OutcomeKind.FAILED


BODIES: dict[str, Misbehave] = {
    "trickles a body": reading(trickling(_JSON + b"Content-Length: 100000\r\n\r\n[")),
    "trickles chunks": reading(trickling(_JSON + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")),
    "announces 1.2 GB": reading(flooding(_JSON + b"Content-Length: 1200000000\r\n\r\n[")),
    "sends without an end": reading(flooding(_JSON + b"\r\n[")),
}


@pytest.mark.parametrize("name", ["STOW-RS", "QIDO-RS"])
@pytest.mark.parametrize("how", BODIES)
def test_a_service_whose_answer_has_no_end(talks: dict[str, Talk], name: str, how: str) -> None:
    with peer(BODIES[how]) as port:
        kind, message = bounded(talks[name], f"http://127.0.0.1:{port}/x")
    assert kind == OutcomeKind.FAILED
    assert "cut off" in message


@pytest.mark.parametrize("how", BODIES)
def test_a_target_whose_answer_has_no_end_has_taken_the_message(
    talks: dict[str, Talk], how: str
) -> None:
    with peer(BODIES[how]) as port:
        kind, message = bounded(talks["notification"], f"http://127.0.0.1:{port}/x")
    assert (kind, message) == (OutcomeKind.DELIVERED, "HTTP 200")


HANDSHAKES: dict[str, Misbehave] = {
    "accepts the connection only": silent,
    "trickles its handshake": trickling(b"\x16\x03\x03\x40\x00\x02"),
    "floods": flooding(b"\x16\x03\x03\x40\x00\x02"),
}


@pytest.mark.parametrize("name", ["STOW-RS", "QIDO-RS", "notification", "knock"])
@pytest.mark.parametrize("how", HANDSHAKES)
def test_a_service_that_misbehaves_in_the_tls_handshake(
    talks: dict[str, Talk], name: str, how: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    with peer(HANDSHAKES[how]) as port:
        kind, _ = bounded(talks[name], f"https://127.0.0.1:{port}/x", authority.file)
    assert kind == OutcomeKind.FAILED


@pytest.mark.parametrize(
    ("scheme", "how"),
    [
        pytest.param("http", reading(silent), id="http-silent"),
        pytest.param("http", silent, id="http-deaf"),
        pytest.param("http", trickling(b"HTTP/1.1 2"), id="http-trickling"),
        pytest.param("https", reading(silent), id="https-silent"),
        pytest.param("https", silent, id="https-deaf"),
        # A peer that trickled plain text would be refused before it is cut off.
        pytest.param("https", trickling(b"\x16\x03\x03\x40\x00\x02"), id="https-trickling"),
    ],
)
def test_a_stop_cuts_a_conversation_off_at_once(
    how: Misbehave, scheme: str, tmp_path: Path
) -> None:
    conversations = Conversations()
    begun = threading.Event()

    def noting(line: socket.socket, over: threading.Event) -> None:
        begun.set()
        how(line, over)

    def stop() -> None:
        begun.wait(20)
        conversations.cut("the node stops")

    with peer(noting) as port:
        threading.Thread(target=stop, daemon=True).start()
        there = Endpoint(
            url=f"{scheme}://127.0.0.1:{port}/x",
            ca_file=Authority(tmp_path / "ca").file,
            token_file=None,
            timeout_seconds=600,
            under_way=conversations,
        )
        watched = Watched(lambda: there.post(Request(body=bytes(BIG), headers={})))
    assert watched.ended
    outcome = watched.result
    assert isinstance(outcome, transport.PostResult)
    assert outcome.kind is OutcomeKind.FAILED
    assert "was cut off: the node stops" in outcome.message
