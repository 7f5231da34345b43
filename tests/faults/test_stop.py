"""SIGTERM, and what systemd hears of it, over a real datagram socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from tiny_node import StoringPacs, TinyNode, send_files, write_models, write_tiny_series
from waiting import wait_for

from phantom import Thorax
from rales.runtime.systemd import Notifier, Watchdog, watchdog_seconds

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


class Systemd:
    """The socket that NOTIFY_SOCKET names."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = str(folder / "notify")
        self._socket.bind(self.address)
        self._socket.settimeout(0.0)
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        while True:
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    running = Systemd(tmp_path)
    yield running
    running.close()


@pytest.fixture
def node(thorax: Thorax, systemd: Systemd, tmp_path: Path) -> Iterator[TinyNode]:
    pacs = StoringPacs()
    running = TinyNode(
        tmp_path,
        write_models(tmp_path / "models", thorax),
        [pacs.start()],
        environment={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "8000000"},
    )
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()
    pacs.stop()


def test_an_idle_association_does_not_delay_the_stop(node: TinyNode, systemd: Systemd) -> None:
    node.start()
    assert wait_for("a word", systemd.listen)[0] == "READY=1"
    ae = AE(ae_title="IDLE")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", node.port, ae_title="RALES")
    assert association.is_established
    silent = socket.create_connection(("127.0.0.1", node.port))
    began = time.monotonic()
    assert node.terminate() == 0, node.log()
    assert time.monotonic() - began < 30
    assert "STOPPING=1" in systemd.listen()
    silent.close()
    wait_for("the abort", lambda: not association.is_established)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", node.port))


def test_a_stop_during_the_analysis_parks_it_or_ends_it(
    node: TinyNode, thorax: Thorax, tmp_path: Path
) -> None:
    one = write_tiny_series(thorax, tmp_path / "in", "stopped")
    node.start()
    assert send_files(node.port, one.files, set())
    wait_for("the analysis", lambda: node.jobs(one.uid)[0][0] != "receiving")
    assert node.terminate() == 0, node.log()
    attempts = node.rows("SELECT attempts, interruptions FROM jobs")
    assert attempts in ([(0, 0)], [(1, 0)])
    node.start()
    assert node.ended(one.uid) == "done", node.log()


def test_the_watchdog_hears_of_a_node_that_works(node: TinyNode, systemd: Systemd) -> None:
    node.start()
    wait_for("pings", lambda: systemd.listen().count("WATCHDOG=1") >= 3)


def test_no_ping_while_another_loop_stands_still() -> None:
    said: list[str] = []
    now = [0.0]
    watchdog = Watchdog(said.append, limit_seconds=8.0, clock=lambda: now[0])
    first, second = watchdog.drive_watchdog("assembly"), watchdog.watch_loop("analysis")
    for _ in range(5):
        now[0] += 4
        first()
        second()
    assert said == ["WATCHDOG=1"] * 5
    for _ in range(5):
        now[0] += 4
        first()
    assert said == ["WATCHDOG=1"] * 7
    second()
    now[0] += 4
    first()
    assert said == ["WATCHDOG=1"] * 8


def test_nothing_is_sent_where_systemd_did_not_ask() -> None:
    said: list[str] = []
    Watchdog(said.append, limit_seconds=None).drive_watchdog("assembly")()
    Notifier({})("READY=1")
    assert said == []
    assert watchdog_seconds({}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "3000000"}) == 3.0
    assert watchdog_seconds({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "x"}) is None


def test_a_socket_that_is_gone_is_no_reason_to_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})("READY=1")
    assert "systemd did not receive READY=1" in caplog.text


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0rales-test-notify")
        end.settimeout(10)
        Notifier({"NOTIFY_SOCKET": "@rales-test-notify"})("READY=1")
        assert end.recv(100) == b"READY=1"
