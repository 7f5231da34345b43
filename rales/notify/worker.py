"""Sends what waits in the outbox: per target, with back-off, until taken, refused or given up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from chestct.errors import PermanentError
from chestct.states import DeliveryState, JobState
from rales.deliveries import BackOff
from rales.notify.transport import Outcome, OutcomeKind, Poster, Request
from rales.store import Job, JobStore, Notification, NotificationStore

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


class NotificationWorker:
    """One step of the loop of each target."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        notifications: NotificationStore,
        targets: Mapping[str, Target],
        back_off: BackOff,
        clock: Callable[[], datetime],
    ) -> None:
        self._jobs = jobs
        self._notifications = notifications
        self._targets = targets
        self._back_off = back_off
        self._clock = clock
        self._parked = threading.Event()

    def begin(self) -> None:
        """Have every end of a job written down for the targets from now on."""
        wanted = {name: target.events for name, target in self._targets.items()}
        dropped = self._notifications.set_targets(wanted, at=self._clock())
        if dropped:
            _LOG.error("%d messages to targets that are not configured any more dropped", dropped)

    def park(self) -> None:
        """Begin no further message; what is under way may end."""
        self._parked.set()

    def send_due(self, name: str, now: datetime) -> datetime | None:
        """Send what is due at one target; return when the next is.

        One attempt stands for all that is due where the target does not answer.
        """
        gone: Outcome | None = None
        for one in self._notifications.due(name, at=now):
            if self._parked.is_set():
                break
            if self._targets[name].latest_only and self._notifications.overtaken(one):
                self._withdraw(one)
                continue
            outcome = gone or self._attempt(self._targets[name], one)
            if not outcome.reached:
                gone = outcome
            self._record(one, outcome)
        return self._notifications.next_due(name)

    def _withdraw(self, one: Notification) -> None:
        self._notifications.settle(
            one,
            DeliveryState.WITHDRAWN,
            status=None,
            message="a newer revision was told before",
            at=self._clock(),
        )

    def _attempt(self, target: Target, one: Notification) -> Outcome:
        try:
            request = target.compose(one, self._jobs.get(one.job_id), self._clock())
        except PermanentError as error:
            return Outcome(kind=OutcomeKind.REFUSED, message=str(error))
        except Exception as error:  # noqa: BLE001 - one message must not hold up the others
            # Its text may quote what it stumbled over, which may be a patient's.
            message = f"it could not be composed: {type(error).__name__}"
            return Outcome(kind=OutcomeKind.FAILED, message=message)
        return target.judge(target.post(request))

    def _record(self, one: Notification, outcome: Outcome) -> None:
        now = self._clock()
        message = outcome.message
        if outcome.kind is OutcomeKind.DELIVERED:
            self._notifications.settle(
                one, DeliveryState.DELIVERED, status=outcome.status, message=message, at=now
            )
            return
        _LOG.debug("%s answered: %s", one.target, outcome.answer)
        given_up = self._back_off.is_spent(one.occurred_at, now)
        if outcome.kind is OutcomeKind.REFUSED or given_up:
            if outcome.kind is OutcomeKind.FAILED:
                message = f"given up: {message}"
            _LOG.error(
                "%s will not be told that job %d is %s: %s",
                one.target,
                one.job_id,
                one.event,
                message,
            )
            self._notifications.settle(
                one, DeliveryState.REFUSED, status=outcome.status, message=message, at=now
            )
            return
        attempts = one.attempts + 1
        due_at = now + self._back_off.delay(attempts)
        self._notifications.postpone(one, due_at=due_at, status=outcome.status, message=message)
        _LOG.warning(
            "telling %s that job %d is %s failed (attempt %d, again at %s): %s",
            one.target,
            one.job_id,
            one.event,
            attempts,
            due_at.isoformat(timespec="seconds"),
            message,
        )
