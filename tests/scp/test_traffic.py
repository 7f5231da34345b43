"""What is known of the associations that bring a study."""

from __future__ import annotations

from chestct.uids import Uid
from scp.traffic import Traffic

STUDY, OTHER = Uid("1.2"), Uid("1.3")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_study_is_busy_while_any_of_its_associations_is_open() -> None:
    traffic = Traffic()
    traffic.began(STUDY)
    traffic.began(STUDY)
    traffic.ended(STUDY, images=300)
    assert traffic.is_busy(STUDY)
    assert not traffic.is_busy(OTHER)
    traffic.ended(STUDY, images=300)
    assert not traffic.is_busy(STUDY)


def test_short_associations_one_after_another_announce_the_next_for_a_while() -> None:
    clock = Clock()
    traffic = Traffic(window_seconds=30, monotonic=clock)
    for _ in range(2):
        assert not traffic.is_busy(STUDY)
        traffic.began(STUDY)
        traffic.ended(STUDY, images=1)
        clock.now += 5
    assert traffic.is_busy(STUDY)
    clock.now += 30
    assert not traffic.is_busy(STUDY)


def test_whole_series_in_an_association_each_are_no_rhythm() -> None:
    traffic = Traffic()
    for _ in range(5):
        traffic.began(STUDY)
        traffic.ended(STUDY, images=200)
    assert not traffic.is_busy(STUDY)


def test_studies_that_ended_are_forgotten() -> None:
    clock = Clock()
    traffic = Traffic(window_seconds=30, monotonic=clock)
    for number in range(100):
        uid = Uid(f"1.2.{number}")
        traffic.began(uid)
        traffic.ended(uid, images=1)
        clock.now += 31
    assert len(traffic._short) <= 1
    assert not traffic._open
