"""Delivery against real peers on real sockets, well-behaved and not."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless
from sending import send

from chestct.results import ResultObject
from chestct.uids import Uid
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind, outcome_of
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
BIG = 20_000_000
"""More than the buffers of both sockets hold."""
VERIFICATION = "1.2.840.10008.1.1"
SR = Uid("1.2.840.10008.5.1.4.1.1.88.34")


def deliver(
    objects: list[ResultObject], destination: Destination, timeout_seconds: float = 20.0
) -> tuple[Outcome, ...]:
    return send(objects, destination, calling_ae="RALES", timeout_seconds=timeout_seconds)


def kinds(outcomes: tuple[Outcome, ...]) -> list[OutcomeKind]:
    return [outcome.kind for outcome in outcomes]


def nobody() -> Destination:
    """Return an address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Destination(name="nobody", ae_title="SCP", host="127.0.0.1", port=port)


def test_objects_arrive_byte_for_byte_in_order(start_scp: Start, make_object: MakeObject) -> None:
    received: list[bytes] = []

    def store(event: Any) -> int:
        received.append(event.request.DataSet.getvalue())
        return 0x0000

    objects = [make_object("a"), make_object("b", BIG), make_object("c")]
    outcomes = deliver(objects, start_scp(store))
    assert kinds(outcomes) == [OutcomeKind.DELIVERED] * 3
    assert len(received) == 3
    for item, sent in zip(objects, received, strict=True):
        assert item.path.read_bytes().endswith(sent)


def test_the_peer_is_told_who_calls_and_whom(start_scp: Start, make_object: MakeObject) -> None:
    seen: list[tuple[str, str]] = []

    def store(event: Any) -> int:
        seen.append((event.assoc.requestor.ae_title, event.assoc.acceptor.ae_title))
        return 0x0000

    deliver([make_object()], start_scp(store))
    assert seen == [("RALES", "SCP")]


def test_status_decides_the_outcome(start_scp: Start, make_object: MakeObject) -> None:
    expected = {
        0x0000: OutcomeKind.DELIVERED,
        0x0001: OutcomeKind.DELIVERED,
        0xB000: OutcomeKind.DELIVERED,
        0xB006: OutcomeKind.DELIVERED,
        0xB007: OutcomeKind.DELIVERED,
        0xA700: OutcomeKind.FAILED,
        0xA7FF: OutcomeKind.FAILED,
        0x0110: OutcomeKind.FAILED,
        0x0111: OutcomeKind.REFUSED,
        0x0122: OutcomeKind.NOT_ACCEPTED,
        0x0124: OutcomeKind.NOT_ACCEPTED,
        0x0211: OutcomeKind.NOT_ACCEPTED,
        0x0213: OutcomeKind.FAILED,
        0xA800: OutcomeKind.NOT_ACCEPTED,
        0xA900: OutcomeKind.REFUSED,
        0xC000: OutcomeKind.REFUSED,
        0xC123: OutcomeKind.REFUSED,
    }
    answers = iter(expected)
    outcomes = deliver([make_object()] * len(expected), start_scp(lambda _: next(answers)))
    assert {outcome.status: outcome.kind for outcome in outcomes} == expected
    assert all(f"0x{outcome.status:04X}" in outcome.message for outcome in outcomes)
    assert [outcome.status for outcome in outcomes if outcome.present] == [0x0111]


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(0, 0xFFFF))
def test_every_status_has_an_outcome_and_only_success_and_warnings_count_as_stored(
    status: int,
) -> None:
    stored = status in {0x0000, 0x0001} or status >> 12 == 0xB
    assert (outcome_of(status).kind is OutcomeKind.DELIVERED) == stored


def test_the_error_comment_which_may_name_the_patient_is_told_at_debug_only(
    start_scp: Start, make_object: MakeObject, caplog: pytest.LogCaptureFixture
) -> None:
    def store(_: Any) -> Dataset:
        response = Dataset()
        response.Status = 0xA700
        response.ErrorComment = "Doe^Jane is unknown"
        return response

    caplog.set_level(logging.DEBUG, "dicom_out")
    (outcome,) = deliver([make_object()], start_scp(store))
    assert "Doe" not in outcome.message
    told = {record.levelno for record in caplog.records if "Doe" in record.getMessage()}
    assert told == {logging.DEBUG}


def test_one_refused_object_does_not_stop_the_next(
    start_scp: Start, make_object: MakeObject
) -> None:
    answers = iter([0xC000, 0x0000])
    outcomes = deliver([make_object("a"), make_object("b")], start_scp(lambda _: next(answers)))
    assert kinds(outcomes) == [OutcomeKind.REFUSED, OutcomeKind.DELIVERED]


def test_a_kind_that_is_not_accepted_waits_alone(start_scp: Start, make_object: MakeObject) -> None:
    outcomes = deliver([make_object("seg"), make_object("sr", kind=SR)], start_scp())
    assert kinds(outcomes) == [OutcomeKind.DELIVERED, OutcomeKind.NOT_ACCEPTED]
    assert "Comprehensive 3D SR Storage" in outcomes[1].message


@pytest.mark.parametrize(
    "offer", [{"kinds": (VERIFICATION,)}, {"syntaxes": (JPEG2000Lossless,)}], ids=["kind", "syntax"]
)
def test_no_accepted_presentation_context_is_a_state_of_the_destination(
    offer: dict[str, Any], start_scp: Start, make_object: MakeObject
) -> None:
    (outcome,) = deliver([make_object()], start_scp(**offer))
    assert (outcome.kind, outcome.reached) == (OutcomeKind.NOT_ACCEPTED, True)
    assert "does not accept Segmentation Storage" in outcome.message


def test_a_destination_that_only_speaks_implicit_vr_is_served(
    start_scp: Start, make_object: MakeObject
) -> None:
    seen: list[str] = []

    def store(event: Any) -> int:
        seen.extend([event.context.transfer_syntax, event.dataset.SOPInstanceUID])
        return 0x0000

    item = make_object()
    (outcome,) = deliver([item], start_scp(store, syntaxes=(ImplicitVRLittleEndian,)))
    assert outcome.kind is OutcomeKind.DELIVERED
    assert seen == [ImplicitVRLittleEndian, item.sop_instance_uid]


def test_permanent_rejection_is_a_state_of_the_destination(
    start_scp: Start, make_object: MakeObject
) -> None:
    scp = start_scp(require_called_aet=True)
    stranger = Destination(name="x", ae_title="SOMEBODY", host=scp.host, port=scp.port)
    (outcome,) = deliver([make_object()], stranger)
    assert (outcome.kind, outcome.reached) == (OutcomeKind.NOT_ACCEPTED, False)
    assert "Called AE title not recognised" in outcome.message


def test_transient_rejection_may_pass(make_object: MakeObject) -> None:
    reject = bytes([0x03, 0, 0, 0, 0, 4, 0, 2, 3, 2])  # transient, presentation, local limit
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as client:
                client.recv(65536)
                client.sendall(reject)
                client.recv(1)

        threading.Thread(target=answer, daemon=True).start()
        port = listener.getsockname()[1]
        there = Destination(name="x", ae_title="SCP", host="127.0.0.1", port=port)
        (outcome,) = deliver([make_object()], there)
    assert outcome.kind is OutcomeKind.FAILED
    assert "rejected" in outcome.message


def test_nobody_there_may_pass(make_object: MakeObject) -> None:
    outcomes = deliver([make_object("a"), make_object("b")], nobody())
    assert kinds(outcomes) == [OutcomeKind.FAILED] * 2
    assert all("cannot be reached" in outcome.message for outcome in outcomes)


def test_a_peer_that_says_nothing_is_given_up(make_object: MakeObject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        there = Destination(name="x", ae_title="SCP", host="127.0.0.1", port=port)
        (outcome,) = deliver([make_object()], there, timeout_seconds=1.0)
    assert outcome.kind is OutcomeKind.FAILED
    assert "does not answer" in outcome.message


def test_an_abort_is_noticed_without_waiting_for_the_timeout(
    start_scp: Start, make_object: MakeObject
) -> None:
    """Were it waited for, pytest's own limit would end this test."""

    def store(event: Any) -> int:
        event.assoc.abort()
        return 0x0000

    objects = [make_object("a"), make_object("b")]
    outcomes = deliver(objects, start_scp(store), timeout_seconds=3600.0)
    assert kinds(outcomes) == [OutcomeKind.FAILED] * 2
    assert "ended before this object" in outcomes[1].message


def _reset(client: socket.socket) -> None:
    client.recv(1000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _half_an_answer(client: socket.socket) -> None:
    """Send the first bytes of a P-DATA-TF PDU and no more."""
    client.recv(1000)
    client.sendall(bytes([0x04, 0, 0, 0, 1, 0, 0, 0]))
    while client.recv(65536):
        pass


@pytest.mark.parametrize(
    "after",
    [socket.socket.close, _reset, lambda _client: None, _half_an_answer],
    ids=["closes", "resets", "stops-reading", "half-an-answer"],
)
def test_a_peer_that_fails_in_the_middle_of_an_object_holds_nobody(
    after: Callable[[socket.socket], None],
    start_scp: Start,
    start_relay: Callable[..., Destination],
    make_object: MakeObject,
) -> None:
    there = start_relay(start_scp(), after)
    outcomes = deliver([make_object("a", BIG), make_object("b")], there, timeout_seconds=1.0)
    assert kinds(outcomes) == [OutcomeKind.FAILED] * 2


def test_a_file_that_is_gone_fails_alone(start_scp: Start, make_object: MakeObject) -> None:
    objects = [make_object("a"), make_object("b")]
    objects[0].path.unlink()
    outcomes = deliver(objects, start_scp())
    assert kinds(outcomes) == [OutcomeKind.DAMAGED, OutcomeKind.DELIVERED]
    assert "a.dcm is missing" in outcomes[0].message


@pytest.mark.parametrize("known", [True, False], ids=["digest kept", "of an older version"])
def test_a_file_that_was_cut_to_half_is_not_sent(
    start_scp: Start, make_object: MakeObject, *, known: bool
) -> None:
    received: list[str] = []

    def store(event: Any) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    whole, half = make_object("a"), make_object("b", 4000)
    content = half.path.read_bytes()
    half.path.write_bytes(content[: len(content) // 2])
    if known:
        half = replace(half, digest=sha256(content).hexdigest(), size=len(content))
    outcomes = deliver([half, whole], start_scp(store))
    assert kinds(outcomes) == [OutcomeKind.DAMAGED, OutcomeKind.DELIVERED]
    assert received == [whole.sop_instance_uid]


def test_a_file_with_another_byte_is_not_sent(start_scp: Start, make_object: MakeObject) -> None:
    item = make_object("a")
    content = item.path.read_bytes()
    item = replace(item, digest=sha256(content).hexdigest(), size=len(content))
    item.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (outcome,) = deliver([item], start_scp())
    assert outcome.kind is OutcomeKind.DAMAGED
    assert "other content" in outcome.message


def test_no_response_is_lost_under_load(
    start_scp: Start, make_object: MakeObject, caplog: pytest.LogCaptureFixture
) -> None:
    """Never may the reactor take a response (pynetdicom's log line says when it did).

    With busy threads beside it, it took one in twenty before the gate was there.
    """
    objects = [make_object("small")] * 60
    destination = start_scp(maximum_associations=10)
    results: list[tuple[Outcome, ...]] = []
    done = threading.Event()

    def burn() -> None:
        while not done.is_set():
            sum(range(2000))

    busy = [threading.Thread(target=burn) for _ in range(2)]
    senders = [
        threading.Thread(target=lambda: results.append(deliver(objects, destination)))
        for _ in range(4)
    ]
    with caplog.at_level(logging.ERROR, logger="pynetdicom"):
        for thread in [*busy, *senders]:
            thread.start()
        for sender in senders:
            sender.join()
        done.set()
        for thread in busy:
            thread.join()
    assert [kinds(outcomes) for outcomes in results] == [[OutcomeKind.DELIVERED] * 60] * 4
    assert "unexpected" not in caplog.text


def test_the_socket_sends_at_once(
    start_scp: Start, make_object: MakeObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without TCP_NODELAY each small object waits for a delayed acknowledgement (40 ms)."""
    chosen: list[tuple[Any, ...]] = []

    class Watched(socket.socket):
        def setsockopt(self, *arguments: Any) -> None:
            chosen.append(arguments)
            super().setsockopt(*arguments)

    destination = start_scp()
    monkeypatch.setattr(socket, "socket", Watched)
    deliver([make_object()], destination)
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in chosen


def test_echo(start_scp: Start) -> None:
    outcome = echo(start_scp(kinds=(VERIFICATION,)), calling_ae="RALES")
    assert outcome.kind is OutcomeKind.DELIVERED


def test_echo_to_nobody() -> None:
    outcome = echo(nobody(), calling_ae="RALES", timeout_seconds=2.0)
    assert outcome.kind is OutcomeKind.FAILED


@pytest.mark.parametrize(
    ("text", "title", "host", "port"),
    [
        ("PACS@example.org:104", "PACS", "example.org", 104),
        ("MY PACS@127.0.0.1:11112", "MY PACS", "127.0.0.1", 11112),
        ("PACS@[::1]:104", "PACS", "::1", 104),
    ],
)
def test_addresses(text: str, title: str, host: str, port: int) -> None:
    parsed = Destination.parse(text)
    assert (parsed.ae_title, parsed.host, parsed.port) == (title, host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PACS",
        "PACS@host",
        "@host:104",
        "PACS@:104",
        "PACS@host:",
        "PACS@host:0",
        "PACS@host:65536",
        "PACS@host:104x",
        "PACS@host:104\n",
        "SEVENTEEN_LETTERS@host:104",
        "BACK\\SLASH@host:104",
        "   @host:104",
        "PACS@a:b:104",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|AE title"):
        Destination.parse(text)


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=40))
def test_parsing_never_raises_anything_else(text: str) -> None:
    try:
        parsed = Destination.parse(text)
    except ValueError:
        return
    assert 0 < parsed.port <= 65535
    assert parsed.host
