"""Loops that rest: no step that raises or is always due takes the machine."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta

import pytest

from rales.runtime.clock import utc_now
from rales.runtime.loglimit import LogLimiter
from rales.runtime.loops import Loop


def test_a_step_that_raises_rests_whoever_wakes_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times: list[float] = []
    twice = threading.Event()

    def step(_now: datetime) -> datetime | None:
        times.append(time.monotonic())
        if len(times) == 2:
            twice.set()
        raise ValueError("always")

    loop = Loop("hurt", step)
    with caplog.at_level(logging.ERROR):
        loop.start()
        while not twice.wait(0.01):
            loop.wake()
        loop.ask_to_stop()
        assert loop.join(10)
    assert times[1] - times[0] > 0.9
    assert [bool(one.exc_info) for one in caplog.records] == [True]


def test_a_step_that_is_always_due_does_not_spin() -> None:
    calls = 0
    began = time.monotonic()
    enough = threading.Event()

    def step(_now: datetime) -> datetime | None:
        nonlocal calls
        calls += 1
        if calls == 8:
            enough.set()
        return utc_now() - timedelta(seconds=1)

    loop = Loop("keen", step)
    loop.start()
    assert enough.wait(30)
    seconds = time.monotonic() - began
    loop.ask_to_stop()
    assert loop.join(10)
    assert 8 / seconds < 30, "calls in a second"


def test_repetitions_are_counted_and_said_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = [0.0]
    limiter = LogLimiter(logging.getLogger("x"), seconds=lambda: seconds[0])

    def fail() -> None:
        try:
            {}["a"]
        except KeyError as error:
            limiter.exception("a step", error)

    for seconds[0] in (0.0, 1.0, 2.0, 700.0):
        fail()
    assert [bool(one.exc_info) for one in caplog.records] == [True, False]
    assert "again, 3 times" in caplog.records[1].getMessage()
