"""Where the node's events become audit messages (PS3.15 section A.5.3)."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pydicom

from chestct.results import ResultObject
from dicom_out.network.outcome import Outcome, OutcomeKind
from dicom_out.network.recipients import Recipient
from rales.audit import messages as m
from rales.audit.trail import AuditTrail
from rales.steps.dispatch import Sender
from scp.ports import AssociationEnd, Peer, Recorded, Transfer

_LOG = logging.getLogger(__name__)

_ACTIONS = {
    Recorded.NEW: m.Action.CREATE,
    Recorded.REPEATED: m.Action.READ,
    Recorded.REPLACED: m.Action.UPDATE,
}
"""EventActionCode of a receiver (PS3.15 table A.5.3.7-1)."""
_OUTCOMES = {
    OutcomeKind.DELIVERED: m.Severity.SUCCESS,
    OutcomeKind.FAILED: m.Severity.MINOR_FAILURE,
    OutcomeKind.NOT_ACCEPTED: m.Severity.MINOR_FAILURE,
    OutcomeKind.REFUSED: m.Severity.SERIOUS_FAILURE,
}
"""Of what was sent, and what was to be; what is damaged here never went out."""


def node_participant(ae_title: str, host: str) -> m.Participant:
    """Return this process as a participant; its user ID is the process ID, as in the logs."""
    return m.Participant(
        user_id=str(os.getpid()), ae_title=ae_title, address=host, is_requestor=False
    )


def patient_of(path: Path) -> m.Patient:
    """Read whose object a Part 10 file holds; an empty one when it cannot be read (any more)."""
    try:
        header = pydicom.dcmread(path, specific_tags=["PatientID", "PatientName"])
        return m.Patient(
            id=str(header.get("PatientID", "")), name=str(header.get("PatientName", ""))
        )
    except Exception:  # noqa: BLE001 - pydicom raises anything over a hostile header
        _LOG.warning("an audit message cannot name the patient: the file cannot be read")
        return m.Patient()


class AuditHooks:
    """Tells the trail what happened: the receiver's :class:`scp.ports.Witness`, and more."""

    def __init__(
        self, trail: AuditTrail, itself: m.Participant, clock: Callable[[], datetime]
    ) -> None:
        self._trail = trail
        self._itself = itself
        self._clock = clock

    def started(self) -> None:
        """The application started (section A.5.3.1)."""
        self._activity(m.APPLICATION_ACTIVITY, m.APPLICATION_START, m.APPLICATION)

    def attached(self) -> None:
        """The node listens (section A.5.3.9)."""
        self._activity(m.NETWORK_ENTRY, m.ATTACH, None)

    def detached(self) -> None:
        """The node listens no more (section A.5.3.9)."""
        self._activity(m.NETWORK_ENTRY, m.DETACH, None)

    def stopped(self) -> None:
        """The application stops (section A.5.3.1)."""
        self._activity(m.APPLICATION_ACTIVITY, m.APPLICATION_STOP, m.APPLICATION)

    def _activity(self, event: m.Code, kind: m.Code, role: m.Code | None) -> None:
        made = m.AuditEvent(
            event=event,
            kind=kind,
            action=m.Action.EXECUTE,
            at=self._clock(),
            participants=(replace(self._itself, role=role),),
        )
        self._trail.submit(lambda: made)

    def rejected(self, peer: Peer, reason: str) -> None:
        """An association was rejected for who asked or was asked (section A.5.3.11)."""
        made = m.AuditEvent(
            event=m.SECURITY_ALERT,
            kind=m.NODE_AUTHENTICATION,
            action=m.Action.EXECUTE,
            outcome=m.Severity.MINOR_FAILURE,
            at=self._clock(),
            participants=(self._itself, _remote(peer.ae_title, peer.address)),
            alert=m.Alert(node=peer.address, description=reason),
        )
        self._trail.submit(lambda: made)

    def transfer_began(self, peer: Peer, transfer: Transfer) -> None:
        """The first instance of a study was received (section A.5.3.3)."""
        self._trail.submit(
            partial(
                _with_patient,
                m.AuditEvent(
                    event=m.BEGIN_TRANSFERRING,
                    action=m.Action.EXECUTE,
                    at=self._clock(),
                    participants=self._received_from(peer),
                    study=_study_of(transfer),
                ),
                transfer.sample,
            )
        )

    def transfer_ended(self, peer: Peer, transfer: Transfer, how: AssociationEnd) -> None:
        """An association that brought instances of a study has ended (section A.5.3.7)."""
        aborted = how is AssociationEnd.ABORTED
        self._trail.submit(
            partial(
                _with_patient,
                m.AuditEvent(
                    event=m.TRANSFERRED,
                    action=_ACTIONS[transfer.recorded],
                    at=self._clock(),
                    description="the association was aborted; these were stored" * aborted,
                    participants=self._received_from(peer),
                    study=_study_of(transfer),
                ),
                transfer.sample,
            )
        )

    def _received_from(self, peer: Peer) -> tuple[m.Participant, ...]:
        return (
            replace(_remote(peer.ae_title, peer.address), is_requestor=True, role=m.SOURCE),
            replace(self._itself, role=m.DESTINATION),
        )

    def sending(self, objects: Sequence[ResultObject], to: Recipient) -> None:
        """Results are about to be sent (section A.5.3.3)."""
        self._sent(objects, to, m.BEGIN_TRANSFERRING)

    def sent(
        self, objects: Sequence[ResultObject], to: Recipient, outcomes: Sequence[Outcome]
    ) -> None:
        """Results were sent: one message for each kind of outcome (section A.5.3.7)."""
        for kind, outcome in _OUTCOMES.items():
            pairs = [pair for pair in zip(objects, outcomes, strict=False) if pair[1].kind is kind]
            if pairs:
                said = "; ".join(dict.fromkeys(answer.message for _, answer in pairs))
                description = "" if kind is OutcomeKind.DELIVERED else said
                chosen = [item for item, _ in pairs]
                self._sent(chosen, to, m.TRANSFERRED, outcome, description)

    def _sent(
        self,
        objects: Sequence[ResultObject],
        to: Recipient,
        event: m.Code,
        outcome: m.Severity = m.Severity.SUCCESS,
        description: str = "",
    ) -> None:
        """Only the receiver knows whether an object was new there: READ it is, then."""
        itself = replace(self._itself, is_requestor=True, role=m.SOURCE)
        remote = replace(_remote(to.title, to.host), role=m.DESTINATION)
        self._trail.submit(
            partial(
                _with_patient,
                m.AuditEvent(
                    event=event,
                    action=m.Action.READ if event is m.TRANSFERRED else m.Action.EXECUTE,
                    outcome=outcome,
                    description=description,
                    at=self._clock(),
                    participants=(itself, remote),
                    study=m.Study(
                        uid=objects[0].study_uid,
                        instances=Counter(item.sop_class_uid for item in objects),
                    ),
                ),
                objects[0].path,
            )
        )


def _study_of(transfer: Transfer) -> m.Study:
    """Copy what a transfer has counted so far: it may count on."""
    counts = {str(uid): count for uid, count in transfer.instances.items()}
    return m.Study(uid=transfer.study_uid, instances=counts)


def _remote(ae_title: str, address: str) -> m.Participant:
    """Return another node: its AE title is the only identifier that we know of it."""
    return m.Participant(user_id=ae_title, ae_title=ae_title, address=address, is_requestor=False)


def _with_patient(event: m.AuditEvent, sample: Path) -> m.AuditEvent:
    return replace(event, patient=patient_of(sample))


class AuditedSender:
    """A :class:`rales.steps.deliver.Sender` that leaves a trail."""

    def __init__(self, sender: Sender, hooks: AuditHooks) -> None:
        self._sender = sender
        self._hooks = hooks

    def __call__(
        self, objects: Sequence[ResultObject], destination: Recipient
    ) -> Iterator[Outcome]:
        """Send ``objects``, with a message before and messages after."""
        self._hooks.sending(objects, destination)
        outcomes: list[Outcome] = []
        try:
            for outcome in self._sender(objects, destination):
                outcomes.append(outcome)
                yield outcome
        finally:
            self._hooks.sent(objects, destination, outcomes)
