"""SIGTERM while a destination holds a conversation: the node ends, and delivers later."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_peer import DATA, RELEASE, Misbehave, after, header, peer, silent, trickling
from tiny_node import StoringPacs, TinyNode, send_files, write_models, write_tiny_series
from waiting import wait_for

from dicom_out.network.destination import Destination
from phantom import Thorax

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

_LONGEST = 15.0
"""Seconds from SIGTERM to the end, on a busy machine; a conversation has three."""


@pytest.mark.parametrize(
    "how",
    [
        lambda _: trickling(header(0x02, 5000)),
        lambda port: after({DATA: trickling(header(DATA, 5000))}, port),
        lambda port: after({DATA: silent}, port),
        lambda port: after({RELEASE: trickling(header(0x06, 4)[:2])}, port),
    ],
    ids=["acceptance trickles", "answer trickles", "never reads", "release trickles"],
)
def test_a_stop_ends_whatever_a_destination_does(
    how: Callable[[int], Misbehave],
    request: pytest.FixtureRequest,
    pacs: StoringPacs,
    thorax: Thorax,
    tmp_path: Path,
) -> None:
    healthy, called = pacs.start(), threading.Event()

    def noting(line: socket.socket, over: threading.Event) -> None:
        called.set()
        how(healthy.port)(line, over)

    node = TinyNode(tmp_path, write_models(tmp_path / "models", thorax), [], quiet_seconds=1.0)
    request.addfinalizer(node.end)
    series = write_tiny_series(thorax, tmp_path / "in", "stopped")
    with peer(noting) as port:
        node.destinations = [Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)]
        node.start()
        assert send_files(node.port, series.files, set())
        wait_for("the destination to be called", called.is_set)
        began = time.monotonic()
        assert node.terminate() == 0, node.log()
        assert time.monotonic() - began < _LONGEST, node.log()
    assert "Traceback" not in node.log()
    node.destinations = [healthy]
    node.start()
    assert node.ended(series.uid) == "done", node.log()
    assert node.terminate() == 0
    assert sorted(pacs.times.values()) == [1, 1]
