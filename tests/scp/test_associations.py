"""Who is let in, how associations end, and what a hostile or careless peer cannot do."""

from __future__ import annotations

import logging
import re
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE
from waiting import wait_for

from pynetdicom_guard import limits as guard
from scp.admission import Admission
from scp.ports import AssociationEnd
from scp.server import RunningScp

from .conftest import (
    MemoryIntake,
    Rejected,
    Scu,
    associate_request,
    data_set_of,
    make_ct,
    store,
    to_bytes,
)

VERIFICATION = "1.2.840.10008.1.1"
Serve = Callable[..., RunningScp]


def _echo(port: int) -> int:
    with Scu(port, sop_class=VERIFICATION) as scu:
        request = bytearray(scu.request(VERIFICATION, None, command=0x30))
        # No data set follows (PS3.7 E.1): Command Data Set Type is 0101H.
        kind = request.index(struct.pack("<HHL", 0x0000, 0x0800, 2)) + 8
        request[kind : kind + 2] = b"\x01\x01"
        scu.send(bytes(request))
        return int(scu.answer().Status)


def _connect(node: RunningScp) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=20)


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _threads() -> int:
    return sum("Acceptor" in thread.name for thread in threading.enumerate())


def test_an_echo_is_answered(node: RunningScp) -> None:
    assert _echo(node.port) == 0x0000


def test_another_called_ae_title_is_rejected_with_its_reason(
    node: RunningScp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "scp"), pytest.raises(Rejected) as rejected:
        Scu(node.port, called="ARCHIVE", calling="CT1")
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 7)
    wait_for("a line in the log", lambda: bool(caplog.messages))
    (line,) = caplog.messages
    assert "ARCHIVE" in line
    assert "127.0.0.1" in line
    assert "alled AE title not recognised" in line
    assert "CT1@" in line


@pytest.mark.parametrize("calling", ["CT\x1b[31m1", "MÜLLER"])
def test_an_ae_title_that_is_none_ends_the_connection_and_is_logged(
    node: RunningScp, caplog: pytest.LogCaptureFixture, calling: str
) -> None:
    request = associate_request(
        CTImageStorage, ExplicitVRLittleEndian, called="RALES", calling=calling
    )
    with caplog.at_level(logging.WARNING, "scp"), _connect(node) as connection:
        connection.sendall(request)
        assert connection.recv(1) == b"\x07", "no A-ABORT"
        while connection.recv(100):
            pass
        wait_for("the log to say so", lambda: "no valid association request" in caplog.text)
    assert store(node, make_ct()).Status == 0x0000


def test_only_listed_calling_ae_titles_are_let_in(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    node = serve(admission=Admission(callers={"CT1": (), "CT2": ()}))
    with caplog.at_level(logging.WARNING, "scp"), pytest.raises(Rejected) as rejected:
        Scu(node.port, calling="CT3")
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 3)
    wait_for("a line in the log", lambda: bool(caplog.messages))
    assert re.search("CT3@127.0.0.1.*alling AE title not recognised", caplog.messages[0])
    with Scu(node.port, calling="CT2") as scu:
        assert scu.accepted


def test_what_an_association_offers_in_vain_is_logged(
    node: RunningScp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "scp"):
        Scu(node.port, sop_class=SecondaryCaptureImageStorage).release()
        Scu(node.port, syntax=ExplicitVRBigEndian).release()
        Scu(node.port).release()
    offers = [line for line in caplog.messages if "offers" in line]
    assert len(offers) == 2
    assert "Secondary Capture Image Storage" in offers[0]
    assert "CT Image Storage as Explicit VR Big Endian" in offers[1]


def test_a_release_is_told_before_it_is_answered(
    node: RunningScp, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_ct()
    with caplog.at_level(logging.INFO, "scp"):
        for _ in range(8):
            assert store(node, dataset).Status == 0x0000
    ended = frozenset({dataset.SeriesInstanceUID})
    assert intake.ends == [(ended, "SCANNER", AssociationEnd.RELEASED)] * 8
    assert sum("released: 1 stored" in line for line in caplog.messages) == 8
    assert "4711" not in caplog.text


@pytest.mark.parametrize("how", ["abort", "close", "reset"])
def test_any_other_end_is_an_abort(
    node: RunningScp, intake: MemoryIntake, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    dataset = make_ct()
    with caplog.at_level(logging.WARNING, "scp"):
        scu = Scu(node.port)
        assert scu.store(to_bytes(dataset), sop_instance=dataset.SOPInstanceUID).Status == 0x0000
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            scu.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if how == "abort":
            scu.abort()
        scu.socket.close()
        intake.wait_for(lambda: bool(intake.ends))
    assert [end for _, _, end in intake.ends] == [AssociationEnd.ABORTED]
    assert any("aborted" in line and "1 stored" in line for line in caplog.messages)
    if how == "abort":
        assert "by the sender" in caplog.text


def _store_part(scu: Scu, number: int) -> None:
    dataset = make_ct(number=number)
    assert scu.store(to_bytes(dataset), sop_instance=dataset.SOPInstanceUID).Status == 0x0000


@pytest.mark.parametrize("first", [AssociationEnd.RELEASED, AssociationEnd.ABORTED])
def test_each_association_that_brought_some_of_a_series_is_told(
    node: RunningScp, intake: MemoryIntake, first: AssociationEnd
) -> None:
    one, two = Scu(node.port, calling="A"), Scu(node.port, calling="B")
    _store_part(one, 1)
    _store_part(two, 2)
    if first is AssociationEnd.RELEASED:
        one.release()
    else:
        one.abort()
    intake.wait_for(lambda: len(intake.ends) == 1)
    two.release()
    assert [(calling, how) for _, calling, how in intake.ends] == [
        ("A", first),
        ("B", AssociationEnd.RELEASED),
    ]


def test_an_end_that_cannot_be_recorded_is_logged(
    node: RunningScp, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("the state file is gone")

    intake.association_ended = fail  # type: ignore[method-assign]
    assert store(node, make_ct()).Status == 0x0000
    wait_for("the log to say so", lambda: "could not be recorded" in caplog.text)
    assert "the state file is gone" in caplog.text
    assert store(node, make_ct()).Status == 0x0000


def test_four_associations_at_once_lose_nothing(node: RunningScp, intake: MemoryIntake) -> None:
    datasets = [make_ct(number=number) for number in range(16)]

    def send(part: list[pydicom.Dataset]) -> set[int]:
        with Scu(node.port) as scu:
            return {
                scu.store(to_bytes(one), sop_instance=one.SOPInstanceUID).Status for one in part
            }

    with ThreadPoolExecutor(4) as pool:
        statuses = set().union(*pool.map(send, (datasets[start::4] for start in range(4))))
    assert statuses == {0x0000}
    stored = {one.sop_instance_uid: data_set_of(one.path) for one in intake.instances}
    assert stored == {one.SOPInstanceUID: to_bytes(one) for one in datasets}
    assert [how for _, _, how in intake.ends].count(AssociationEnd.RELEASED) >= 1


def test_more_associations_than_allowed_are_rejected_for_now(serve: Serve) -> None:
    node = serve(maximum_associations=2)
    open_ones = [Scu(node.port), Scu(node.port)]
    with pytest.raises(Rejected) as rejected:
        Scu(node.port)
    assert rejected.value.result == 2, "transient"
    for scu in open_ones:
        scu.release()
    wait_for("the threads to end", lambda: _threads() <= 1)
    Scu(node.port).release()


def test_health_checks_and_silent_peers_keep_nobody_out(serve: Serve) -> None:
    node = serve(maximum_associations=1)
    for _ in range(8):
        _connect(node).close()
    silent = [_connect(node) for _ in range(8)]
    assert store(node, make_ct()).Status == 0x0000
    for connection in silent:
        connection.close()
    wait_for("the threads to end", lambda: _threads() <= 1)


def test_connections_that_close_at_once_leave_no_file_handle_behind(node: RunningScp) -> None:
    store(node, make_ct())
    wait_for("the threads to end", lambda: _threads() <= 1)
    before = _open_files()
    for _ in range(20):
        connection = _connect(node)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    wait_for("the threads to end", lambda: _threads() <= 1 and _open_files() <= before)


def test_the_oldest_of_too_many_silent_connections_goes(
    node: RunningScp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_MAXIMUM_IDLE_CONNECTIONS", 3)
    silent = []
    for _ in range(5):
        silent.append(_connect(node))
        wait_for("the threads", lambda: _threads() >= min(len(silent), 4) + 1)
    assert _is_closed(silent[0])
    assert "connections without an association" in caplog.text
    silent[-1].sendall(
        associate_request(CTImageStorage, ExplicitVRLittleEndian, called="RALES", calling="SLOW")
    )
    assert silent[-1].recv(1) == b"\x02", "the last was not accepted"
    for connection in silent:
        connection.close()


@pytest.mark.parametrize("length", [300 << 20, 0xFFFFFFFF])
def test_a_pdu_that_announces_too_much_ends_its_connection(
    node: RunningScp, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    scu = Scu(node.port)
    scu.send(struct.pack(">BBL", 0x04, 0, length) + bytes(1000))
    assert _is_closed(scu.socket)
    scu.socket.close()
    assert str(length) in caplog.text
    assert store(node, make_ct()).Status == 0x0000


@pytest.mark.parametrize("sent", [3, 6, 1000])
def test_a_pdu_that_does_not_end_is_not_waited_for(
    serve: Serve, caplog: pytest.LogCaptureFixture, sent: int
) -> None:
    node = serve(network_timeout=0.3)
    scu = Scu(node.port)
    scu.send((struct.pack(">BBL", 0x04, 0, 5000) + bytes(5000))[:sent])
    assert _is_closed(scu.socket)
    scu.socket.close()
    assert "did not arrive within 0.3 s" in caplog.text
    assert store(node, make_ct()).Status == 0x0000


def test_an_association_that_says_nothing_is_ended(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    node = serve(network_timeout=0.3)
    scu = Scu(node.port)
    assert scu.read()[0] == 0x07, "no A-ABORT"
    scu.socket.close()
    wait_for("the log to say so", lambda: "silent for too long" in caplog.text)


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x00" * 64]
)
def test_what_is_not_dicom_is_hung_up_on(
    node: RunningScp, caplog: pytest.LogCaptureFixture, noise: bytes
) -> None:
    with _connect(node) as connection:
        connection.sendall(noise)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 12):
            pass
        wait_for("the log to say so", lambda: "127.0.0.1: closed" in caplog.text)
    assert store(node, make_ct()).Status == 0x0000


def test_requests_sent_ahead_of_a_cut_leave_nothing_behind(
    node: RunningScp, intake: MemoryIntake
) -> None:
    dataset = make_ct()
    scu = Scu(node.port)
    request = scu.request(CTImageStorage, dataset.SOPInstanceUID)
    content = to_bytes(dataset)
    value = struct.pack(">LBB", len(content) + 2, 1, 0x02) + content
    scu.send((request + struct.pack(">BBL", 4, 0, len(value)) + value) * 20)
    scu.socket.close()
    wait_for("the threads to end", lambda: _threads() <= 1)
    assert len(intake.instances) <= 1
    assert AssociationEnd.RELEASED not in [how for _, _, how in intake.ends]
    assert store(node, make_ct()).Status == 0x0000


def test_a_stop_lets_an_association_end_and_takes_no_new_one(serve: Serve) -> None:
    node = serve()
    scu = Scu(node.port)
    port = node.port
    stopping = threading.Thread(target=node.stop)
    stopping.start()

    def refuses() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
        except ConnectionError:
            return True
        return False

    wait_for("a refusal", refuses)
    dataset = make_ct()
    assert scu.store(to_bytes(dataset), sop_instance=dataset.SOPInstanceUID).Status == 0x0000
    scu.release()
    stopping.join(20)
    assert not stopping.is_alive()


def test_a_stop_does_not_wait_for_silent_connections(serve: Serve) -> None:
    node = serve()
    with _connect(node) as connection:
        wait_for("the threads", lambda: _threads() == 2)
        node.stop()
        assert _is_closed(connection)
    wait_for("the threads to end", lambda: _threads() == 0)


def test_a_port_in_use_is_an_error_at_the_start(serve: Serve, node: RunningScp) -> None:
    with pytest.raises(OSError, match="in use"):
        serve(port=node.port)


def test_ipv6_is_listened_on(serve: Serve) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    node = serve(host="::1")
    with Scu(node.port, host="::1") as scu:
        dataset = make_ct()
        assert scu.store(to_bytes(dataset), sop_instance=dataset.SOPInstanceUID).Status == 0


def test_a_pynetdicom_scu_is_served(node: RunningScp, intake: MemoryIntake) -> None:
    dataset = make_ct()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ae = AE("SCU")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", node.port, ae_title="RALES")
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    assert association.send_c_store(dataset).Status == 0x0000
    association.release()
    assert data_set_of(intake.instances[0].path) == to_bytes(dataset)
