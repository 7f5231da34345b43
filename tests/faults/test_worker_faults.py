"""An analysis process that dies, hangs or eats memory: real processes, a real state file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from child_acts import (
    MEGABYTE,
    answer_a_lock,
    die,
    hang,
    mark_and_hang,
    pid,
    quote_a_surrogate,
    raise_what_holds_a_lock,
    raise_what_needs_more,
    reject,
    take,
)
from state_rig import NOON, StateRig, received_instance
from waiting import wait_for

from chestct.errors import AnalysisCrashed, AnalysisHung, AnalysisStopped, RejectReason
from chestct.errors import SeriesRejected as Rejected
from chestct.method import Method
from chestct.states import JobState
from inference.loading.rules import EligibilityRules
from rales.analysis.settings import AnalysisSettings
from rales.runtime.process import WorkerProcess
from rales.state.store import Database, Job
from rales.steps.analyse import AnalysisWorker
from rales.steps.retry import retry

_LIMIT = 1500 * MEGABYTE
"""Well above what the imports of an analysis process take by themselves."""


@pytest.fixture
def process() -> Iterator[Callable[..., WorkerProcess]]:
    made: list[WorkerProcess] = []

    def make(**settings: Any) -> WorkerProcess:
        made.append(WorkerProcess(**({"time_limit": 100.0} | settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def gone(number: int) -> bool:
    """Tell whether a process has ended; one that nobody has waited for yet counts too."""
    try:
        return ") Z " in Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_process_that_dies_is_named_and_replaced(
    process: Callable[..., WorkerProcess], number: signal.Signals
) -> None:
    worker = process()
    before = worker.call(pid)
    with pytest.raises(AnalysisCrashed, match=number.name):
        worker.call(die, number)
    after = worker.call(pid)
    assert after != before
    assert gone(before)


def test_one_that_hangs_is_ended_at_its_time_limit_and_replaced(
    process: Callable[..., WorkerProcess],
) -> None:
    worker = process(time_limit=20.0)
    before = worker.call(pid)
    worker._time_limit = 0.5
    with pytest.raises(AnalysisHung, match="exceeded its time limit of"):
        worker.call(hang)
    assert gone(before)
    worker._time_limit = 60.0
    assert worker.call(pid) != before


def test_one_that_takes_no_call_is_ended_at_its_time_limit_and_replaced(
    process: Callable[..., WorkerProcess],
) -> None:
    """A call is larger than a pipe holds: the request of a series of 400 slices is."""
    worker = process(time_limit=20.0)
    before = worker.call(pid)
    os.kill(before, signal.SIGSTOP)
    worker._time_limit = 0.5
    with pytest.raises(AnalysisHung, match="read no call within"):
        worker.call(len, bytes(8 * MEGABYTE))
    assert gone(before)
    worker._time_limit = 60.0
    assert worker.call(len, bytes(8 * MEGABYTE)) == 8 * MEGABYTE


def test_an_analysis_leaves_the_processor_to_the_receiver(
    process: Callable[..., WorkerProcess],
) -> None:
    assert process().call(os.nice, 0) == min(os.nice(0) + 10, 19)


def test_a_stop_ends_a_call_that_is_not_taken(process: Callable[..., WorkerProcess]) -> None:
    worker = process()
    os.kill(worker.call(pid), signal.SIGSTOP)
    stopper = threading.Timer(0.1, worker.stop)
    stopper.start()
    with pytest.raises(AnalysisStopped):
        worker.call(len, bytes(8 * MEGABYTE))
    stopper.join()


def test_memory_beyond_the_limit_is_refused_to_it_and_the_process_replaced(
    process: Callable[..., WorkerProcess],
) -> None:
    worker = process(memory_limit=_LIMIT)
    before = worker.call(pid)
    assert worker.call(take, 10) == 10 * MEGABYTE
    with pytest.raises(MemoryError):
        worker.call(take, 4000)
    assert gone(before)
    assert worker.call(pid) != before


def test_an_error_crosses_with_its_reason_and_costs_no_process(
    process: Callable[..., WorkerProcess],
) -> None:
    worker = process()
    before = worker.call(pid)
    with pytest.raises(Rejected) as caught:
        worker.call(reject)
    assert caught.value.reason is RejectReason.NO_LUNGS
    assert worker.call(pid) == before


@pytest.mark.parametrize(
    ("function", "kind", "name"),
    [
        (raise_what_needs_more, RuntimeError, "NeedsMore"),
        (raise_what_holds_a_lock, RuntimeError, "HoldsALock"),
        (answer_a_lock, TypeError, "lock"),
        (quote_a_surrogate, UnicodeEncodeError, "surrogates"),
    ],
)
def test_an_error_or_answer_that_cannot_cross_costs_its_call_and_no_process(
    process: Callable[..., WorkerProcess],
    function: Callable[[], object],
    kind: type[Exception],
    name: str,
) -> None:
    worker = process()
    before = worker.call(pid)
    with pytest.raises(kind, match=name):
        worker.call(function)
    assert worker.call(pid) == before


def test_a_stop_ends_the_call_and_takes_no_other(
    process: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    worker = process()
    mark = tmp_path / "mark"
    caught: list[BaseException] = []

    def run() -> None:
        try:
            worker.call(mark_and_hang, mark)
        except AnalysisStopped as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for("the mark", lambda: mark.exists() and bool(mark.read_text()))
    worker.stop()
    thread.join(60)
    assert len(caught) == 1
    assert gone(int(mark.read_text()))
    with pytest.raises(AnalysisStopped):
        worker.call(pid)


def test_signals_to_the_group_leave_the_analysis_to_the_node(
    process: Callable[..., WorkerProcess],
) -> None:
    worker = process()
    number = worker.call(pid)
    os.kill(number, signal.SIGTERM)
    os.kill(number, signal.SIGINT)
    assert worker.call(pid) == number


def test_the_process_does_not_outlive_a_node_that_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\nfrom pathlib import Path\n"
        "from rales.runtime.process import WorkerProcess\n"
        "def job(path):\n"
        "    Path(path).write_text(str(os.getpid()))\n    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        f"    WorkerProcess(time_limit=600).call(job, {str(mark)!r})\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    wait_for("the mark", lambda: mark.exists() and bool(mark.read_text()))
    parent.kill()
    parent.wait(60)
    wait_for("the end of the process", lambda: gone(int(mark.read_text())))


class Rig(StateRig):
    """An analysis loop whose analyses are whatever ``acts`` says of a series."""

    def __init__(self, database: Database, worker: WorkerProcess, folder: Path) -> None:
        super().__init__(database)
        self.acts: dict[str, tuple[Any, ...]] = {}
        self.order: list[str] = []
        self._worker = worker
        self.loop = AnalysisWorker(
            jobs=self.jobs,
            instances=self.instances,
            settings=AnalysisSettings(
                rules=EligibilityRules(),
                method=Method(),
                minimum_lesion_ml=None,
                models_dir=None,
                providers=("CPU",),
                threads=1,
                station_name="RALES",
            ),
            results_dir=folder,
            attempts=2,
            process=self,
            clock=self.clock,
            on_composed=lambda: None,
        )

    def call(self, function: Any, /, *arguments: Any) -> Any:
        """Do in the real process what is planned instead of the analysis."""
        del function
        series_uid = arguments[0].series.series_uid
        self.order.append(series_uid)
        self._worker._time_limit = 100.0
        self._worker.call(pid)  # its start is not part of what is timed here
        if self.acts[series_uid] == (hang,):
            self._worker._time_limit = 1.0
        return self._worker.call(*self.acts[series_uid])

    def stop(self) -> None:
        """End the call."""
        self._worker.stop()

    def close(self) -> None:
        self._worker.close()

    def ready(self, series: str, *acts: Any, folder: Path) -> Job:
        self.acts[series] = acts
        self.instances.record(received_instance(folder / series, series=series))
        return self.mark_ready(series)

    def run_out(self) -> None:
        """Go through the loop until nothing is ready any more."""
        while self.jobs.in_state(JobState.READY):
            if self.loop.step(self.clock.now) == self.jobs.next_due():
                self.clock.advance(5)


@pytest.fixture
def rig(process: Callable[..., WorkerProcess], tmp_path: Path) -> Iterator[Rig]:
    database = Database(tmp_path / "state.sqlite")
    yield Rig(database, process(memory_limit=_LIMIT), tmp_path)
    database.close()


@pytest.mark.parametrize(
    ("acts", "reason"),
    [
        ((die, signal.SIGKILL), "analysis-crashed"),
        ((hang,), "analysis-hung"),
        ((take, 4000), "out-of-memory"),
    ],
)
def test_poison_is_set_aside_with_its_reason_behind_the_others_and_can_be_retried(
    rig: Rig, tmp_path: Path, acts: tuple[Any, ...], reason: str
) -> None:
    poison = rig.ready("1.1", *acts, folder=tmp_path)
    good = [rig.ready(f"1.{n}", reject, folder=tmp_path) for n in (2, 3, 4)]
    rig.run_out()
    assert rig.order == ["1.1", "1.2", "1.3", "1.4", "1.1"]
    assert {rig.jobs.get(job.id).state for job in good} == {JobState.REJECTED}
    ended = rig.jobs.get(poison.id)
    assert (ended.state, ended.reason, ended.attempts) == (JobState.FAILED, reason, 2)
    assert "2 attempts" in ended.message
    assert retry(rig.jobs, ended, at=rig.clock.now) is JobState.READY
    rig.acts["1.1"] = (reject,)
    rig.run_out()
    assert rig.jobs.get(poison.id).state is JobState.REJECTED


def test_a_retry_waits_behind_all_that_were_ready_before_it_fell_due(
    rig: Rig, tmp_path: Path
) -> None:
    rig.ready("1.1", die, signal.SIGKILL, folder=tmp_path)
    rig.loop.step(NOON)
    rig.clock.advance(9)
    rig.ready("1.2", reject, folder=tmp_path)
    rig.clock.advance(60)
    rig.ready("1.3", reject, folder=tmp_path)
    rig.run_out()
    assert rig.order[1:] == ["1.2", "1.1", "1.3"]


def test_a_parked_analysis_costs_no_attempt(rig: Rig, tmp_path: Path) -> None:
    job = rig.ready("1.1", reject, folder=tmp_path)
    rig.loop.park()
    rig.loop.step(NOON)
    parked = rig.jobs.get(job.id)
    assert (parked.state, parked.attempts) == (JobState.READY, 0)
    assert "the node stops" in parked.message


def test_kills_of_the_node_cost_no_attempt_but_end_a_series_in_the_end(
    rig: Rig, tmp_path: Path
) -> None:
    job = rig.ready("1.1", reject, folder=tmp_path)
    for number in range(1, 10):
        assert rig.jobs.claim(at=NOON + timedelta(hours=1)) is not None
        assert rig.jobs.recover(interruptions=10, at=NOON) == 1
        assert rig.jobs.get(job.id).state is JobState.READY, number
        assert rig.jobs.get(job.id).attempts == 0
    rig.jobs.claim(at=NOON + timedelta(hours=1))
    rig.jobs.recover(interruptions=10, at=NOON)
    ended = rig.jobs.get(job.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "interrupted")
