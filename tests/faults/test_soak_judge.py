"""What `make soak` counts: each fault that it is there to find is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from moody_pacs import Kept
from soak_judge import Sent, judge, longest_silence
from state_rig import NOON

IMAGES = frozenset({"1.1", "1.2", "1.3"})
SERIES = Sent(uid="1", images=IMAGES)
SEG = Kept(uid="2.1", kind="SEG", series="1", images=IMAGES)
SR = replace(SEG, uid="2.2", kind="SR")
PART = frozenset({"1.1", "1.2"})
EARLY = [replace(SEG, uid="3.1", images=PART), replace(SR, uid="3.2", images=PART)]
NAMING = replace(SR, predecessors=frozenset({"3.2"}))


def counts(sent: Sent, *kept: Kept) -> tuple[int, int, int]:
    verdict = judge([sent], kept)
    assert bool(verdict.series) == bool(verdict.lost + verdict.half + verdict.double)
    return verdict.lost, verdict.half, verdict.double


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ([SEG, SR], (0, 0, 0)),
        ([], (2, 0, 0)),
        ([SEG], (1, 0, 0)),
        ([SEG, SR, replace(SR, uid="2.3")], (0, 0, 1)),
        (EARLY, (2, 2, 0)),
        ([SEG, SR, *EARLY], (0, 2, 0)),
        ([SEG, NAMING, *EARLY], (0, 2, 0)),
        ([replace(SEG, images=IMAGES | {"1.4"}), SR], (1, 1, 0)),
        ([SEG, SR, replace(SEG, uid="4.1", series="9")], (0, 1, 0)),
    ],
)
def test_lost_half_and_double_results_are_counted(
    kept: list[Kept], expected: tuple[int, int, int]
) -> None:
    assert counts(SERIES, *kept) == expected


def test_a_revised_series_may_have_results_of_a_part_that_its_report_replaces() -> None:
    revised = replace(SERIES, revised=True)
    assert counts(revised, SEG, NAMING, *EARLY) == (0, 0, 0)
    assert counts(revised, SEG, SR, *EARLY) == (0, 2, 0)
    assert counts(revised, *EARLY) == (2, 2, 0)
    assert judge([revised], [SEG, NAMING, *EARLY]).replaced == 2


def test_silence_is_what_a_listening_node_heard_nothing_for() -> None:
    def at(seconds: float) -> datetime:
        return NOON + timedelta(seconds=seconds)

    up = [(at(0), at(10)), (at(14), at(30))]
    assert longest_silence([at(1), at(3), at(2)], up) == 1
    assert longest_silence([at(9), at(17)], up) == 3
    assert longest_silence([at(11), at(13)], up) < 0
    assert longest_silence([at(1)], up) == 0
