"""Every conversation that Rales begins ends in time and costs little, whatever the other side does.

For each kind of conversation, each kind of misbehaviour, on raw sockets.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority
from hostile_peer import (
    DATA,
    RELEASE,
    Misbehave,
    Watched,
    after,
    endless_message,
    flooding,
    header,
    peer,
    silent,
    trickling,
)
from pynetdicom.dul import DULServiceProvider
from sending import send

from chestct.results import ResultObject
from chestct.uids import Uid
from dicom_out.network.commitment import PUSH_MODEL, ReportHandler, request_commitment
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind
from dicom_out.network.sender import echo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        # pynetdicom drops a socket that never connected or was cut off without closing it itself.
        "ignore:unclosed <socket:ResourceWarning"
    ),
]

MakeObject = Callable[..., ResultObject]
Start = Callable[..., Destination]
Talk = Callable[[Destination], Outcome]
VERIFICATION = "1.2.840.10008.1.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
HUGE = 1_200_000_000
SECONDS = 1.0
MEGABYTES_50 = 50 << 20
BIG = 8_000_000
"""More than the buffers of both sockets hold."""


def requestors() -> list[DULServiceProvider]:
    """Return the threads of associations that were asked for here; they keep a process alive."""
    return [
        one
        for one in threading.enumerate()
        if isinstance(one, DULServiceProvider) and one.assoc.is_requestor
    ]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert requestors() == []


@pytest.fixture
def talks(make_object: MakeObject) -> dict[str, Talk]:
    """Return the conversations by name; each returns the outcome of what it asked first."""

    def store(there: Destination) -> Outcome:
        return send([make_object()], there, calling_ae="RALES", timeout_seconds=SECONDS)[0]

    def store_much(there: Destination) -> Outcome:
        big = make_object("big", BIG)
        return send([big], there, calling_ae="RALES", timeout_seconds=SECONDS)[0]

    def verify(there: Destination) -> Outcome:
        return echo(there, calling_ae="RALES", timeout_seconds=SECONDS)

    def commit(there: Destination) -> Outcome:
        return request_commitment(
            [make_object()],
            there,
            transaction_uid=Uid("2.25.1"),
            calling_ae="RALES",
            timeout_seconds=SECONDS,
            on_report=ReportHandler(lambda _: True),
            answered=threading.Event(),
        )

    return {"C-STORE": store, "C-ECHO": verify, "N-ACTION": commit, "large C-STORE": store_much}


def at(port: int, tls: Callable[[], ssl.SSLContext] | None = None) -> Destination:
    return Destination(name="x", ae_title="SCP", host="127.0.0.1", port=port, tls=tls)


def bounded(talk: Talk, there: Destination) -> Outcome:
    """Return the outcome of a conversation that ended in time, without much memory."""
    watched = Watched(lambda: talk(there))
    assert watched.ended
    assert watched.grown < MEGABYTES_50
    assert isinstance(watched.result, Outcome)
    return watched.result


BEFORE: dict[str, Misbehave] = {
    "accepts the connection only": silent,
    "trickles its acceptance": trickling(header(0x02, 5000)),
    "trickles its rejection": trickling(header(0x03, 4)[:5]),
    "trickles nonsense": trickling(),
    "announces 4 GB": flooding(header(0x02, 0xFFFFFFFF)),
    "announces 1.2 GB": flooding(header(0x02, HUGE)),
    "floods": flooding(b"\x02"),
}


@pytest.mark.parametrize("name", ["C-STORE", "C-ECHO", "N-ACTION"])
@pytest.mark.parametrize("how", BEFORE)
def test_one_that_misbehaves_before_the_association_stands(
    talks: dict[str, Talk], name: str, how: str
) -> None:
    with peer(BEFORE[how]) as port:
        outcome = bounded(talks[name], at(port))
    assert (outcome.kind, outcome.reached) == (OutcomeKind.FAILED, False)


ON_DATA: dict[str, Misbehave] = {
    "falls silent": silent,
    "trickles its answer": trickling(header(DATA, 5000)),
    "trickles the head of its answer": trickling(),
    "announces 4 GB": flooding(header(DATA, 0xFFFFFFFF)),
    "announces 1.2 GB": flooding(header(DATA, HUGE)),
    "sends a message without end": endless_message(),
    "sends a data set without end": endless_message(command=False),
}


@pytest.mark.parametrize("name", ["C-STORE", "C-ECHO", "N-ACTION"])
@pytest.mark.parametrize("how", ON_DATA)
def test_one_that_misbehaves_when_it_is_asked(
    talks: dict[str, Talk], name: str, how: str, start_scp: Start
) -> None:
    scp = start_scp(kinds=(SEGMENTATION, VERIFICATION, PUSH_MODEL))
    with peer(after({DATA: ON_DATA[how]}, scp.port)) as port:
        outcome = bounded(talks[name], at(port))
    assert (outcome.kind, outcome.reached) == (OutcomeKind.FAILED, True)


def _asking_for_release(line: socket.socket, over: threading.Event) -> None:
    while not over.is_set():
        line.sendall(header(RELEASE, 4) + bytes(4))


RELEASES: dict[str, Misbehave] = {
    "falls silent": silent,
    "trickles": trickling(header(0x06, 4)[:2]),
    "announces 1.2 GB": flooding(header(0x06, HUGE)),
    "sends a message without end": endless_message(),
    "asks for a release again and again": _asking_for_release,
}


@pytest.mark.parametrize("name", ["C-STORE", "C-ECHO"])
@pytest.mark.parametrize("how", RELEASES)
def test_one_that_misbehaves_when_it_is_released_has_what_it_took(
    talks: dict[str, Talk], name: str, how: str, start_scp: Start
) -> None:
    scp = start_scp(kinds=(SEGMENTATION, VERIFICATION))
    with peer(after({RELEASE: RELEASES[how]}, scp.port)) as port:
        outcome = bounded(talks[name], at(port))
    assert outcome.kind is OutcomeKind.DELIVERED


def _reading_slowly(line: socket.socket, over: threading.Event) -> None:
    while not over.wait(0.05):
        line.recv(1000)


@pytest.mark.parametrize("how", [silent, _reading_slowly], ids=["never", "byte by byte"])
def test_one_that_hardly_reads(talks: dict[str, Talk], how: Misbehave, start_scp: Start) -> None:
    with peer(after({DATA: how}, start_scp().port), buffer=8192) as port:
        outcome = bounded(talks["large C-STORE"], at(port))
    assert (outcome.kind, outcome.reached) == (OutcomeKind.FAILED, True)


HANDSHAKES: dict[str, Misbehave] = {
    "accepts the connection only": silent,
    "trickles its handshake": trickling(b"\x16\x03\x03\x40\x00\x02"),
    "floods": flooding(b"\x16\x03\x03\x40\x00\x02"),
}


@pytest.mark.parametrize("name", ["C-STORE", "C-ECHO", "N-ACTION"])
@pytest.mark.parametrize("how", HANDSHAKES)
def test_one_that_misbehaves_in_the_tls_handshake(
    talks: dict[str, Talk], name: str, how: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")

    def context() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=authority.file)

    with peer(HANDSHAKES[how]) as port:
        outcome = bounded(talks[name], at(port, context))
    assert (outcome.kind, outcome.reached) == (OutcomeKind.FAILED, False)
