"""Runs every step of an outbox worker, which a node runs in loops of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rales.steps.outbox import OutboxWorker


def step_all(worker: OutboxWorker[Any, Any], now: datetime) -> datetime | None:
    """Run each step once; return the earliest time at which one wants to run again."""
    times = [step(now) for step in worker.steps().values()]
    return min((time for time in times if time is not None), default=None)
