"""Fakes of the node's edges, for the tests of Rales and of what is built on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from chestct.results import ResultObject
from dicom_out.network.destination import Recipient
from dicom_out.network.outcome import Outcome, OutcomeKind

_Answer = TypeVar("_Answer")


class ManualClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the present."""
        return self.now

    def advance(self, seconds: float) -> datetime:
        """Let ``seconds`` pass and return the new present."""
        self.now += timedelta(seconds=seconds)
        return self.now


class FakeSender:
    """A :class:`rales.steps.deliver.Sender` that answers what it was told to.

    ``answers`` maps a destination's name to the outcomes of its next calls, one per call;
    afterwards everything is delivered. ``sent`` records (destination, role) of every try.
    """

    def __init__(self, answers: dict[str, list[Outcome]] | None = None) -> None:
        self._answers = answers or {}
        self.sent: list[tuple[str, str]] = []

    def __call__(
        self, objects: Sequence[ResultObject], destination: Recipient
    ) -> Sequence[Outcome]:
        """Answer every object with the next planned outcome."""
        self.sent.extend((destination.name, item.role) for item in objects)
        planned = self._answers.get(destination.name)
        delivered = Outcome(kind=OutcomeKind.DELIVERED, status=0x0000, message="stored")
        return [planned.pop(0) if planned else delivered] * len(objects)


class InlineWorker:
    """A :class:`rales.runtime.process.Worker` that runs each call at once in the calling thread."""

    def call(self, function: Callable[..., _Answer], /, *arguments: Any) -> _Answer:
        """Return what the function returns."""
        return function(*arguments)

    def stop(self) -> None:
        """Have nothing to end."""

    def close(self) -> None:
        """Have nothing to give back."""
