"""Resident memory stays flat; `make soak` watches it over 500 series."""

from __future__ import annotations

from pathlib import Path

from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    wait_for,
    write_models,
    write_tiny_series,
)

_WARM_UP = 6
_SERIES = 26
_GROWTH_MB = 64


def _resident_mb(node: TinyNode) -> float:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def test_the_receiver_does_not_grow_with_the_series(tmp_path: Path) -> None:
    thorax = tiny_thorax()
    pacs = StoringPacs()
    node = TinyNode(
        folder=tmp_path,
        models=write_models(tmp_path / "models", thorax),
        destinations=[pacs.start()],
    )
    done = "SELECT count(*) FROM jobs WHERE state = 'done'"
    try:
        node.start()
        seen = []
        for number in range(_SERIES):
            series = write_tiny_series(thorax, tmp_path / "in", f"patient{number}")
            assert send_files(node.port, series.files, set())
            if number in (_WARM_UP, _SERIES - 1):
                wait_for("what was sent", lambda n=number: node.rows(done) == [(n + 1,)])
                seen.append(_resident_mb(node))
        assert len(pacs.datasets) == 2 * _SERIES
        assert seen[1] - seen[0] < _GROWTH_MB
        assert node.terminate() == 0
    finally:
        node.end()
        pacs.stop()
