"""A header that no reader can trust costs its own series, never another, over restarts too."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import Wire, command_set, message, store_command
from hostile_headers import HostileHeader, encoded, headers
from tiny_node import StoringPacs, TinyNode, send_files, tiny_thorax, write_tiny_series
from waiting import wait_for

from chestct.errors import NotDicom
from chestct.states import JobState
from chestct.uids import derive_uid
from rales.steps import analyse as worker_module
from scp.headers import parse
from scp.stored import instance_of

from .test_damaged_input import _ATTEMPTS, EXPLICIT, Chest, Rig, chest, rig

__all__ = ["chest", "rig"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
_HEADERS = {one.name: one for one in headers()}


def _receive(rig: Rig, header: HostileHeader) -> str | None:
    """Receive the series with the hostile values; None where it is refused at the door."""
    series = derive_uid(header.name)
    for number, file in enumerate(rig.chest.series.files, start=1):
        _, content = encoded(file, header, series=series, number=number)
        try:
            found = parse(content, EXPLICIT)
        except NotDicom:
            return None
        whole = file.read_bytes()
        spooled = rig.spool.write(found.series_uid, whole[: whole.index(b"\x08\0\x05\0")], content)
        rig.instances.record(
            instance_of(
                found,
                spooled,
                transfer_syntax=EXPLICIT,
                received_at=rig.clock(),
                calling_ae="CT",
            )
        )
    rig.mark_ready(series)
    return series


@pytest.mark.parametrize("name", _HEADERS)
def test_a_hostile_header_is_refused_with_a_reason_or_analysed(rig: Rig, name: str) -> None:
    series = _receive(rig, _HEADERS[name])
    if series is None:
        return
    rig.worker.step(rig.clock.advance(1))
    job = rig.newest(series)
    assert job.state in {JobState.COMPOSED, JobState.REJECTED}, (job.state, job.message)
    assert job.message.isprintable()


class _Unspeakable(Exception):
    def __str__(self) -> str:
        return "\ud800".encode().decode()


def test_an_error_without_words_costs_its_own_job_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise _Unspeakable

    monkeypatch.setattr(worker_module, "run", run)
    rig.ready()
    for _ in range(_ATTEMPTS):
        rig.analyse()
    assert (rig.job.state, rig.job.reason) == (JobState.FAILED, "_Unspeakable")


def _send(node: TinyNode, chest: Chest, header: HostileHeader) -> tuple[str, list[int | None]]:
    """Send the whole series over one association; return its UID and the statuses."""
    series, statuses = derive_uid("sent", header.name), []
    with Wire(node.port, seconds=60) as wire:
        wire.establish()
        for number, file in enumerate(chest.series.files, start=1):
            uid, content = encoded(file, header, series=series, number=number)
            wire.send(message(command_set(store_command(instance=uid.encode())), content))
            statuses.append(wire.status())
        wire.release()
    return series, statuses


_SENT = (
    "character set 'unicode_escape'",
    "character set 'idna'",
    "character set 'rot13'",
    "a surrogate in ISO_IR 192 character set",
    "NUL in no character set",
    "64 KB in ISO_IR 192 character set",
)


def test_a_good_series_between_hostile_ones_is_delivered_also_over_a_restart(
    chest: Chest, tmp_path: Path
) -> None:
    pacs = StoringPacs()
    node = TinyNode(tmp_path, chest.models, [pacs.start()], quiet_seconds=2.0)
    try:
        node.start()
        hostile = []
        for name in _SENT:
            series, statuses = _send(node, chest, _HEADERS[name])
            assert None not in statuses, "the association goes on"
            if 0 in statuses:
                hostile.append(series)
        assert hostile
        thorax = tiny_thorax()
        first, second = (
            write_tiny_series(thorax, tmp_path / "in", name) for name in ("first", "second")
        )
        assert send_files(node.port, first.files, set())
        wait_for("an analysis", lambda: node.rows("SELECT 1 FROM jobs WHERE state = 'analysing'"))
        node.kill()
        node.start()
        assert send_files(node.port, second.files, set())
        for good in (first, second):
            assert node.ended(good.uid) == "done", node.log()
            found = pacs.of_series(good.uid)
            assert {kind: len(items) for kind, items in found.items()} == {"SEG": 1, "SR": 1}
        for series in hostile:
            assert node.ended(series) in {"done", "rejected"}, node.log()
        assert not node.rows("SELECT 1 FROM jobs WHERE state IN ('failed', 'analysing', 'ready')")
        assert node.terminate() == 0
    finally:
        node.end()
        pacs.stop()
