"""Any order of images, associations, steps, kills and retries loses nothing and doubles nothing.

The store and the steps are the real ones; time, analysis and destination are in hand. Images are
also recorded by another thread in the middle of a step, right after it has read.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fakes import ManualClock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from latest import latest_of_series
from notify_rig import HEALTHY
from steps import step_all

from chestct.errors import RejectReason, SeriesRejected
from chestct.results import Profile, ResultObject
from chestct.series import ReceivedInstance, Series
from chestct.states import JobState
from chestct.uids import Uid, derive_uid
from dicom_out.network.destination import Recipient
from dicom_out.network.outcome import Outcome, OutcomeKind
from rales.analysis.pipeline import AnalysisRequest
from rales.runtime.clock import Moment
from rales.state.store import Database, DeliveryStore, InstanceStore, Job, JobStore, RetentionStore
from rales.state.store.transitions import StateConflict
from rales.steps.analyse import AnalysisWorker
from rales.steps.assemble import AssemblyWorker
from rales.steps.backoff import BackOff
from rales.steps.completeness import CompletionPolicy
from rales.steps.deliver import DeliveryWorker
from rales.steps.retain import RetentionWorker
from rales.steps.retry import retry
from scp.ports import AssociationEnd
from scp.traffic import Traffic

from .conftest import NOON
from .test_deliveries import _DESTINATIONS
from .test_worker import _SETTINGS

SERIES = ("1.2.3", "1.2.4")
STUDY = Uid("1.2")
QUIET = timedelta(seconds=30)
WHOLE = 40
"""Slices of 5 mm; lung reaches an end of fewer, and fewer than half are not analysable."""
_WAITS = timedelta(minutes=10)


class _Reading(InstanceStore):
    """Lets another thread in once, after the instances of a series were read."""

    meanwhile: Callable[[], object] | None = None

    def of_series(self, series_uid: Uid) -> list[ReceivedInstance]:
        found = super().of_series(series_uid)
        action, self.meanwhile = self.meanwhile, None
        if action is not None:
            thread = threading.Thread(target=action)
            thread.start()
            thread.join()
        return found


class Node(RuleBasedStateMachine):
    """A node without sockets, and what it sent."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock(NOON)
        self.last: dict[str, datetime] = {}
        self.sent: dict[int, Job] = {}
        self.predecessors: dict[int, str] = {}
        self.answer = Outcome(kind=OutcomeKind.DELIVERED, status=0, message="")

    @initialize()
    def start(self) -> None:
        self.database = Database(self.folder / "state.sqlite")
        self.jobs = JobStore(self.database)
        self.instances = _Reading(self.database, on_change=lambda: None)
        self.jobs.recover(interruptions=100, at=self.clock.now)
        self.traffic = Traffic(monotonic=self._seconds)
        self.open: list[str] = []
        self.assembly = AssemblyWorker(
            jobs=self.jobs,
            instances=self.instances,
            policy=CompletionPolicy(quiet_seconds=QUIET.total_seconds()),
            moment=lambda started=self.clock.now: Moment(now=self.clock.now, steady_since=started),
            traffic=self.traffic,
        )
        self.worker = AnalysisWorker(
            jobs=self.jobs,
            instances=self.instances,
            settings=_SETTINGS,
            results_dir=self.folder / "results",
            attempts=3,
            process=self,
            clock=self.clock,
            on_composed=lambda: None,
        )
        self.delivery = DeliveryWorker(
            jobs=self.jobs,
            deliveries=DeliveryStore(self.database),
            destinations={"near": _DESTINATIONS["near"]},
            sender=self.send,
            back_off=BackOff(
                first=timedelta(seconds=5),
                longest=timedelta(seconds=5),
                give_up_after=timedelta(days=100),
            ),
            clock=self.clock,
        )

    def _seconds(self) -> float:
        return self.clock.now.timestamp()

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
        shutil.rmtree(self.folder)

    # the analysis and the destination

    def call(self, _: Callable[..., Any], /, *arguments: Any) -> Any:
        """Analyse, as :class:`rales.runtime.process.Worker`."""
        request: AnalysisRequest = arguments[0]
        count = len(request.series.instances)
        if count < WHOLE // 2:
            raise SeriesRejected(RejectReason.MISSING_SLICES, "too few")
        number = int(request.folder.name)
        before = request.predecessors.get(Profile.OHIF)
        self.predecessors[number] = before.sop_instance_uid if before else ""
        request.folder.mkdir(parents=True, exist_ok=True)
        objects = []
        for suffix, role in enumerate(("seg", "sr"), start=1):
            path = request.folder / f"{role}.dcm"
            path.write_bytes(b"result")
            one = {"role": role, "path": str(path), "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4"}
            uids = {"series_uid": "2.25.7", "study_uid": STUDY}
            file = {"digest": sha256(b"result").hexdigest(), "size": len(b"result")}
            objects.append(one | uids | file | {"sop_instance_uid": f"2.25.{number}{suffix}"})
        return SimpleNamespace(
            findings=HEALTHY,
            left_out=(),
            results=SimpleNamespace(key=SimpleNamespace(value="k")),
            to_dict=lambda: {"objects": objects},
            seconds={},
            provider="none",
            may_be_part="" if count >= WHOLE else "lung reaches the head end of the scan",
        )

    def stop(self) -> None:
        """End no process."""

    def close(self) -> None:
        """Have no process."""

    def send(self, objects: Sequence[ResultObject], _: Recipient) -> list[Outcome]:
        """Take what is sent, if it may be."""
        job = self.jobs.get(int(objects[0].path.parent.name))
        if job.id not in self.sent:
            self._first_time(job)
        if self.answer.kind is OutcomeKind.DELIVERED:
            self.sent[job.id] = job
        return [self.answer] * len(objects)

    def _first_time(self, job: Job) -> None:
        waited = self.clock.now - self.last[job.series_uid]
        assert job.instance_count >= WHOLE or waited >= QUIET, "a part is sent too early"
        there = [one for one in self.sent.values() if one.series_uid == job.series_uid]
        assert all(one.revision < job.revision for one in there), "an old revision after a new one"
        if there:
            assert self.predecessors[job.id] in {f"2.25.{one.id}2" for one in there}

    # what comes from outside

    def _record(self, series: str, first: int, count: int, content: str = "a") -> None:
        for number in range(first, min(first + count, WHOLE)):
            path = self.folder / f"{series}-{number}-{content}"
            path.touch()
            self.instances.record(
                ReceivedInstance(
                    path=path,
                    sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.2"),
                    sop_instance_uid=derive_uid(series, str(number)),
                    series_uid=Uid(series),
                    study_uid=STUDY,
                    patient_key="p",
                    transfer_syntax_uid=Uid("1.2.840.10008.1.2.1"),
                    content_digest=path.name,
                    size=1,
                    received_at=self.clock.now,
                    calling_ae="CT1",
                    slice_position=5.0 * number,
                )
            )
        self.last[series] = self.clock.now

    @rule(
        series=st.sampled_from(SERIES),
        first=st.sampled_from([0, 0, 20, 38]),
        count=st.sampled_from([1, 20, 38, WHOLE]),
        content=st.sampled_from("aaab"),
        end=st.sampled_from([AssociationEnd.RELEASED, AssociationEnd.ABORTED, None]),
    )
    def bring(
        self, series: str, first: int, count: int, content: str, end: AssociationEnd | None
    ) -> None:
        self.traffic.began(STUDY)
        self._record(series, first, count, content)
        self.open.append(series)
        if end is not None:
            self._end(end, count)

    def _end(self, how: AssociationEnd, count: int) -> None:
        series = frozenset({Uid(self.open.pop())})
        self.traffic.ended(STUDY, images=count)
        self.instances.association_ended(series, "CT1", how, self.clock.now)

    @rule()
    def release(self) -> None:
        if self.open:
            self._end(AssociationEnd.RELEASED, WHOLE)

    @rule(series=st.sampled_from(SERIES), first=st.integers(0, WHOLE - 1))
    def bring_one_during_the_next_step(self, series: str, first: int) -> None:
        self.instances.meanwhile = lambda: self._record(series, first, 1)

    # what the node does

    @rule(seconds=st.sampled_from([0.0, 2.0, 5.0, 28.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def assemble(self) -> None:
        self.assembly.step(self.clock.now)

    @rule(series=st.sampled_from(SERIES), count=st.sampled_from([20, WHOLE]))
    def close_while_one_comes(self, series: str, count: int) -> None:
        """The most dangerous moment, of which chance finds few: other bytes as it is closed."""
        self._record(series, 0, count)
        self.wait(31.0)
        content = f"at-{self.clock.now:%H%M%S}"
        self.instances.meanwhile = lambda: self._record(series, 0, 1, content)
        self.assemble()
        self.instances.meanwhile = None

    @rule()
    def analyse(self) -> None:
        before = {job.id for job in self.jobs.in_state(JobState.REJECTED)}
        self.worker.step(self.clock.now)
        for job in self.jobs.in_state(JobState.REJECTED):
            waited = self.clock.now - self.last[job.series_uid]
            assert job.id in before or waited >= QUIET, "a growing series was rejected"

    @rule(taken=st.booleans())
    def deliver(self, *, taken: bool) -> None:
        kind, status = (OutcomeKind.DELIVERED, 0) if taken else (OutcomeKind.FAILED, 0xA700)
        self.answer = Outcome(kind=kind, status=status, message="")
        step_all(self.delivery, self.clock.now)

    @rule(dies_analysing=st.booleans())
    def kill(self, *, dies_analysing: bool) -> None:
        if dies_analysing:
            self.jobs.claim(at=self.clock.now)
        self.database.close()
        self.start()

    @rule(series=st.sampled_from(SERIES))
    def retry(self, series: str) -> None:
        job = latest_of_series(self.jobs, series)
        with suppress(StateConflict):
            if job is not None:
                retry(self.jobs, job, at=self.clock.now)

    @rule()
    def let_go(self) -> None:
        RetentionWorker(
            store=RetentionStore(self.database),
            results_dir=self.folder / "results",
            longest=timedelta(),
            largest=None,
        ).step(self.clock.now)

    @rule()
    def rest(self) -> None:
        """After long enough every series has come to an end, or says what it waits for."""
        self.instances.meanwhile = None
        for _ in range(6):
            self.clock.advance(_WAITS.total_seconds())
            self.assemble()
            self.analyse()
            self.analyse()
            self.deliver(taken=True)
        for series in self.last:
            job = latest_of_series(self.jobs, series)
            assert job is not None
            waits = job.state is JobState.RECEIVING and self.instances.released(job.series_uid)
            assert waits or job.state in {JobState.DONE, JobState.REJECTED}

    @invariant()
    def every_image_is_in_the_newest_revision_or_waited_for(self) -> None:
        for series in self.last:
            job = latest_of_series(self.jobs, series)
            assert job is not None
            assert job.state is not JobState.SUPERSEDED, "lost for ever"
            if job.state is not JobState.RECEIVING:
                now = InstanceStore(self.database, on_change=lambda: None)
                assert job.instances_digest == Series.of(now.of_series(job.series_uid)).digest


Node.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestNode = Node.TestCase
