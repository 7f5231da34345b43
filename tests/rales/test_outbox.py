"""Deliveries, commitments and messages under any failures: a state machine over the real steps.

Whatever an attempt answers, raises or is killed in, whatever disk and clock do: what is due and
when the next is due agree, each item has its own schedule, and everything ends.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from destination_rig import Rig as Composer
from fakes import ManualClock
from http_receiver import HttpReceiver
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from latest import latest_of_series
from notify_rig import MakeRig
from state_rig import NOON

from chestct.errors import OutOfResources
from chestct.results import CommitmentReport, ResultObject
from chestct.states import DeliveryState, JobState
from chestct.uids import Uid
from dicom_out.network.commitment import ReportHandler
from dicom_out.network.destination import Destination, Recipient
from dicom_out.network.outcome import Outcome, OutcomeKind
from rales.node.clockwatch import ClockWatch, resumed_clock
from rales.runtime.clock import NodeClock
from rales.state.store import CommitmentStore, Database, NotificationStore
from rales.state.store.clock import ClockStore
from rales.steps.backoff import BackOff
from rales.steps.commit import CommitmentWorker
from rales.steps.deliver import DeliveryWorker
from rales.steps.notify import worker as notify
from rales.steps.notify.transport import PostResult, Request
from rales.steps.retry import retry

PLAIN, COMMITTING, TARGETS = "plain", "committing", ("first", "second")
GIVE_UP = timedelta(hours=72)
_BACK_OFF = {"first": timedelta(seconds=5), "longest": timedelta(minutes=10)}
_ENDS = (JobState.DONE, JobState.FAILED)
_WAITING = (DeliveryState.PENDING, DeliveryState.STORED)


class Killed(BaseException):
    """The node was killed here."""


def _outcome(kind: OutcomeKind, **keys: Any) -> Outcome:
    return Outcome(kind=kind, status=None, message=str(kind), **keys)


_SENDS: dict[str, Outcome] = {
    "delivered": _outcome(OutcomeKind.DELIVERED),
    "refused": _outcome(OutcomeKind.REFUSED),
    "failed": _outcome(OutcomeKind.FAILED),
    "not accepted": _outcome(OutcomeKind.NOT_ACCEPTED),
    "damaged": _outcome(OutcomeKind.DAMAGED),
    "down": _outcome(OutcomeKind.FAILED, reached=False),
}
_TOLD: dict[str, PostResult] = {
    "delivered": PostResult(kind=OutcomeKind.DELIVERED, message="ok"),
    "refused": PostResult(kind=OutcomeKind.REFUSED, message="no"),
    "failed": PostResult(kind=OutcomeKind.FAILED, message="later"),
    "down": PostResult(kind=OutcomeKind.FAILED, message="nobody", reached=False),
}
_ODD = ("raises", "killed before", "killed after", "nothing", "full")
_ANSWERS = st.sampled_from([*_SENDS, *_ODD, *["delivered"] * 4])


@dataclass
class Script:
    """What the next attempts meet; nothing: everything is taken."""

    answers: list[str] = field(default_factory=list)
    always: str = "delivered"

    def next(self) -> str:
        return self.answers.pop() if self.answers else self.always


class OutboxMachine(RuleBasedStateMachine):
    """Two destinations, one of which commits, and two that are told of the ends."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.wall, self.monotonic = ManualClock(NOON), 0.0
        self.script, self.full = Script(), False
        self.series = 0
        self.taken: set[tuple[int, str, str]] = set()
        self.told: set[tuple[int, str]] = set()
        self.attempted: list[tuple[int, str, str]] = []

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.script = Script()
            self.full = False
            self._run_out(timedelta(minutes=20))
            self.database.close()
        shutil.rmtree(self.folder)

    @initialize()
    def start(self) -> None:
        self.database = Database(self.folder / "state.sqlite")
        self.clock = resumed_clock(
            ClockStore(self.database), wall=self.wall, monotonic=lambda: self.monotonic
        )
        self.watch = ClockWatch(self.clock, ClockStore(self.database))
        self.rig = Composer(self.database, self.folder)
        self.rig.clock = _Now(self.clock)
        back_off = BackOff(
            **_BACK_OFF, give_up_after=GIVE_UP, skipped_since=self.clock.skipped_since
        )
        places = {
            name: Destination(
                name=name, ae_title="PEER", host="h", port=1, commitment=name == COMMITTING
            )
            for name in (PLAIN, COMMITTING)
        }
        self.delivery = DeliveryWorker(
            jobs=self.rig.jobs,
            deliveries=self.rig.deliveries,
            destinations=places,
            sender=self.send,
            back_off=back_off,
            clock=self.clock.now,
        )
        self.commitments = CommitmentStore(self.database)
        self.commitment = CommitmentWorker(
            jobs=self.rig.jobs,
            commitments=self.commitments,
            destinations=places,
            requester=self.ask,
            back_off=back_off,
            timeout=timedelta(hours=1),
            clock=self.clock.now,
        )
        self.notifications = NotificationStore(self.database)
        self.notification = notify.NotificationWorker(
            jobs=self.rig.jobs,
            notifications=self.notifications,
            targets={
                name: notify.Target(
                    name=name, events=_ENDS, compose=self._compose(name), post=self.post
                )
                for name in TARGETS
            },
            back_off=back_off,
            clock=self.clock.now,
        )
        self.notification.begin()

    # what the others do

    def send(self, objects: Sequence[ResultObject], place: Recipient) -> Iterator[Outcome]:
        for item in objects:
            key = (int(item.path.name.split("-")[0]), item.role, place.name)
            assert self._state(key) is DeliveryState.PENDING, "sent again after it had ended"
            self.attempted.append(key)
            answer = self.script.next()
            if answer == "nothing":
                return
            self._odd(answer, "before")
            if answer in {"delivered", "killed after"}:
                self.taken.add(key)
            self._odd(answer, "after")
            yield _SENDS.get(answer, _SENDS["delivered"])

    def ask(
        self,
        objects: Sequence[ResultObject],
        destination: Destination,  # noqa: ARG002 - there is one that commits
        *,
        transaction_uid: Uid,
        on_report: ReportHandler,  # noqa: ARG002 - reports come by a rule
        answered: threading.Event,  # noqa: ARG002 - nobody waits for it here
    ) -> Outcome:
        answer = self.script.next()
        self._odd(answer, "before")
        self.requests = [*getattr(self, "requests", []), (transaction_uid, tuple(objects))]
        self._odd(answer, "after")
        return _SENDS.get(answer, _SENDS["delivered"])

    def _compose(self, target: str) -> Callable[..., Request]:
        def compose(one: Any, job: Any, at: datetime) -> Request:
            return Request(body=f"{one.id} {target}".encode(), headers={})

        return compose

    def post(self, request: Request) -> PostResult:
        number, target = request.body.decode().split()
        assert (int(number), target) not in self.told, "told again after it was recorded"
        answer = self.script.next()
        self._odd(answer, "before")
        self._odd(answer, "after")
        return _TOLD.get(answer, _TOLD["delivered"])

    def _odd(self, answer: str, moment: str) -> None:
        if answer == f"killed {moment}":
            raise Killed
        if moment == "before" and answer == "raises":
            raise ValueError("whatever")
        if moment == "after" and answer == "full":
            self.full = True
            self.database.rows("PRAGMA query_only=ON")

    def _state(self, key: tuple[int, str, str]) -> DeliveryState:
        job, role, place = key
        (found,) = [
            one.state
            for one in self.rig.deliveries.of_job(job)
            if (one.role, one.destination) == (role, place)
        ]
        return found

    # what happens

    @rule(answers=st.lists(_ANSWERS, max_size=6))
    def meet(self, answers: list[str]) -> None:
        self.script.answers = answers

    @precondition(lambda self: self.series < 4 and not self.full)
    @rule()
    def compose(self) -> None:
        self.series += 1
        self.rig.compose(f"1.2.{self.series}")

    @precondition(lambda self: not self.full)
    @rule(number=st.integers(0, 3))
    def more_comes(self, number: int) -> None:
        """Late images make a revision, which is composed at once."""
        if 0 < self.series < 8 and number:
            series = f"1.2.{1 + number % self.series}"
            latest = latest_of_series(self.rig.jobs, series)
            if latest is not None and latest.revision < 3:
                self.rig.compose(series, number=latest.revision + 1)

    @rule(
        seconds=st.sampled_from([0.0, 1.0, 4.9, 5.0, 11.0, 300.0, 3601.0, 90_000.0]),
    )
    def wait(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall.advance(seconds)

    @precondition(lambda self: not self.full)
    @rule(hours=st.sampled_from([-100.0, -1.0, 1.0, 100.0]))
    def set_clock(self, hours: float) -> None:
        self.wall.advance(hours * 3600)
        self.watch.step(self.clock.now())

    @rule()
    def free_disk(self) -> None:
        self.full = False
        self.database.rows("PRAGMA query_only=OFF")

    @precondition(lambda self: not self.full)
    @rule(committed=st.booleans(), final=st.booleans())
    def report(self, committed: bool, final: bool) -> None:  # noqa: FBT001 - drawn
        for transaction, objects in getattr(self, "requests", []):
            uids = [item.sop_instance_uid for item in objects]
            self.commitment.take(
                CommitmentReport(
                    transaction_uid=transaction,
                    committed=frozenset(uids if committed else ()),
                    failed={} if committed else dict.fromkeys(uids, 0x0122 if final else 0x0110),
                )
            )
        self.requests = []

    @precondition(lambda self: not self.full)
    @rule()
    def plan(self) -> None:
        self.delivery.plan(self.clock.now())

    @rule()
    def deliver(self) -> None:
        for name in (PLAIN, COMMITTING):
            self._step(
                lambda name=name: self.delivery.send_due(name, self.clock.now()),
                lambda name=name: self._pending(DeliveryState.PENDING, name),
            )

    @rule()
    def ask_for_commitment(self) -> None:
        self._step(
            lambda: self.commitment.send_due(COMMITTING, self.clock.now()),
            lambda: self._pending(DeliveryState.STORED, COMMITTING),
        )

    @rule()
    def tell(self) -> None:
        for name in TARGETS:
            self._step(
                lambda name=name: self.notification.send_due(name, self.clock.now()),
                lambda name=name: {
                    one.id: one.due_at for one in self.notifications.due(name, at=self.clock.now())
                },
            )

    def _pending(self, state: DeliveryState, place: str) -> dict[Any, datetime]:
        due = (
            self.rig.deliveries.due(place, at=self.clock.now())
            if state is DeliveryState.PENDING
            else self.commitments.due(place, at=self.clock.now())
        )
        return {(one.job_id, one.role): one.due_at for one in due}

    def _step(
        self, step: Callable[[], datetime | None], waiting: Callable[[], dict[Any, datetime]]
    ) -> None:
        """Do a step; whatever was due has ended or has a later time, unless it was cut short."""
        now, before = self.clock.now(), waiting()
        try:
            due = step()
        except Killed:
            self._restart()
            return
        except OutOfResources:
            assert self.full
            return
        self._note_ends()
        if self.full:
            assert due is None or due > now, "it spins while the disk is full"
            return
        after = waiting()
        assert not set(before) & set(after), "what was due is due still: it was passed over"
        assert due is None or due > now or after, "it wakes for nothing: it spins"

    def _note_ends(self) -> None:
        rows = self.database.rows("SELECT id, target FROM notifications WHERE state = 'delivered'")
        self.told |= {(row["id"], row["target"]) for row in rows}

    def _restart(self) -> None:
        self.database.rows("PRAGMA query_only=OFF")
        self.full = False
        self.database.close()
        self.start()

    @invariant()
    def what_is_due_and_when_to_wake_agree(self) -> None:
        if not hasattr(self, "database"):
            return
        now = self.clock.now()
        for place in (PLAIN, COMMITTING):
            due = self.rig.deliveries.due(place, at=now)
            _agree(due, self.rig.deliveries.next_due(place), now)
            asked = self.commitments.due(place, at=now)
            _agree(asked, self.commitments.next_due(place), now)
        for target in TARGETS:
            told = self.notifications.due(target, at=now)
            _agree(told, self.notifications.next_due(target), now)

    # the end

    def _run_out(self, pause: timedelta) -> None:
        """Let time pass until nothing waits."""
        self.free_disk()
        for _ in range(60):
            self.plan()
            self.deliver()
            self.ask_for_commitment()
            self.report(committed=True, final=True)
            self.tell()
            if self._at_rest():
                return
            self.wait(pause.total_seconds())
        raise AssertionError(f"something never ends: {self._open()}")

    def _at_rest(self) -> bool:
        return not any(self._open())

    def _open(self) -> list[list[Any]]:
        marks = ", ".join(f"'{state}'" for state in _WAITING)
        return [
            [tuple(row) for row in self.database.rows(sql)]
            for sql in (
                f"SELECT * FROM deliveries WHERE state IN ({marks})",  # noqa: S608 - constants
                "SELECT * FROM notifications WHERE state = 'pending'",
                "SELECT id, state FROM jobs WHERE state IN ('composed', 'delivering')",
            )
        ]


class _Now(ManualClock):
    """The node's clock as the rig of the destinations takes one."""

    def __init__(self, clock: NodeClock) -> None:
        self._clock = clock

    @property
    def now(self) -> datetime:  # type: ignore[override]
        return self._clock.now()


def _agree(due: Sequence[object], wake: datetime | None, now: datetime) -> None:
    assert bool(due) == (wake is not None and wake <= now)


def test_whatever_goes_wrong_each_item_has_its_own_schedule_and_its_end() -> None:
    run_state_machine_as_test(
        OutboxMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_second_message_behind_a_postponed_one_makes_no_loop_spin(
    make_rig: MakeRig, receiver: HttpReceiver
) -> None:
    """It did, at 55,000 steps a second: the steps of an hour are counted here."""
    rig = make_rig(url=receiver.url())
    receiver.answers = [(503, "")] * 100
    rig.reject()
    retry(rig.jobs, rig.job, at=NOON)
    claimed = rig.jobs.claim(at=NOON)
    assert claimed is not None
    rig.jobs.move(claimed, JobState.REJECTED, at=NOON, message="again", reason="localizer")
    first, second = rig.outbox.of_job(rig.job.id)
    steps, end = 0, NOON + timedelta(hours=1)
    while rig.clock.now < end and steps < 100:
        due = rig.send()
        steps += 1
        assert due is not None
        rig.clock.now = max(rig.clock.now, due)
    told = rig.outbox.of_job(rig.job.id)
    assert steps == told[0].attempts < 20, "each step tells the first once more"
    assert (told[0].id, told[1].id) == (first.id, second.id)
    assert (told[1].state, told[1].attempts) == (DeliveryState.PENDING, 0)
    receiver.answers = []
    rig.send()
    rig.send()
    assert {one.state for one in rig.outbox.of_job(rig.job.id)} == {DeliveryState.DELIVERED}
