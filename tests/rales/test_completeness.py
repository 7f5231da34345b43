"""When a series is complete: a pure decision, with the clock in hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from state_rig import NOON

from rales.steps.completeness import (
    ArchiveAnswer,
    Complete,
    CompletionPolicy,
    Evidence,
    WaitUntil,
    decide,
    is_contiguous,
    is_plausible_whole,
)

POLICY = CompletionPolicy(settle_seconds=2.0, quiet_seconds=30.0, archive_wait_seconds=120.0)


_CHEST = tuple(5.0 * number for number in range(40))


def _after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def _evidence(
    *,
    positions: tuple[float | None, ...] = _CHEST,
    expected: int | None = None,
    ended: float | None = None,
    multi_frame: bool = False,
    **known: Any,
) -> Evidence:
    return Evidence(
        count=len(positions),
        expected=expected,
        positions=positions,
        last_received_at=NOON,
        association_ended_at=None if ended is None else _after(ended),
        multi_frame=multi_frame,
        **known,
    )


@pytest.mark.parametrize("ended", [None, 0.0])
def test_the_announced_count_is_enough_and_may_still_be_wrong(ended: float | None) -> None:
    decision = decide(_evidence(expected=40, ended=ended), POLICY, NOON)
    assert isinstance(decision, Complete)
    assert "40" in decision.reason
    assert decision.hold_until == _after(30), "until then more images may contradict it"


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"expected": 39}, "more images are here than the sender announced"),
        ({"expected": 40, "announcements_differ": True}, "the images announce different numbers"),
        ({"expected": 40, "revised": True}, "images came after it had been complete"),
        ({"expected": 40, "read_early": True}, "it could not be analysed as it was"),
    ],
    ids=["exceeded", "differing", "revised", "read-early"],
)
def test_an_announced_count_that_is_contradicted_is_no_evidence(
    known: dict[str, Any], why: str
) -> None:
    evidence = _evidence(ended=1.0, **known)
    decision = decide(evidence, POLICY, _after(29.9))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(30)
    assert decision.reason == f"waits until nothing came for 30 s: {why}"
    assert isinstance(decide(evidence, POLICY, _after(30)), Complete)


def test_fewer_than_announced_wait_the_quiet_time_although_they_are_contiguous() -> None:
    evidence = _evidence(expected=41, ended=1.0)
    decision = decide(evidence, POLICY, _after(29.9))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(30)
    assert isinstance(decide(evidence, POLICY, _after(30)), Complete)


def test_a_released_contiguous_series_settles() -> None:
    evidence = _evidence(ended=1.0)
    decision = decide(evidence, POLICY, _after(1.0))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(3.0)
    complete = decide(evidence, POLICY, _after(3.0))
    assert isinstance(complete, Complete)
    assert "contiguous" in complete.reason
    assert complete.hold_until == _after(30), "until then it may be a part"


@pytest.mark.parametrize(
    "known",
    [
        {"associations": 2},
        {"revised": True},
        {"busy": True},
        {"read_early": True},
        {"positions": tuple(float(number) for number in range(30))},  # 30 mm are no chest
        {"positions": tuple(5.0 * number for number in range(30))},  # half of one
        {"positions": (*_CHEST[:20], *_CHEST[21:])},
    ],
    ids=["two-associations", "revised", "busy", "read-early", "thin", "half", "gap"],
)
def test_what_may_be_a_part_waits_the_quiet_time_and_says_why(known: dict[str, Any]) -> None:
    evidence = _evidence(ended=1.0, **known)
    decision = decide(evidence, POLICY, _after(29.9))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(30)
    assert decision.reason.startswith("waits until nothing came for 30 s: ")
    complete = decide(evidence, POLICY, _after(30))
    assert isinstance(complete, Complete)
    assert complete.hold_until is None


@pytest.mark.parametrize(
    ("slices", "step"),
    [(99, 3.0), (64, 5.0), (83, 3.75), (74, 4.0), (99, 4.25), (92, 3.0), (49, 4.0), (154, 2.0)],
)
def test_real_chests_are_plausible_wholes(slices: int, step: float) -> None:
    """Numbers and steps of the real series that the networks are measured on."""
    assert is_plausible_whole(tuple(-100.0 + step * number for number in range(slices)))


@pytest.mark.parametrize(
    "positions",
    [
        (*_CHEST, 205.0),  # a slice is missing
        (*_CHEST, None),  # one tells no position
        (*_CHEST, 0.0),  # two at one place
        (1.0,),  # one slice has no step
    ],
)
def test_a_series_with_a_gap_waits_the_quiet_time(positions: tuple[float | None, ...]) -> None:
    evidence = _evidence(positions=positions, ended=0.0)
    decision = decide(evidence, POLICY, _after(2))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(30)


def test_an_open_association_waits_the_quiet_time() -> None:
    decision = decide(_evidence(), POLICY, _after(5))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(30)


def _archive(count: int | None, **known: Any) -> ArchiveAnswer:
    return ArchiveAnswer(
        name="pacs", **{"count": count, "unchanged_seconds": 2.0, "is_fresh": True} | known
    )


_SHORT = tuple(3.0 * number for number in range(30))


@pytest.mark.parametrize("ended", [None, 0.0])
@pytest.mark.parametrize("known", [{}, {"associations": 9}, {"busy": True}, {"expected": 30}])
def test_just_what_the_archive_has_is_complete_at_once(
    ended: float | None, known: dict[str, Any]
) -> None:
    evidence = _evidence(positions=_SHORT, ended=ended, archive=_archive(30), **known)
    decision = decide(evidence, POLICY, NOON)
    assert isinstance(decision, Complete)
    assert decision.reason == "all 30 instances that archive pacs has"
    assert decision.hold_until == _after(30), "an archive may get them as slowly as this node"
    assert not decision.shortfall


@pytest.mark.parametrize(
    "known",
    [
        {"archive": _archive(30, unchanged_seconds=1.9)},
        {"archive": _archive(30, is_fresh=False)},
        {"archive": _archive(29)},
        {"archive": _archive(None)},
        {"archive": _archive(30), "expected": 31},
        {"archive": _archive(30), "revised": True},
        {"archive": _archive(30), "read_early": True},
    ],
    ids=["grows", "stale", "has-less", "silent", "announced-more", "revised", "read-early"],
)
def test_an_archive_that_may_still_grow_is_no_evidence(known: dict[str, Any]) -> None:
    evidence = _evidence(positions=_SHORT, ended=0.0, **known)
    decision = decide(evidence, POLICY, _after(29.9))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(30)
    assert isinstance(decide(evidence, POLICY, _after(30)), Complete)


@pytest.mark.parametrize("known", [{}, {"expected": 40}, {"multi_frame": True}, {"revised": True}])
def test_what_the_archive_has_more_is_waited_for_whatever_else_speaks_for_a_whole(
    known: dict[str, Any],
) -> None:
    evidence = _evidence(ended=0.0, archive=_archive(65, is_fresh=False), **known)
    decision = decide(evidence, POLICY, _after(119.9))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(120)
    assert decision.reason == (
        "40 of 65 images, archive pacs says 65: waits until nothing came for 120 s"
    )
    complete = decide(evidence, POLICY, _after(120))
    assert isinstance(complete, Complete)
    assert complete.shortfall == "only 40 of 65 images were received: archive pacs says 65"


def test_the_settle_time_waits_for_an_answer_that_is_on_its_way_and_for_no_other() -> None:
    asked = _evidence(ended=0.0, archive=_archive(None, is_fresh=False))
    decision = decide(asked, POLICY, _after(29))
    assert isinstance(decision, WaitUntil)
    assert decision.reason.endswith(": archive pacs is being asked")
    silent = _evidence(ended=0.0, archive=_archive(None, is_fresh=False, trouble="no answer"))
    complete = decide(silent, POLICY, _after(2))
    assert isinstance(complete, Complete)
    assert "settled" in complete.reason


def test_why_the_archive_is_no_evidence_is_said() -> None:
    evidence = _evidence(positions=_SHORT, ended=0.0, archive=_archive(None, trouble="HTTP 500"))
    decision = decide(evidence, POLICY, _after(5))
    assert isinstance(decision, WaitUntil)
    assert decision.reason.endswith("; archive pacs: HTTP 500")


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"expected": 41}, "only 40 of 41 images were received: the sender announced 41"),
        ({"expected": 41, "announcements_differ": True}, ""),
        ({"expected": 41, "archive": _archive(40)}, ""),
        ({"expected": 41, "multi_frame": True}, ""),
        ({"expected": 39}, ""),
    ],
    ids=["announced", "doubtful", "archive-knows-better", "concatenation", "more"],
)
def test_what_was_announced_and_did_not_come_is_said(known: dict[str, Any], said: str) -> None:
    complete = decide(_evidence(ended=0.0, **known), POLICY, _after(31))
    assert isinstance(complete, Complete)
    assert complete.shortfall == said


ARCHIVES = st.none() | st.builds(
    ArchiveAnswer,
    name=st.just("pacs"),
    count=st.none() | st.integers(0, 12),
    unchanged_seconds=st.floats(0, 60),
    is_fresh=st.booleans(),
    trouble=st.sampled_from(["", "away"]),
)
EVIDENCE = st.builds(
    lambda positions, expected, ended, known: _evidence(
        positions=tuple(positions), expected=expected, ended=ended, **known
    ),
    st.lists(st.none() | st.floats(-1e4, 1e4), min_size=1, max_size=8) | st.just(_CHEST),
    st.none() | st.integers(1, 10),
    st.none() | st.floats(-100, 100),
    st.fixed_dictionaries(
        {
            "associations": st.integers(0, 3),
            "revised": st.booleans(),
            "busy": st.booleans(),
            "read_early": st.booleans(),
            "announcements_differ": st.booleans(),
            "archive": ARCHIVES,
        }
    ),
)
POLICIES = st.builds(
    CompletionPolicy,
    settle_seconds=st.floats(0.1, 50),
    quiet_seconds=st.floats(0.1, 50),
    archive_wait_seconds=st.floats(0.1, 100),
)
SECONDS = st.floats(0, 1000)


def _is_missed(evidence: Evidence) -> bool:
    """Tell whether the archive has more."""
    archive = evidence.archive
    return archive is not None and (archive.count or 0) > evidence.count


@given(EVIDENCE, POLICIES, SECONDS)
def test_a_series_of_which_the_archive_has_more_never_looks_whole(
    evidence: Evidence, policy: CompletionPolicy, seconds: float
) -> None:
    decision = decide(evidence, policy, _after(seconds))
    if isinstance(decision, Complete) and _is_missed(evidence):
        assert seconds >= max(policy.archive_wait_seconds, policy.quiet_seconds)
        assert decision.shortfall


@given(EVIDENCE, POLICIES, SECONDS)
def test_no_decision_waits_in_vain(
    evidence: Evidence, policy: CompletionPolicy, seconds: float
) -> None:
    now = _after(seconds)
    decision = decide(evidence, policy, now)
    if isinstance(decision, WaitUntil):
        longest = policy.archive_wait_seconds if _is_missed(evidence) else 0.0
        assert now < decision.at <= _after(max(longest, policy.quiet_seconds))
        assert isinstance(decide(evidence, policy, decision.at), Complete)
        just_before = decision.at - timedelta(microseconds=1)
        assert isinstance(decide(evidence, policy, just_before), WaitUntil)


@given(EVIDENCE, POLICIES, SECONDS, SECONDS)
def test_what_is_complete_stays_complete(
    evidence: Evidence, policy: CompletionPolicy, seconds: float, more: float
) -> None:
    if isinstance(decide(evidence, policy, _after(seconds)), Complete):
        assert isinstance(decide(evidence, policy, _after(seconds + more)), Complete)


@given(EVIDENCE, POLICIES)
def test_nothing_is_complete_at_once_unless_just_what_was_counted_is_here(
    evidence: Evidence, policy: CompletionPolicy
) -> None:
    archive, announced = evidence.archive, evidence.expected
    by_archive = (
        archive is not None
        and archive.count == evidence.count >= (announced or 0)
        and archive.is_fresh
        and archive.unchanged_seconds >= policy.settle_seconds
        and not evidence.why_not_early
    )
    by_sender = evidence.count == announced and not evidence.why_not_counted
    complete = isinstance(decide(evidence, policy, NOON), Complete)
    assert complete == ((by_archive or by_sender) and not _is_missed(evidence))


@given(EVIDENCE, POLICIES, SECONDS)
def test_what_is_complete_before_the_quiet_time_is_only_held_to_be(
    evidence: Evidence, policy: CompletionPolicy, seconds: float
) -> None:
    decision = decide(evidence, policy, _after(seconds))
    if isinstance(decision, Complete):
        quiet_at = _after(policy.quiet_seconds)
        assert decision.hold_until == (quiet_at if _after(seconds) < quiet_at else None)


@given(
    st.floats(-1e3, 1e3),
    st.floats(0.3, 10),
    st.integers(3, 60),
    st.randoms(use_true_random=False),
    st.data(),
)
def test_one_missing_slice_inside_is_always_seen(
    start: float, step: float, count: int, random: object, data: st.DataObject
) -> None:
    positions = [start + step * number for number in range(count)]
    random.shuffle(positions)  # type: ignore[attr-defined]
    assert is_contiguous(tuple(positions))
    inside = sorted(positions)[1:-1]
    missing = data.draw(st.sampled_from(inside))
    left = tuple(one for one in positions if one != missing)
    assert is_contiguous(left) == (count == 3), "two slices alone have one step, which is even"


@pytest.mark.parametrize(
    ("step", "decimals"), [(0.625, 1), (1.25, 1), (0.75, 1), (0.45, 1), (2.5, 0), (5.0, 1)]
)
def test_positions_that_were_rounded_settle_like_others(step: float, decimals: int) -> None:
    places = [round(-231.8 + step * number, decimals) for number in range(round(200 / step) + 1)]
    complete = decide(_evidence(positions=tuple(places), ended=1.0), POLICY, _after(3))
    assert isinstance(complete, Complete)
    del places[len(places) // 2]
    assert isinstance(
        decide(_evidence(positions=tuple(places), ended=1.0), POLICY, _after(3)), WaitUntil
    )


@given(
    st.floats(-500, 500),
    st.floats(0.3, 5.0),
    st.integers(0, 3),
    st.integers(20, 60),
    st.data(),
)
def test_rounding_hides_no_missing_slice(
    start: float, step: float, decimals: int, count: int, data: st.DataObject
) -> None:
    assume(10.0**-decimals <= 0.39 * step)  # at 0.4 the median step may be the rounded-down one
    exact = [start + step * number for number in range(count)]
    assume(all(abs(place * 10**decimals % 1 - 0.5) > 1e-6 for place in exact))  # as may be a tie
    places = [round(place, decimals) for place in exact]
    assert is_contiguous(tuple(places))
    del places[data.draw(st.integers(1, count - 2))]
    assert not is_contiguous(tuple(places))


def test_a_released_multi_frame_image_settles_although_it_has_no_position() -> None:
    evidence = _evidence(positions=(None,), ended=1.0, multi_frame=True)
    decision = decide(evidence, POLICY, _after(2.9))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(3)
    assert isinstance(decide(evidence, POLICY, _after(3)), Complete)


def test_a_multi_frame_image_that_was_not_released_waits_the_quiet_time() -> None:
    decision = decide(_evidence(positions=(None,), multi_frame=True), POLICY, _after(29))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(30)


def test_parts_of_a_concatenation_wait_for_each_other() -> None:
    two = _evidence(positions=(None, None), expected=3, ended=1.0, multi_frame=True)
    decision = decide(two, POLICY, _after(29))
    assert isinstance(decision, WaitUntil)
    assert decision.at == _after(30), "the third may still come"
    three = _evidence(positions=(None, None, None), expected=3, ended=1.0, multi_frame=True)
    assert isinstance(decide(three, POLICY, _after(3)), Complete)


def test_a_whole_concatenation_does_not_cut_off_what_follows_it() -> None:
    open_yet = _evidence(positions=(None, None, None), expected=3, multi_frame=True)
    assert isinstance(decide(open_yet, POLICY, NOON), WaitUntil)
