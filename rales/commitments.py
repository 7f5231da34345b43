"""Has destinations commit to keep what they stored, and sends again what they do not have.

A delivery to a destination with ``commitment = true`` is delivered when the destination
said so in a storage commitment report. Until then its job is delivering, so that nothing of
it is released. What is not committed, or not answered for too long, is sent again under the
same UIDs and asked for again, until it is given up as any delivery is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol
from uuid import uuid4

from chestct.results import ResultObject
from chestct.states import DeliveryState
from chestct.uids import OwnUid, Uid
from dicom_out.commitment import CommitmentReport, ReportHandler, explain, is_final
from dicom_out.sender import Destination, Outcome, OutcomeKind
from rales.deliveries import BackOff
from rales.results import load_objects
from rales.store import CommitmentStore, Delivery, JobStore

_LOG = logging.getLogger(__name__)


class Requester(Protocol):
    """Sends one N-ACTION; :func:`dicom_out.commitment.request_commitment` is the real one."""

    def __call__(
        self,
        objects: Sequence[ResultObject],
        destination: Destination,
        *,
        transaction_uid: Uid,
        on_report: ReportHandler,
        answered: threading.Event,
    ) -> Outcome:
        """Return what became of the request; never raises for a remote failure."""


class CommitmentWorker:
    """One step of the commitment loop, and where the reports come in.

    ``on_report`` handles EVT_N_EVENT_REPORT of the receiver and of our own associations.
    """

    def __init__(
        self,
        *,
        jobs: JobStore,
        commitments: CommitmentStore,
        destinations: Mapping[str, Destination],
        requester: Requester,
        back_off: BackOff,
        timeout: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._jobs = jobs
        self._commitments = commitments
        self._destinations = destinations
        self._requester = requester
        self._back_off = back_off
        self._timeout = timeout
        self._clock = clock
        self._answered: dict[Uid, threading.Event] = {}
        self.on_report = ReportHandler(self.take)

    def step(self, now: datetime) -> datetime | None:
        """Ask for what is due, and send again what was not answered in time."""
        to_request = []
        for delivery in self._commitments.waiting():
            destination = self._destinations.get(delivery.destination)
            if destination is None or not destination.commitment:
                self._settle_without(delivery)
            elif delivery.due_at > now:
                continue
            elif delivery.transaction_uid is None:
                to_request.append(delivery)
            else:
                self._send_again(delivery, f"no commitment report within {self._timeout}")
        for (job_id, name), group in groupby(to_request, key=_job_and_destination):
            self._request(job_id, self._destinations[name], list(group))
        return self._commitments.next_due()

    def take(self, report: CommitmentReport) -> bool:
        """Record a report; tell whether its transaction is known.

        Raises:
            OutOfResources: It cannot be recorded now.
        """
        failed = self._commitments.report(report, at=self._clock())
        if failed is None:
            return False
        _LOG.info(
            "storage commitment: %d objects committed, %d not",
            len(report.committed),
            len(report.failed),
        )
        for delivery, reason in failed:
            if is_final(reason):
                self._refuse(delivery, f"not committed: {explain(reason)}")
            else:
                self._send_again(delivery, f"not committed: {explain(reason)}")
        answered = self._answered.get(report.transaction_uid)
        if answered is not None:
            answered.set()
        return True

    def _request(
        self, job_id: int, destination: Destination, deliveries: Sequence[Delivery]
    ) -> None:
        by_role = {item.role: item for item in load_objects(self._jobs.get(job_id))}
        transaction_uid = OwnUid(f"2.25.{uuid4().int}")
        now = self._clock()
        self._commitments.request(deliveries, transaction_uid, at=now, until=now + self._timeout)
        answered = self._answered.setdefault(transaction_uid, threading.Event())
        try:
            outcome = self._requester(
                [by_role[delivery.role] for delivery in deliveries],
                destination,
                transaction_uid=transaction_uid,
                on_report=self.on_report,
                answered=answered,
            )
        finally:
            del self._answered[transaction_uid]
        if outcome.kind is not OutcomeKind.DELIVERED:
            for delivery in deliveries:
                self._not_asked(delivery, transaction_uid, outcome)

    def _not_asked(self, delivery: Delivery, transaction_uid: Uid, outcome: Outcome) -> None:
        now = self._clock()
        message = f"commitment cannot be requested: {outcome.message}"
        asked = replace(delivery, transaction_uid=transaction_uid)
        if outcome.kind is OutcomeKind.REFUSED:
            self._refuse(asked, f"{message}. destinations.commitment = false does without it")
        elif self._is_given_up(delivery, now):
            self._refuse(asked, f"given up: {message}")
        else:
            due_at = now + self._back_off.delay(delivery.attempts)
            self._commitments.ask_again(asked, transaction_uid, due_at=due_at, message=message)
            _warn(asked, message)

    def _send_again(self, delivery: Delivery, message: str) -> None:
        now = self._clock()
        if self._is_given_up(delivery, now):
            self._refuse(delivery, f"given up: {message}")
            return
        due_at = now + self._back_off.delay(delivery.attempts)
        self._commitments.send_again(delivery, due_at=due_at, message=f"{message}; sent again")
        _warn(delivery, f"{message}; it is sent again")

    def _is_given_up(self, delivery: Delivery, now: datetime) -> bool:
        return self._back_off.is_spent(delivery.created_at, now)

    def _settle_without(self, delivery: Delivery) -> None:
        message = "stored; no commitment is asked of this destination any more"
        self._commitments.settle(
            delivery, DeliveryState.DELIVERED, message=message, at=self._clock()
        )

    def _refuse(self, delivery: Delivery, message: str) -> None:
        self._commitments.settle(delivery, DeliveryState.REFUSED, message=message, at=self._clock())
        _LOG.error(
            "the %s of job %d is not committed by %s: %s",
            delivery.role,
            delivery.job_id,
            delivery.destination,
            message,
        )


def _job_and_destination(delivery: Delivery) -> tuple[int, str]:
    return delivery.job_id, delivery.destination


def _warn(delivery: Delivery, message: str) -> None:
    _LOG.warning(
        "the %s of job %d at %s: %s",
        delivery.role,
        delivery.job_id,
        delivery.destination,
        message,
    )
