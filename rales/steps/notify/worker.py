"""Sends what waits in the outbox: per target, with back-off, until taken, refused or given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chestct.errors import PermanentError
from chestct.states import DeliveryState, JobState
from rales.state.store import Job, JobStore, Notification, NotificationStore
from rales.state.store.outbox import Attempt
from rales.steps.backoff import BackOff
from rales.steps.notify.transport import Outcome, OutcomeKind, Poster, Request
from rales.steps.outbox import OutboxWorker

_LOG = logging.getLogger(__name__)

Composer = Callable[[Notification, Job, datetime], Request]
"""Makes the request of one attempt.

Raises a :class:`PermanentError` where there is none to be made.
"""


def _as_is(outcome: Outcome) -> Outcome:
    return outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is told of which ends, how, and when its answer counts as taken.

    Attributes:
        latest_only: What is told last stands alone there, so that nothing may be told of an
            earlier revision after a newer one.
    """

    name: str
    events: Collection[JobState]
    compose: Composer
    post: Poster
    judge: Callable[[Outcome], Outcome] = _as_is
    latest_only: bool = False


class TargetQueue:
    """The :class:`rales.steps.outbox.Queue` of the messages to one target."""

    def __init__(
        self,
        target: Target,
        *,
        jobs: JobStore,
        notifications: NotificationStore,
        back_off: BackOff,
        clock: Callable[[], datetime],
    ) -> None:
        self._target = target
        self._jobs = jobs
        self._notifications = notifications
        self._back_off = back_off
        self._clock = clock

    def due(self, *, at: datetime) -> Sequence[Sequence[Notification]]:
        """Return what is due, each message alone."""
        return [[message] for message in self._notifications.due(self._target.name, at=at)]

    def next_due(self) -> datetime | None:
        """Return when the next message is due."""
        return self._notifications.next_due(self._target.name)

    def admit(self, group: Sequence[Notification]) -> Sequence[Notification]:
        """Return what is to be told; not what was overtaken."""
        (one,) = group
        if not (self._target.latest_only and self._notifications.is_overtaken(one)):
            return group
        self._record(one, DeliveryState.WITHDRAWN, None, "a newer revision was told before")
        return ()

    def attempt(self, group: Sequence[Notification]) -> Iterator[Outcome]:
        """Compose and send a message."""
        (one,) = group
        try:
            request = self._target.compose(one, self._jobs.get(one.job_id), self._clock())
        except PermanentError as error:
            yield Outcome(kind=OutcomeKind.REFUSED, message=str(error))
            return
        yield self._target.judge(self._target.post(request))

    def failed(self, error: Exception) -> Outcome:
        """Return a failure for now; the text of an error may quote what is a patient's."""
        message = f"it could not be composed or sent: {type(error).__name__}"
        return Outcome(kind=OutcomeKind.FAILED, message=message)

    def is_down(self, result: Outcome) -> bool:
        """Tell whether nobody answered."""
        return not result.reached

    def key(self, item: Notification) -> int:
        """Return the number of the message."""
        return item.id

    def record(self, item: Notification, result: Outcome) -> None:
        """Record the result of an attempt at a message."""
        if result.kind is OutcomeKind.DELIVERED:
            self._record(item, DeliveryState.DELIVERED, result.status, result.message)
            return
        _LOG.debug("%s answered: %s", item.target, result.answer)
        attempts = item.attempts + 1
        due_at = self._back_off.next_attempt(attempts, since=item.occurred_at, now=self._clock())
        if result.kind is OutcomeKind.REFUSED:
            self._refuse(item, result.status, result.message)
        elif due_at is None:
            self._refuse(item, result.status, f"given up: {result.message}")
        else:
            self._record(item, DeliveryState.PENDING, result.status, result.message, due_at)
            _LOG.warning(
                "notifying %s that job %d is %s failed (attempt %d, again at %s): %s",
                item.target,
                item.job_id,
                item.event,
                attempts,
                due_at.isoformat(timespec="seconds"),
                result.message,
            )

    def abandon(self, item: Notification, why: str) -> None:
        """End a message as refused."""
        self._refuse(item, None, f"given up: {why}")

    def _refuse(self, item: Notification, status: int | None, message: str) -> None:
        _LOG.error(
            "%s will not be notified that job %d is %s: %s",
            item.target,
            item.job_id,
            item.event,
            message,
        )
        self._record(item, DeliveryState.REFUSED, status, message)

    def _record(
        self,
        item: Notification,
        state: DeliveryState,
        status: int | None,
        message: str,
        due_at: datetime | None = None,
    ) -> None:
        attempt = Attempt(
            state=state, status=status, message=message, at=self._clock(), due_at=due_at
        )
        self._notifications.record(item, attempt)


class NotificationWorker(OutboxWorker[Notification, Outcome]):
    """The notification loops, one for each target."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        notifications: NotificationStore,
        targets: Mapping[str, Target],
        back_off: BackOff,
        clock: Callable[[], datetime],
    ) -> None:
        self._notifications = notifications
        self._targets = targets
        self._clock = clock
        queues = {
            name: TargetQueue(
                target, jobs=jobs, notifications=notifications, back_off=back_off, clock=clock
            )
            for name, target in targets.items()
        }
        super().__init__("notification", queues, clock)

    def begin(self) -> None:
        """Have every end of a job written down for the targets from now on."""
        wanted = {name: target.events for name, target in self._targets.items()}
        dropped = self._notifications.set_targets(wanted, at=self._clock())
        if dropped:
            _LOG.error("%d messages to targets that are not configured any more dropped", dropped)
