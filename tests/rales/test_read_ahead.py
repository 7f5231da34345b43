"""What is received is read ahead by the idle analysis process, and never at the cost of a job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ct_series import SLICES, SeriesMaker
from fakes import InlineWorker
from state_rig import NOON, StateRig

from chestct.errors import AnalysisCrashed, AnalysisStopped
from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid, derive_uid
from inference.loading.loader import LoadingPolicy, load
from inference.loading.stored_images import StoredSeries
from rales.analysis.pipeline import read_ahead
from rales.runtime.process import WorkerProcess
from rales.state.store import Database
from rales.steps.read_ahead import EarlyReading

BUDGET = 1 << 30


class Rig(StateRig):
    """A state file whose series are read ahead."""

    def __init__(self, database: Database, process: Any) -> None:
        super().__init__(database)
        self.early = EarlyReading(
            jobs=self.jobs, instances=self.instances, process=process, budget=BUDGET
        )

    def receive(self, *instances: ReceivedInstance) -> None:
        for instance in instances:
            self.instances.record(instance)

    def read(self, seconds: float = 1.0) -> None:
        """Step until nothing more is there to read."""
        now = self.clock.advance(seconds)
        while self.early.step(now) == now:
            pass


@pytest.fixture(autouse=True)
def nothing_read() -> Iterator[None]:
    yield
    read_ahead().keep(())
    read_ahead.cache_clear()


@pytest.fixture
def rig(database: Database) -> Rig:
    return Rig(database, InlineWorker())


def made(folder: Path, number: int) -> Series:
    folder = folder / str(number)
    folder.mkdir()
    series = SeriesMaker(folder)()
    return Series.of(
        replace(
            instance,
            series_uid=Uid(f"1.2.{number}"),
            sop_instance_uid=derive_uid(str(number), str(index)),
            content_digest=f"{number}-{index}",
            received_at=NOON,
        )
        for index, instance in enumerate(series.instances)
    )


def require_whole(stored: StoredSeries, series: Series) -> None:
    assert all(image.is_decoded for image in stored.images)
    plain = load(series, LoadingPolicy())
    np.testing.assert_array_equal(load(series, LoadingPolicy(), stored=stored).hu, plain.hu)


def kept() -> set[str]:
    return {str(uid) for uid, reader in read_ahead()._readers.items() if reader._images}


def test_four_series_that_arrive_together_are_read_as_they_arrive(rig: Rig, tmp_path: Path) -> None:
    flying = [made(tmp_path, number) for number in range(4)]
    for first in range(0, SLICES, 7):
        for series in flying:
            rig.receive(*series.instances[first : first + 7])
        rig.read()
        assert all(
            len(read_ahead()._readers[series.series_uid]._images) == min(SLICES, first + 7)
            for series in flying
        )
    for series in flying:
        require_whole(read_ahead().stored(series), series)


def test_a_look_is_not_repeated_for_each_image(rig: Rig, tmp_path: Path) -> None:
    series = made(tmp_path, 1)
    rig.receive(*series.instances[:3])
    rig.read()
    rig.receive(*series.instances[3:])
    due = rig.early.step(rig.clock.now)
    assert due is not None
    assert due > rig.clock.now
    assert len(read_ahead()._readers[series.series_uid]._images) == 3
    rig.read()
    assert len(read_ahead()._readers[series.series_uid]._images) == SLICES


def test_a_ready_series_is_kept_and_an_analysed_series_is_not(rig: Rig, tmp_path: Path) -> None:
    series = made(tmp_path, 1)
    rig.receive(*series.instances)
    rig.read()
    rig.mark_ready("1.2.1")
    rig.read()
    assert kept() == {"1.2.1"}
    assert rig.jobs.claim(at=rig.clock.now) is not None
    rig.read()
    assert not kept()


def test_a_series_that_does_not_grow_is_forgotten_once(rig: Rig, tmp_path: Path) -> None:
    series = made(tmp_path, 1)
    rig.receive(*series.instances[:9])
    rig.read()
    rig.read(120)
    assert not kept()
    assert rig.early.step(rig.clock.advance(1)) is None
    rig.receive(*series.instances[9:])
    rig.read()
    assert len(read_ahead()._readers[series.series_uid]._images) == SLICES - 9
    require_whole(read_ahead().stored(series), series)


@pytest.mark.parametrize("error", [AnalysisCrashed("killed"), AnalysisStopped("stops")])
def test_a_process_that_fails_costs_no_job_an_attempt(
    database: Database, tmp_path: Path, error: Exception
) -> None:
    class Failing(InlineWorker):
        def call(self, *_arguments: Any) -> Any:
            raise error

    rig = Rig(database, Failing())
    rig.receive(*made(tmp_path, 1).instances)
    rig.read()
    job = rig.mark_ready("1.2.1")
    assert job.attempts == 0
    assert rig.jobs.claim(at=rig.clock.now) is not None


def stored_in_process(series: Series) -> tuple[int, bytes]:
    """Return how many images are decoded, and the volume (runs in the process)."""
    before = sum(len(reader._images) for reader in read_ahead()._readers.values())
    stored = read_ahead().stored(series)
    return before, load(series, LoadingPolicy(), stored=stored).hu.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [1, 2])
def test_a_killed_process_changes_no_volume(
    database: Database, tmp_path: Path, kill_at: int
) -> None:
    series = made(tmp_path, 1)
    process = WorkerProcess(time_limit=60)
    try:
        rig = Rig(database, process)
        for step in range(3):
            rig.receive(*series.instances[8 * step : 8 * step + 8])
            if step == kill_at:
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
            rig.read()
        before, volume = process.call(stored_in_process, series)
    finally:
        process.close()
    assert before < SLICES
    assert volume == load(series, LoadingPolicy()).hu.tobytes()
