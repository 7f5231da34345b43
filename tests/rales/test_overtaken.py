"""Two revisions of one series under way: none is lost, forgotten, or told over the newer one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import FakeSender
from steps import step_all

from chestct.states import DeliveryState, JobState
from dicom_out.network.outcome import Outcome, OutcomeKind
from rales.state.store import Database

from .conftest import NOON
from .test_deliveries import Make, Rig

_LOST = Outcome(kind=OutcomeKind.FAILED, status=None, message="no answer to C-STORE")
_FULL = Outcome(kind=OutcomeKind.FAILED, status=0xA700, message="full")
_DOWN = replace(_LOST, message="connection refused", reached=False)


@pytest.fixture
def rig(database: Database, make_instance: Make, tmp_path: Path) -> Rig:
    return Rig(database, make_instance, tmp_path)


@pytest.mark.parametrize("later", [_DOWN, _FULL], ids=["down", "full"])
def test_what_may_have_arrived_is_not_forgotten_over_a_later_failure(
    rig: Rig, later: Outcome
) -> None:
    worker = rig.worker(FakeSender({"near": [_LOST, later]}), "near")
    step_all(worker, NOON)
    step_all(worker, rig.clock.advance(5))
    newer = rig.compose(2)
    assert rig.jobs.predecessor(newer) == rig.jobs.get(rig.job.id)
    step_all(worker, rig.clock.advance(60))
    states = {one.state for one in rig.deliveries.of_job(rig.job.id)}
    assert states == {DeliveryState.DELIVERED}
    assert rig.state() is JobState.DONE


def test_one_that_was_not_tried_for_another_that_found_nobody_is_not_forgotten(rig: Rig) -> None:
    worker = rig.worker(FakeSender({"near": [_LOST, _LOST, _DOWN]}), "near")
    step_all(worker, NOON)
    other = rig.compose(1, series="1.2.4")
    step_all(worker, NOON)
    assert rig.jobs.predecessor(other) is None
    step_all(worker, rig.clock.advance(timedelta(seconds=5).total_seconds()))
    for series in ("1.2.3", "1.2.4"):
        newer = rig.compose(2, series=series)
        assert rig.jobs.predecessor(newer) is not None


@pytest.mark.parametrize("answer", [_DOWN, _FULL], ids=["down", "full"])
def test_what_surely_never_arrived_is_withdrawn_after_any_number_of_attempts(
    rig: Rig, answer: Outcome
) -> None:
    worker = rig.worker(FakeSender({"near": [answer] * 2}), "near")
    step_all(worker, NOON)
    step_all(worker, rig.clock.advance(5))
    newer = rig.compose(2)
    assert rig.jobs.predecessor(newer) is None
    step_all(worker, rig.clock.advance(60))
    assert rig.state() is JobState.SUPERSEDED
