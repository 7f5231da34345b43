"""Series as senders pause: over many associations, through real sockets, one whole result."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tiny_node import (
    SLICES,
    StoringPacs,
    TinyNode,
    TinySeries,
    send_files,
    write_models,
    write_tiny_series,
)
from waiting import wait_for

from phantom import Thorax

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

_QUIET = 4.0


@pytest.fixture
def pacs() -> StoringPacs:
    return StoringPacs()


@pytest.fixture
def node(thorax: Thorax, pacs: StoringPacs, tmp_path: Path) -> Iterator[TinyNode]:
    models = write_models(tmp_path / "models", thorax)
    running = TinyNode(tmp_path, models, [pacs.start()], quiet_seconds=_QUIET)
    running.start()
    yield running
    running.end()
    pacs.stop()


@pytest.fixture
def series(thorax: Thorax, tmp_path: Path) -> TinySeries:
    return write_tiny_series(thorax, tmp_path / "in", "paused")


def _one_whole_result(node: TinyNode, pacs: StoringPacs, series: TinySeries) -> None:
    assert node.ended(series.uid) == "done", node.log()
    found = pacs.of_series(series.uid)
    assert {kind: len(items) for kind, items in found.items()} == {"SEG": 1, "SR": 1}, node.log()
    sql = "SELECT revision, state, instance_count FROM jobs WHERE series_uid = ?"
    assert node.rows(sql, series.uid) == [(1, "done", SLICES)], node.log()
    assert not node.rows("SELECT 1 FROM job_events WHERE after IN ('rejected', 'failed')")


def _quiet_time_passed(node: TinyNode, uid: str) -> None:
    ((last,),) = node.rows("SELECT max(received_at) FROM instances WHERE series_uid = ?", uid)
    ((first_sent,),) = node.rows("SELECT min(created_at) FROM deliveries")
    waited = datetime.fromisoformat(first_sent) - datetime.fromisoformat(last)
    assert waited >= timedelta(seconds=_QUIET)


def test_one_association_for_each_image_in_any_order_gives_one_result(
    node: TinyNode, pacs: StoringPacs, series: TinySeries
) -> None:
    """Pauses of up to three settle times and of up to a fifth of the quiet time."""
    chance = random.Random(4)  # noqa: S311 - no secret
    files = list(series.files)
    chance.shuffle(files)
    pause, taken = threading.Event(), set[str]()
    for file in files:
        assert send_files(node.port, [file], taken)
        pause.wait(chance.uniform(0.05, 0.6))
    assert [state for state, _ in node.jobs(series.uid)] == ["receiving"]
    _one_whole_result(node, pacs, series)
    _quiet_time_passed(node, series.uid)


def test_two_halves_over_two_associations_give_one_result(
    node: TinyNode, pacs: StoringPacs, series: TinySeries
) -> None:
    half, taken = SLICES // 2, set[str]()
    assert send_files(node.port, series.files[:half], taken)
    note = "SELECT message FROM jobs WHERE message LIKE '%no whole chest yet'"
    wait_for("the reason why it waits", lambda: node.rows(note))
    threading.Event().wait(1.2)  # six settle times
    assert send_files(node.port, series.files[half:], taken)
    _one_whole_result(node, pacs, series)
    _quiet_time_passed(node, series.uid)


def test_a_whole_series_of_one_association_settles(
    node: TinyNode, pacs: StoringPacs, series: TinySeries
) -> None:
    assert send_files(node.port, series.files, set())
    _one_whole_result(node, pacs, series)
    ((last,),) = node.rows("SELECT max(received_at) FROM instances")
    ((ready, why),) = node.rows("SELECT at, message FROM job_events WHERE after = 'ready'")
    waited = datetime.fromisoformat(ready) - datetime.fromisoformat(last)
    assert "settled" in why
    assert waited < timedelta(seconds=_QUIET / 2), "the settle time is 0.2 s"


def test_silence_counts_only_from_when_the_node_listens(
    node: TinyNode, pacs: StoringPacs, series: TinySeries
) -> None:
    """Models take long to load: a restart must not complete what nobody could go on sending."""
    node.kill()
    node.quiet_seconds = 1.0
    node.start()
    half = SLICES // 2
    assert send_files(node.port, series.files[:half], set())
    node.kill()
    assert [state for state, _ in node.jobs(series.uid)] == ["receiving"]
    node.start()
    wait_for("the end of the quiet time", lambda: node.jobs(series.uid)[0][0] != "receiving")
    (*_, listens) = [line for line in node.log().splitlines() if " listens on " in line]
    ((ready,),) = node.rows("SELECT at FROM job_events WHERE after = 'ready'")
    waited = datetime.fromisoformat(ready) - datetime.fromisoformat(listens.split()[0])
    assert waited >= timedelta(seconds=0.8), node.log()
