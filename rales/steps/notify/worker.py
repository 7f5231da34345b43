"""Sends notifications: per target, with back-off, until delivered, refused or given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chestct.errors import PermanentError
from chestct.states import DeliveryState, JobState
from dicom_out.network.outcome import OutcomeKind
from rales.state.store import Job, JobStore, Notification, NotificationStore
from rales.state.store.outbox import Attempt
from rales.steps.backoff import BackOff
from rales.steps.notify.transport import Poster, PostResult, Request
from rales.steps.outbox import OutboxWorker

_LOG = logging.getLogger(__name__)

Composer = Callable[[Notification, Job, datetime], Request]
"""Composes the request of one attempt; raises a :class:`PermanentError` where none is possible."""


def _unchanged(posted: PostResult) -> PostResult:
    return posted


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A receiver of notifications.

    Attributes:
        events: The end states of jobs that it gets.
        compose: Makes the request of one attempt.
        post: Sends the request.
        judge: Checks whether an answer means that the notification was delivered.
        latest_only: A message replaces earlier ones at the receiver, so that none about an earlier
            revision may follow one about a newer revision.
    """

    name: str
    events: Collection[JobState]
    compose: Composer
    post: Poster
    judge: Callable[[PostResult], PostResult] = _unchanged
    latest_only: bool = False


class TargetQueue:
    """The :class:`rales.steps.outbox.Queue` of the notifications to one target."""

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
        """Return the notifications that are due, each in a group of its own."""
        return [[message] for message in self._notifications.due(self._target.name, at=at)]

    def next_due(self) -> datetime | None:
        """Return when the next notification is due."""
        return self._notifications.next_due(self._target.name)

    def admit(self, group: Sequence[Notification]) -> Sequence[Notification]:
        """Return the notification, unless a newer revision was reported before."""
        (notification,) = group
        if not (self._target.latest_only and self._notifications.is_overtaken(notification)):
            return group
        self._record(
            notification, DeliveryState.WITHDRAWN, None, "the receiver has a newer revision already"
        )
        return ()

    def attempt(self, group: Sequence[Notification]) -> Iterator[PostResult]:
        """Compose and send the notification."""
        (notification,) = group
        try:
            request = self._target.compose(
                notification, self._jobs.get(notification.job_id), self._clock()
            )
        except PermanentError as error:
            yield PostResult(kind=OutcomeKind.REFUSED, message=str(error))
            return
        yield self._target.judge(self._target.post(request))

    def failed(self, error: Exception) -> PostResult:
        """Return a temporary failure; the text of the error may name a patient and is left out."""
        message = f"it could not be composed or sent: {type(error).__name__}"
        return PostResult(kind=OutcomeKind.FAILED, message=message)

    def is_down(self, result: PostResult) -> bool:
        """Return whether nobody answered."""
        return not result.reached

    def key(self, item: Notification) -> int:
        """Return the id of the notification."""
        return item.id

    def record(self, item: Notification, result: PostResult) -> None:
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
        """End a notification as refused."""
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


class NotificationWorker(OutboxWorker[Notification, PostResult]):
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
        """Record a notification for each target whenever a job ends, from now on."""
        wanted = {name: target.events for name, target in self._targets.items()}
        dropped = self._notifications.set_targets(wanted, at=self._clock())
        if dropped:
            _LOG.error(
                "%d notifications dropped: their targets are not configured any more", dropped
            )
