"""How often an archive is asked, and what is made of what it says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import pytest
from state_rig import StateRig

from chestct.series import ReceivedInstance
from chestct.states import JobState
from chestct.uids import Uid
from dicom_out.network.counting import NoCount
from dicom_out.network.query import ArchiveUnavailable
from rales.state.store import Database, Job
from rales.steps.archive_counts import ArchiveCounts
from rales.steps.assemble import AssemblyWorker
from rales.steps.completeness import CompletionPolicy
from scp.ports import AssociationEnd

from .conftest import NOON

Make = Callable[..., ReceivedInstance]


class Rig(StateRig):
    """An assembly and an archive that says what it is told, on one clock set by hand."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.seconds = 0.0
        self.says: int | Exception = 0
        self.asked: list[tuple[float, str]] = []
        self.changes = 0
        self.counts = ArchiveCounts(
            name="pacs",
            ask=self._ask,
            pause_seconds=2.0,
            on_change=self._changed,
            monotonic=lambda: self.seconds,
        )
        self.assembly = AssemblyWorker(
            jobs=self.jobs,
            instances=self.instances,
            policy=CompletionPolicy(),
            archive=self.counts,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _ask(self, study_uid: Uid, series_uid: Uid) -> int:
        assert study_uid == "1.2"
        self.asked.append((self.seconds, series_uid))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def bring(self, *instances: ReceivedInstance) -> None:
        for one in instances:
            self.instances.record(one)
        series = frozenset({one.series_uid for one in instances})
        at = NOON + timedelta(seconds=self.seconds)
        self.instances.association_ended(series, "CT1", AssociationEnd.RELEASED, at)

    def until(self, seconds: float) -> None:
        """Do what is due, four times a second."""
        while True:
            now = NOON + timedelta(seconds=self.seconds)
            self.assembly.step(now)
            while (due := self.counts.step(now)) is not None and due <= now:
                self.assembly.step(now)
            if self.seconds >= seconds:
                return
            self.seconds += 0.25

    @property
    def job(self) -> Job:
        return self.jobs.all()[-1]


@pytest.fixture
def rig(database: Database) -> Rig:
    return Rig(database)


def _some(make: Make, first: int, last: int, **known: object) -> list[ReceivedInstance]:
    return [make(number, **known) for number in range(first, last + 1)]


def test_it_is_asked_until_it_stops_growing_and_then_believed(
    rig: Rig, make_instance: Make
) -> None:
    rig.bring(*_some(make_instance, 1, 30))
    rig.says = 20
    rig.until(1.75)
    assert len(rig.asked) == 1
    rig.says = 30
    rig.until(3.75)
    assert rig.job.state is JobState.RECEIVING, "it has only just come to this number"
    rig.until(4.0)
    assert rig.job.state is JobState.READY
    assert rig.job.message == "complete: all 30 instances that archive pacs has"
    assert rig.job.hold_until == NOON + timedelta(seconds=30)
    assert [at for at, _ in rig.asked] == [0.0, 2.0, 4.0]


def test_a_question_in_between_does_not_put_the_deciding_one_off(
    rig: Rig, make_instance: Make
) -> None:
    rig.says = 30
    rig.bring(*_some(make_instance, 1, 10))
    rig.until(0.25)
    rig.bring(*_some(make_instance, 11, 30, after=0.25))
    rig.until(1.75)
    assert len(rig.asked) == 2
    rig.until(2.0)
    assert rig.job.state is JobState.READY


def test_what_it_has_more_is_waited_for_and_shown(rig: Rig, make_instance: Make) -> None:
    rig.bring(*_some(make_instance, 1, 61))
    rig.says = 65
    rig.until(29)
    assert rig.job.state is JobState.RECEIVING
    assert rig.job.message.startswith("61 of 65 images, archive pacs says 65")
    asked = len(rig.asked)
    assert asked <= 5, "it is asked less and less often while nothing changes"
    rig.bring(*_some(make_instance, 62, 65, after=29))
    rig.until(29.5)
    assert rig.job.state is JobState.READY, "at once: it had said so before"
    assert len(rig.asked) == asked + 1


def test_what_never_comes_is_closed_as_a_part(rig: Rig, make_instance: Make) -> None:
    rig.bring(*_some(make_instance, 1, 61))
    rig.says = 65
    rig.until(119.75)
    assert rig.job.state is JobState.RECEIVING
    rig.until(120)
    assert rig.job.state is JobState.READY
    assert rig.job.shortfall == "only 61 of 65 images were received: archive pacs says 65"
    assert rig.job.message.endswith(rig.job.shortfall)


@pytest.mark.parametrize(
    "trouble", [ArchiveUnavailable("it takes too long"), NoCount("it does not say")]
)
def test_an_archive_that_does_not_say_delays_nothing_and_is_said_once(
    rig: Rig, make_instance: Make, caplog: pytest.LogCaptureFixture, trouble: Exception
) -> None:
    rig.says = trouble
    with caplog.at_level(logging.WARNING):
        for number in range(1, 6):
            rig.bring(*_some(make_instance, 1, 61, series=f"1.2.{number}", after=rig.seconds))
            rig.until(rig.seconds + 2.25)
            assert rig.job.state is JobState.READY
            assert "settled" in rig.job.message
    said = [one.getMessage() for one in caplog.records if str(trouble) in one.getMessage()]
    assert len(said) == 1
    assert "archive pacs does not say how many images it has" in said[0]


def test_an_archive_that_is_away_is_left_alone_and_asked_again(
    rig: Rig, make_instance: Make
) -> None:
    rig.says = ArchiveUnavailable("nobody there")
    for number in range(1, 11):
        rig.bring(*_some(make_instance, 1, 5, series=f"1.2.{number}"))
    rig.until(4.75)
    assert len(rig.asked) == 1
    rig.says = 5
    rig.until(7.0)
    assert {job.state for job in rig.jobs.all()} == {JobState.READY}


def test_one_series_without_a_number_leaves_the_others_their_count(
    rig: Rig, make_instance: Make
) -> None:
    rig.says = NoCount("it does not say")
    rig.bring(*_some(make_instance, 1, 5, series="1.2.1"))
    rig.until(0)
    rig.says = 5
    rig.bring(*_some(make_instance, 1, 5, series="1.2.2"))
    rig.until(2.25)
    assert [job.state for job in rig.jobs.all()] == [JobState.RECEIVING, JobState.READY]


def test_what_is_closed_is_not_asked_about_any_more(rig: Rig, make_instance: Make) -> None:
    rig.bring(*_some(make_instance, 1, 61))
    rig.says = 61
    rig.until(2)
    assert rig.job.state is JobState.READY
    asked = len(rig.asked)
    rig.until(60)
    assert len(rig.asked) == asked


def test_images_that_come_one_by_one_do_not_make_a_question_each(
    rig: Rig, make_instance: Make
) -> None:
    for number in range(1, 81):  # as the archive gets them
        rig.says = number
        rig.bring(make_instance(number, after=rig.seconds))
        rig.until(rig.seconds + 0.25)
    assert [job.state for job in rig.jobs.all()] == [JobState.RECEIVING]
    assert len(rig.asked) <= 42, "20 seconds, two a second at the most"
