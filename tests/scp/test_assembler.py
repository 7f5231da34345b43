"""When is a series complete? The ordered evidence, on chosen and on arbitrary series."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scp.assembler import (
    Complete,
    CompletionPolicy,
    Evidence,
    WaitUntil,
    decide,
    is_contiguous,
)

_NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
_POLICY = CompletionPolicy(settle_seconds=2.0, quiet_seconds=30.0)
_EVEN = tuple(2.5 * index for index in range(10))


def _after(seconds: float) -> datetime:
    return _NOON + timedelta(seconds=seconds)


def _evidence(**changes: Any) -> Evidence:
    """Return a series of ten even slices, the last of which came at noon."""
    known: dict[str, Any] = {
        "expected": None,
        "positions": _EVEN,
        "last_received_at": _NOON,
        "association_ended_at": _NOON,
    } | changes
    known.setdefault("count", len(known["positions"]))
    return Evidence(**known)


def _completes_at(evidence: Evidence, policy: CompletionPolicy = _POLICY) -> float:
    """Return after how many seconds a caller that obeys each wait sees it complete."""
    now = min(_NOON, evidence.last_received_at)
    for _ in range(4):
        decision = decide(evidence, policy, now)
        if isinstance(decision, Complete):
            return (now - _NOON).total_seconds()
        assert decision.at > now, "a wait that does not advance would be a busy loop"
        now = decision.at
    raise AssertionError("it never completes")


def test_the_announced_number_completes_a_series_at_once_while_the_association_is_open() -> None:
    evidence = _evidence(expected=10, association_ended_at=None)
    decision = decide(evidence, _POLICY, _NOON)
    assert decision == Complete(reason="all 10 instances that the sender announced")


def test_the_announced_number_counts_more_than_the_geometry() -> None:
    assert _completes_at(_evidence(expected=3, positions=(None, 0.0, 80.0))) == 0


def test_fewer_than_announced_wait_the_quiet_time_however_contiguous_they_are() -> None:
    assert _completes_at(_evidence(expected=11)) == 30.0


def test_an_ended_association_with_even_slices_settles() -> None:
    waits = decide(_evidence(), _POLICY, _after(1.999))
    assert waits == WaitUntil(
        at=_after(2.0), reason="association ended, slices contiguous, settled"
    )
    assert isinstance(decide(_evidence(), _POLICY, _after(2.0)), Complete)


@pytest.mark.parametrize(
    ("ended", "due"),
    [(5.0, 7.0), (-5.0, 2.0)],
    ids=["the association ended last", "another association brought the last slice"],
)
def test_the_settle_time_counts_from_the_later_event(ended: float, due: float) -> None:
    assert _completes_at(_evidence(association_ended_at=_after(ended))) == due


def test_an_open_association_is_waited_for_until_it_is_quiet() -> None:
    assert _completes_at(_evidence(association_ended_at=None)) == 30.0


@pytest.mark.parametrize(
    "positions",
    [
        (),
        (0.0,),
        (*_EVEN[:4], *_EVEN[5:]),
        (*_EVEN, None),
        (None,) * 10,
        (*_EVEN, _EVEN[-1]),
        (0.0, 0.0, 0.0),
        (0.0, 2.5, 5.0, 7.9),
    ],
    ids=[
        "nothing",
        "one slice",
        "a gap",
        "one without position",
        "none with position",
        "one twice",
        "all at one place",
        "an uneven step",
    ],
)
def test_slices_that_are_not_even_wait_the_quiet_time(positions: tuple[float | None, ...]) -> None:
    assert _completes_at(_evidence(positions=positions, count=max(1, len(positions)))) == 30.0


def test_half_a_series_sent_every_other_slice_first_is_seen_as_even() -> None:
    """The known limit of the evidence: without an announced number it looks whole."""
    assert is_contiguous(_EVEN[::2])


def test_the_settle_time_never_outlasts_the_quiet_time() -> None:
    policy = CompletionPolicy(settle_seconds=60.0, quiet_seconds=30.0)
    assert _completes_at(_evidence(), policy) == 30.0


def test_a_reason_is_a_sentence_for_a_person() -> None:
    decision = decide(_evidence(association_ended_at=None), _POLICY, _after(30))
    assert decision == Complete(reason="nothing for 30 s")


_SECONDS = st.floats(-1e4, 1e4)
_EVIDENCE = st.builds(
    lambda positions, expected, last, ended: _evidence(
        positions=tuple(positions),
        count=max(1, len(positions)),
        expected=expected,
        last_received_at=_after(last),
        association_ended_at=None if ended is None else _after(ended),
    ),
    st.lists(st.none() | st.floats(-2000, 2000), max_size=8),
    st.none() | st.integers(1, 12),
    _SECONDS,
    st.none() | _SECONDS,
)
_POLICIES = st.builds(
    lambda settle, quiet: CompletionPolicy(settle_seconds=settle, quiet_seconds=quiet),
    st.floats(0, 600),
    st.floats(0, 600),
)


@given(_EVIDENCE, _POLICIES, _SECONDS)
def test_a_decision_is_complete_or_a_wait_into_the_future(
    evidence: Evidence, policy: CompletionPolicy, now: float
) -> None:
    decision = decide(evidence, policy, _after(now))
    if isinstance(decision, WaitUntil):
        assert decision.at > _after(now)


@given(_EVIDENCE, _POLICIES)
def test_no_series_waits_beyond_its_quiet_time(
    evidence: Evidence, policy: CompletionPolicy
) -> None:
    quiet = evidence.last_received_at + timedelta(seconds=policy.quiet_seconds)
    assert isinstance(decide(evidence, policy, quiet), Complete)


@given(_EVIDENCE, _POLICIES, _SECONDS, st.floats(0, 1e4))
def test_what_is_complete_stays_complete(
    evidence: Evidence, policy: CompletionPolicy, now: float, later: float
) -> None:
    assume(isinstance(decide(evidence, policy, _after(now)), Complete))
    assert isinstance(decide(evidence, policy, _after(now + later)), Complete)


@given(_EVIDENCE, _POLICIES, _SECONDS)
def test_a_wait_that_is_kept_ends_in_a_complete_series(
    evidence: Evidence, policy: CompletionPolicy, now: float
) -> None:
    decision = decide(evidence, policy, _after(now))
    if isinstance(decision, WaitUntil):
        assert isinstance(decide(evidence, policy, decision.at), Complete)


@given(_EVIDENCE, _POLICIES, _SECONDS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(
    evidence: Evidence, policy: CompletionPolicy, now: float, shuffler: random.Random
) -> None:
    shuffled = list(evidence.positions)
    shuffler.shuffle(shuffled)
    other = _evidence(
        positions=tuple(shuffled),
        count=evidence.count,
        expected=evidence.expected,
        last_received_at=evidence.last_received_at,
        association_ended_at=evidence.association_ended_at,
    )
    assert decide(other, policy, _after(now)) == decide(evidence, policy, _after(now))


_STEPS = st.floats(0.3, 10)
_ORIGINS = st.floats(-1500, 1500)


@given(_ORIGINS, _STEPS, st.integers(2, 400), st.integers(1, 4))
def test_even_slices_are_contiguous_as_far_as_headers_are_rounded(
    origin: float, step: float, count: int, digits: int
) -> None:
    """Scanners write positions with few digits; 0.1 mm steps of 0.3 mm are not asked for."""
    assume(step * 0.1 > 2 * 10.0**-digits)
    positions = tuple(round(origin + index * step, digits) for index in range(count))
    assert is_contiguous(positions)
    assert is_contiguous(tuple(-position for position in positions))


@given(_ORIGINS, _STEPS, st.integers(4, 100), st.data())
def test_a_missing_slice_is_a_gap(
    origin: float, step: float, count: int, data: st.DataObject
) -> None:
    missing = data.draw(st.integers(1, count - 2))
    positions = [origin + index * step for index in range(count)]
    del positions[missing]
    assert not is_contiguous(tuple(positions))
