"""The outbox: sends the due items of one target; an item that fails costs no other item.

Deliveries, storage commitments and notifications go out this way. The state file says which items
wait and until when; a :class:`Queue` reads it, attempts the items and records the results.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, Protocol, TypeVar

from chestct.errors import OutOfResources
from rales.runtime.loglimit import LogLimiter

_LOG = logging.getLogger(__name__)

_UNRECORDED = timedelta(seconds=1)
"""The pause while the state file takes no results."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Step = Callable[[datetime], datetime | None]
"""One step of a loop: called with the time, returns when to call it again."""


class Queue(Protocol[Item, Result]):
    """The items that wait for one target, how they are attempted, and how results are recorded.

    ``due`` and ``next_due`` follow one predicate: an item that is not due now has a due time in
    the future, or none. A recorded item has ended or has a later due time.
    """

    def due(self, *, at: datetime) -> Sequence[Sequence[Item]]:
        """Return the due items, in groups that go out together."""

    def next_due(self) -> datetime | None:
        """Return when the next item is due."""

    def admit(self, group: Sequence[Item]) -> Sequence[Item]:
        """Return the items of a group to send now; the other items have ended."""

    def attempt(self, group: Sequence[Item]) -> Iterable[Result]:
        """Yield the result of each item, in order, as soon as it is known.

        It may stop early, after one result or more: the other items are attempted again.
        """

    def failed(self, error: Exception) -> Result:
        """Return the result of an item whose attempt raised ``error``."""

    def is_down(self, result: Result) -> bool:
        """Return whether the target was not reached, so that no other item would fare better."""

    def record(self, item: Item, result: Result) -> None:
        """Record the result of an attempt: the item has ended, or is due again later."""

    def abandon(self, item: Item, why: str) -> None:
        """End an item whose result cannot be recorded."""

    def key(self, item: Item) -> Hashable:
        """Return the identity of an item."""


class OutboxWorker(Generic[Item, Result]):
    """The outboxes of one kind of item: one for each target, each in a loop of its own."""

    def __init__(
        self, kind: str, queues: Mapping[str, Queue[Item, Result]], clock: Callable[[], datetime]
    ) -> None:
        self._kind = kind
        self._parked = threading.Event()
        self._outboxes = {
            target: Outbox(f"{kind} {target}", queue, clock=clock, parked=self._parked)
            for target, queue in queues.items()
        }

    def park(self) -> None:
        """Begin no further attempt; an attempt under way may end."""
        self._parked.set()

    def steps(self) -> dict[str, Step]:
        """Return the step of each loop, by the name of the loop."""
        return {
            f"{self._kind}-{target}": partial(self.send_due, target) for target in self._outboxes
        }

    def send_due(self, target: str, now: datetime) -> datetime | None:
        """Attempt the due items of one target; return when the next item is due."""
        return self._outboxes[target].step(now)


class Outbox(Generic[Item, Result]):
    """The due items of one target, and the results that the state file has not taken yet."""

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
        self._limiter = LogLimiter(_LOG)
        self._unrecorded: dict[Hashable, tuple[Item, Result]] = {}

    def step(self, now: datetime) -> datetime | None:
        """Attempt the due items; return when the next item is due.

        When the target is down, one attempt stands for all due items: the target is not called a
        hundred times in a row. When the state file takes no result (a full disk), the outbox
        keeps the result and does not send the item again.

        Raises:
            OutOfResources: The state file cannot be written now.
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
        if self._unrecorded:  # the state file still lists these as due: it cannot say what is next
            return self._clock() + _UNRECORDED
        return self._queue.next_due()

    def _admitted(self, group: Sequence[Item]) -> Sequence[Item]:
        items = [item for item in group if self._queue.key(item) not in self._unrecorded]
        try:
            return self._queue.admit(items) if items else items
        except OutOfResources:
            raise
        except Exception as error:  # noqa: BLE001 - it costs this group an attempt, no more
            self._limiter.exception(f"{self._name}: before an attempt", error)
            for item in items:
                self._record(item, self._queue.failed(error))
            return ()

    def _results(self, items: Sequence[Item], down: Result | None) -> Iterator[tuple[Item, Result]]:
        """Yield each item with its result, as soon as the result is known."""
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
                self._limiter.exception(f"{self._name}: an attempt", error)
                if rest:
                    yield rest.popleft(), self._queue.failed(error)

    def _record(self, item: Item, result: Result) -> None:
        key = self._queue.key(item)
        self._unrecorded[key] = (item, result)
        try:
            self._queue.record(item, result)
        except OutOfResources as error:
            self._limiter.exception(f"{self._name}: a result waits to be recorded", error)
            return
        except Exception as error:  # noqa: BLE001 - an item that cannot be recorded ends
            self._limiter.exception(f"{self._name}: a result cannot be recorded", error)
            if not self._abandon(item, error):
                return
        del self._unrecorded[key]

    def _abandon(self, item: Item, error: Exception) -> bool:
        try:
            self._queue.abandon(item, f"its result cannot be recorded ({type(error).__name__})")
        except Exception as again:  # noqa: BLE001 - the next step tries again
            self._limiter.exception(f"{self._name}: an item cannot be ended", again)
            return False
        return True
