"""Resident memory stays flat; `make soak` watches it over 500 series."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from hostile import Wire, command_set, echo, message, p_data, store_command
from hostile_amplifiers import KINDS
from tiny_node import (
    StoringPacs,
    TinyNode,
    send_files,
    tiny_thorax,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

_WARM_UP = 6
_SERIES = 26
_GROWTH_MB = 64


def _resident_mb(node: TinyNode, field: str = "VmRSS") -> float:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


_CHEAP_TO_SEND = (
    "2^20 elements, explicit VR (8.4 MB)",
    "2^20 items without elements (8.4 MB)",
    "2^17 items with a sequence each (5.8 MB)",
    "2^20 elements, deflated",
    "60 MB of zeros, deflated (60 kB)",
    "8 million values (8.4 MB)",
)
_PEAK_MB = 150


def test_hostile_inputs_do_not_raise_the_memory(tmp_path: Path) -> None:
    """Those that cost much, and a crowd that stops in the middle of large objects."""
    node = TinyNode(tmp_path, write_models(tmp_path / "models", tiny_thorax()), [])
    try:
        node.start()
        before = _resident_mb(node)
        for name in _CHEAP_TO_SEND:
            with Wire(node.port, seconds=60) as wire:
                wire.establish()
                wire.send(KINDS[name]().payload)
                assert wire.status() == 0xC000
                wire.release()
        part = p_data(bytes(1 << 16), control=0)
        half = message(command_set(store_command(instance=b"1.2.3")), None) + part * 256
        with ExitStack() as stack:
            for _ in range(20):
                wire = stack.enter_context(Wire(node.port, seconds=60))
                wire.establish()
                wire.send(half)
            echo(node.port, seconds=60)
            assert _resident_mb(node, "VmHWM") - before < _PEAK_MB
        assert node.terminate() == 0
    finally:
        node.end()


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
