"""kill -9 at any instant: nothing acknowledged is lost, and nobody gets a result twice."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
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

_SERIES = 6
_SHORT_QUIET = 2.0
"""Where a part and then the rest of a series wait for the quiet time."""
SIZE_OF_PIXELS = 64 * 64 * 2
_MOMENTS = (
    "SELECT count(*) > 5 FROM instances",
    "SELECT count(*) > 0 FROM jobs WHERE state = 'analysing'",
    "SELECT count(*) > 0 FROM jobs WHERE state = 'composed' OR state = 'delivering'",
    "SELECT count(*) > 0 FROM deliveries WHERE sent > 0",
    "SELECT count(*) > 0 FROM deliveries WHERE state = 'delivered'",
)
_OFTEN = """
    SELECT count(*) FROM jobs WHERE interruptions > 7 AND state IN ('ready', 'analysing')
"""


@pytest.fixture
def pacs() -> StoringPacs:
    return StoringPacs()


@pytest.fixture
def node(thorax: Thorax, pacs: StoringPacs, tmp_path: Path) -> Iterator[TinyNode]:
    models = write_models(tmp_path / "models", thorax)
    running = TinyNode(tmp_path, models, [pacs.start()])
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()
    pacs.stop()


def _one_result(node: TinyNode, pacs: StoringPacs, series: TinySeries) -> None:
    found = pacs.of_series(series.uid)
    assert {kind: len(items) for kind, items in found.items()} == {"SEG": 1, "SR": 1}, node.log()


class _Modality(threading.Thread):
    """Sends every series until it was taken whole, as a PACS that routes does."""

    def __init__(self, node: TinyNode, series: list[TinySeries]) -> None:
        super().__init__(daemon=True)
        self.acknowledged: set[str] = set()
        self._node, self._series = node, series

    def run(self) -> None:
        for one in self._series:
            while not send_files(self._node.port, one.files, self.acknowledged):
                time.sleep(0.1)  # a PACS waits before it tries again


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1])
def test_twenty_kills_lose_nothing_and_double_nothing(
    node: TinyNode, pacs: StoringPacs, thorax: Thorax, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - chooses instants
    series = [write_tiny_series(thorax, tmp_path / "in", f"p{n}") for n in range(_SERIES)]
    modality = _Modality(node, series)
    modality.start()
    for number in range(20):
        node.start()
        if number % 2:
            moment = chance.choice(_MOMENTS)
            end = time.monotonic() + 5
            while time.monotonic() < end and node.rows(moment) != [(1,)]:
                time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 1.0))  # the instant of the kill is the test's input
        # On a slow machine most kills hit one analysis; after 10 the node rightly gives it up.
        wait_for("an end of what was interrupted often", lambda: node.rows(_OFTEN) == [(0,)], 240)
        node.kill()
    node.start()
    modality.join(300)
    assert not modality.is_alive()
    for one in series:
        assert node.ended(one.uid) == "done", (node.jobs(one.uid), node.log())
    kept = {row[0] for row in node.rows("SELECT sop_instance_uid FROM instances")}
    assert modality.acknowledged <= kept
    names = node.rows("SELECT path FROM instances WHERE current = 1")
    paths = [node.state.parent / name for (name,) in names]
    assert len(paths) == SLICES * _SERIES
    assert all(path.stat().st_size > SIZE_OF_PIXELS for path in paths)
    for one in series:
        _one_result(node, pacs, one)
    assert pacs.changed == []


def test_a_resend_in_flight_afterwards_and_after_a_restart_gives_no_second_result(
    node: TinyNode, pacs: StoringPacs, thorax: Thorax, tmp_path: Path
) -> None:
    one = write_tiny_series(thorax, tmp_path / "in", "again")
    node.start()
    taken: set[str] = set()
    assert send_files(node.port, one.files, taken)
    assert send_files(node.port, one.files, taken)
    assert node.ended(one.uid) == "done", node.log()
    assert send_files(node.port, one.files, taken)
    node.kill()
    node.start()
    assert send_files(node.port, one.files, taken)
    assert node.terminate() == 0
    assert node.jobs(one.uid) == [("done", "")]
    _one_result(node, pacs, one)
    assert set(pacs.times.values()) == {1}


def test_late_slices_give_one_more_result_that_names_its_predecessor(
    node: TinyNode, pacs: StoringPacs, thorax: Thorax, tmp_path: Path
) -> None:
    one = write_tiny_series(thorax, tmp_path / "in", "late")
    node.quiet_seconds = _SHORT_QUIET
    node.start()
    taken: set[str] = set()
    assert send_files(node.port, one.files[:22], taken)
    assert node.ended(one.uid) == "done", node.log()
    (first,) = pacs.of_series(one.uid)["SR"]
    assert send_files(node.port, one.files[22:], taken)
    wait_for("two revisions", lambda: len(node.jobs(one.uid)) == 2)
    assert node.ended(one.uid) == "done", node.log()
    reports = pacs.of_series(one.uid)["SR"]
    assert len(reports) == 2
    (second,) = [report for report in reports if report.SOPInstanceUID != first.SOPInstanceUID]
    assert "PredecessorDocumentsSequence" not in first
    (study,) = second.PredecessorDocumentsSequence
    (reference,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_late_slices_while_the_pacs_is_down_leave_it_one_result(
    node: TinyNode, pacs: StoringPacs, thorax: Thorax, tmp_path: Path
) -> None:
    one = write_tiny_series(thorax, tmp_path / "in", "down")
    node.quiet_seconds = _SHORT_QUIET
    pacs.stop()
    node.start()
    taken: set[str] = set()
    assert send_files(node.port, one.files[:22], taken)
    tried = "SELECT count(*) FROM deliveries WHERE attempts > 0"
    wait_for("a delivery that fails", lambda: node.rows(tried) == [(2,)])
    assert send_files(node.port, one.files[22:], taken)
    wait_for("the first to be withdrawn", lambda: node.jobs(one.uid)[0][0] == "superseded")
    pacs.start(node.destinations[0].port)
    assert node.ended(one.uid) == "done", node.log()
    _one_result(node, pacs, one)
    (report,) = pacs.of_series(one.uid)["SR"]
    assert "PredecessorDocumentsSequence" not in report
