"""Results over STOW-RS from a real node: nothing lost, nothing twice, whatever the service does."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path

import pydicom
from tiny_node import TinyNode, send_files, tiny_thorax, write_models, write_tiny_series
from waiting import wait_for
from web_service import STORED, Service, named, says, sent


def test_a_service_that_is_down_at_first_gets_everything_once_also_over_a_kill(
    tmp_path: Path,
) -> None:
    down, seen = threading.Event(), threading.Event()
    down.set()
    stored: list[str] = []

    def answer(service: Service, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if down.is_set():
            seen.set()
            says(503)(service, handler, body)
            return
        uid = str(pydicom.dcmread(BytesIO(sent(body))).SOPInstanceUID)
        stored.append(uid)
        says(200, named(STORED, uid))(service, handler, body)

    thorax = tiny_thorax()
    service = Service(answer)
    node = TinyNode(
        tmp_path,
        write_models(tmp_path / "models", thorax),
        [],
        extra=f'[[destinations]]\nname = "web"\nurl = "{service.url}"\n',
    )
    series = write_tiny_series(thorax, tmp_path, "WEB")
    try:
        node.start()
        assert send_files(node.port, series.files, set())
        wait_for("the first try", seen.is_set)
        node.kill()
        node.start()
        down.clear()
        assert node.ended(series.uid) == "done"
        assert node.terminate() == 0
    finally:
        node.end()
        service.close()
    rows = node.rows("SELECT sop_instance_uid, state FROM deliveries ORDER BY rowid")
    assert [state for _, state in rows] == ["delivered"] * 2
    # In either order: each object waits a time of its own after a refusal.
    assert sorted(stored) == sorted(uid for uid, _ in rows)
