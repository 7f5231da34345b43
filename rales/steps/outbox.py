"""The outbox: takes what is due at one target through its attempts, each item for itself.

Deliveries, storage commitments and notifications go out this way. What waits, and until when,
is in the state file; a :class:`Queue` says how. Whatever goes wrong with one item costs that
item an attempt: the others go on.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from chestct.errors import OutOfResources
from rales.runtime.complaints import Complaints

_LOG = logging.getLogger(__name__)

_UNRECORDED = timedelta(seconds=1)
"""The pause while the state file takes no outcome."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Queue(Protocol[Item, Result]):
    """What waits for one target, and what becomes of it.

    ``due`` and ``next_due`` follow one predicate: what is not selected now has a time in the
    future, or none. Once recorded, an item has ended or is due later.
    """

    def due(self, *, at: datetime) -> Sequence[Sequence[Item]]:
        """Return what is due, in groups that go out together."""

    def next_due(self) -> datetime | None:
        """Return when the next item is due."""

    def admit(self, group: Sequence[Item]) -> Sequence[Item]:
        """Return what of a group goes out now; the rest has ended by that."""

    def attempt(self, group: Sequence[Item]) -> Iterable[Result]:
        """Yield the result of each item, in order, as soon as it is known.

        What it leaves out, after one item or more, is attempted again.
        """

    def failed(self, error: Exception) -> Result:
        """Return the result of an item whose attempt raised."""

    def is_down(self, result: Result) -> bool:
        """Tell whether nobody was there, so that no other item fares better."""

    def record(self, item: Item, result: Result) -> None:
        """Write down what became of an item: its end, or when it is due again."""

    def abandon(self, item: Item, why: str) -> None:
        """End an item whose result cannot be written down."""

    def key(self, item: Item) -> Hashable:
        """Return what tells an item from the others."""


class Outbox(Generic[Item, Result]):
    """One step of the loop of one target."""

    def __init__(
        self,
        name: str,
        queue: Queue[Item, Result],
        *,
        clock: Callable[[], datetime],
        parked: threading.Event,
    ) -> None:
        """Begin no further attempt once ``parked`` is set."""
        self._name = name
        self._queue = queue
        self._clock = clock
        self._parked = parked
        self._complaints = Complaints(_LOG)
        self._unrecorded: dict[Hashable, tuple[Item, Result]] = {}

    def step(self, now: datetime) -> datetime | None:
        """Attempt what is due; return when the next is.

        Where nobody is there, one attempt stands for all that is due: a target that is down is
        not asked a hundred times in a row. A result that the state file does not take (a full
        disk) is kept, and nothing is sent again for it.

        Raises:
            OutOfResources: The state file takes nothing now.
        """
        for item, result in list(self._unrecorded.values()):
            self._record(item, result)
        down: Result | None = None
        for group in self._queue.due(at=now):
            if self._parked.is_set():
                break
            for item, result in self._results(self._admitted(group), down):
                self._record(item, result)
                if self._queue.is_down(result):
                    down = result
        if self._unrecorded:  # these are due in the state file: it cannot say when the next is
            return self._clock() + _UNRECORDED
        return self._queue.next_due()

    def _admitted(self, group: Sequence[Item]) -> Sequence[Item]:
        known = [one for one in group if self._queue.key(one) not in self._unrecorded]
        try:
            return self._queue.admit(known) if known else known
        except OutOfResources:
            raise
        except Exception as error:  # noqa: BLE001 - what is wrong with a group costs that group
            self._complaints.say(f"{self._name}: before an attempt", error)
            for item in known:
                self._record(item, self._queue.failed(error))
            return ()

    def _results(self, items: Sequence[Item], down: Result | None) -> Iterator[tuple[Item, Result]]:
        """Yield each item with what became of it, as soon as it is known."""
        if down is not None:
            yield from ((item, down) for item in items)
            return
        rest = deque(items)
        while rest:
            before = len(rest)
            try:
                for result in self._queue.attempt(tuple(rest)):
                    yield rest.popleft(), result
                if len(rest) == before:
                    raise RuntimeError("an attempt ended without a result")  # noqa: TRY301
            except Exception as error:  # noqa: BLE001 - it costs one item an attempt, no more
                self._complaints.say(f"{self._name}: an attempt", error)
                if rest:
                    yield rest.popleft(), self._queue.failed(error)

    def _record(self, item: Item, result: Result) -> None:
        key = self._queue.key(item)
        self._unrecorded[key] = (item, result)
        try:
            self._queue.record(item, result)
        except OutOfResources as error:
            self._complaints.say(f"{self._name}: a result waits to be recorded", error)
            return
        except Exception as error:  # noqa: BLE001 - an item that cannot be recorded ends
            self._complaints.say(f"{self._name}: a result cannot be recorded", error)
            if not self._abandoned(item, error):
                return
        del self._unrecorded[key]

    def _abandoned(self, item: Item, error: Exception) -> bool:
        try:
            self._queue.abandon(item, f"its result cannot be recorded ({type(error).__name__})")
        except Exception as again:  # noqa: BLE001 - tried again with the next step
            self._complaints.say(f"{self._name}: an item cannot be ended", again)
            return False
        return True
