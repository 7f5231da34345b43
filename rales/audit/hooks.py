"""Turns events of the node into audit messages (PS3.15 section A.5.3)."""

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
from dicom_out.network.destination import Recipient
from dicom_out.network.outcome import Outcome, OutcomeKind
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
    OutcomeKind.DELIVERED: m.EventOutcome.SUCCESS,
    OutcomeKind.FAILED: m.EventOutcome.MINOR_FAILURE,
    OutcomeKind.NOT_ACCEPTED: m.EventOutcome.MINOR_FAILURE,
    OutcomeKind.REFUSED: m.EventOutcome.SERIOUS_FAILURE,
}
"""EventOutcomeIndicator of results. A damaged result has none: it is never sent."""


def node_participant(ae_title: str, host: str) -> m.Participant:
    """Return this process as a participant; the user ID is the process ID, as in the log."""
    return m.Participant(
        user_id=str(os.getpid()), ae_title=ae_title, address=host, is_requestor=False
    )


def patient_of(path: Path) -> m.AuditedPatient:
    """Read the patient of a Part 10 file; an empty patient if the file cannot be read."""
    try:
        header = pydicom.dcmread(path, specific_tags=["PatientID", "PatientName"])
        return m.AuditedPatient(
            id=str(header.get("PatientID", "")), name=str(header.get("PatientName", ""))
        )
    except Exception:  # noqa: BLE001 - pydicom raises anything over a hostile header
        _LOG.warning("an audit message does not name the patient: %s cannot be read", path)
        return m.AuditedPatient()


class AuditHooks:
    """Submits an event for each call; implements :class:`scp.ports.AuditSink` for the receiver."""

    def __init__(
        self, trail: AuditTrail, node: m.Participant, clock: Callable[[], datetime]
    ) -> None:
        self._trail = trail
        self._node = node
        self._clock = clock

    def started(self) -> None:
        """The application started (section A.5.3.1)."""
        self._activity(m.APPLICATION_ACTIVITY, m.APPLICATION_START, m.APPLICATION)

    def attached(self) -> None:
        """The node started to listen (section A.5.3.9)."""
        self._activity(m.NETWORK_ENTRY, m.ATTACH, None)

    def detached(self) -> None:
        """The node stopped listening (section A.5.3.9)."""
        self._activity(m.NETWORK_ENTRY, m.DETACH, None)

    def stopped(self) -> None:
        """The application stops (section A.5.3.1)."""
        self._activity(m.APPLICATION_ACTIVITY, m.APPLICATION_STOP, m.APPLICATION)

    def _activity(self, event: m.Code, kind: m.Code, role: m.Code | None) -> None:
        message = m.AuditEvent(
            event=event,
            kind=kind,
            action=m.Action.EXECUTE,
            at=self._clock(),
            participants=(replace(self._node, role=role),),
        )
        self._trail.submit(lambda: message)

    def rejected(self, peer: Peer, reason: str) -> None:
        """An association was rejected for its calling or called AE title (section A.5.3.11)."""
        message = m.AuditEvent(
            event=m.SECURITY_ALERT,
            kind=m.NODE_AUTHENTICATION,
            action=m.Action.EXECUTE,
            outcome=m.EventOutcome.MINOR_FAILURE,
            at=self._clock(),
            participants=(self._node, _remote(peer.ae_title, peer.address)),
            alert=m.Alert(node=peer.address, description=reason),
        )
        self._trail.submit(lambda: message)

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
        """An association with instances of a study ended (section A.5.3.7)."""
        aborted = how is AssociationEnd.ABORTED
        self._trail.submit(
            partial(
                _with_patient,
                m.AuditEvent(
                    event=m.TRANSFERRED,
                    action=_ACTIONS[transfer.recorded],
                    at=self._clock(),
                    description="the association was aborted after these were stored" * aborted,
                    participants=self._received_from(peer),
                    study=_study_of(transfer),
                ),
                transfer.sample,
            )
        )

    def _received_from(self, peer: Peer) -> tuple[m.Participant, ...]:
        return (
            replace(_remote(peer.ae_title, peer.address), is_requestor=True, role=m.SOURCE),
            replace(self._node, role=m.DESTINATION),
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
                messages = "; ".join(dict.fromkeys(answer.message for _, answer in pairs))
                description = "" if kind is OutcomeKind.DELIVERED else messages
                chosen = [item for item, _ in pairs]
                self._sent(chosen, to, m.TRANSFERRED, outcome, description)

    def _sent(
        self,
        objects: Sequence[ResultObject],
        to: Recipient,
        event: m.Code,
        outcome: m.EventOutcome = m.EventOutcome.SUCCESS,
        description: str = "",
    ) -> None:
        """Submit an event of results; READ, since only the receiver knows if an object was new."""
        sender = replace(self._node, is_requestor=True, role=m.SOURCE)
        receiver = replace(_remote(to.title, to.host), role=m.DESTINATION)
        self._trail.submit(
            partial(
                _with_patient,
                m.AuditEvent(
                    event=event,
                    action=m.Action.READ if event is m.TRANSFERRED else m.Action.EXECUTE,
                    outcome=outcome,
                    description=description,
                    at=self._clock(),
                    participants=(sender, receiver),
                    study=m.AuditedStudy(
                        uid=objects[0].study_uid,
                        instances=Counter(item.sop_class_uid for item in objects),
                    ),
                ),
                objects[0].path,
            )
        )


def _study_of(transfer: Transfer) -> m.AuditedStudy:
    """Return the study with a copy of the counts: the transfer may go on."""
    counts = {str(uid): count for uid, count in transfer.instances.items()}
    return m.AuditedStudy(uid=transfer.study_uid, instances=counts)


def _remote(ae_title: str, address: str) -> m.Participant:
    """Return another node; its AE title is the only known identifier."""
    return m.Participant(user_id=ae_title, ae_title=ae_title, address=address, is_requestor=False)


def _with_patient(event: m.AuditEvent, sample: Path) -> m.AuditEvent:
    return replace(event, patient=patient_of(sample))


class AuditedSender:
    """A :class:`rales.steps.dispatch.Sender` that audits what it sends."""

    def __init__(self, sender: Sender, hooks: AuditHooks) -> None:
        self._sender = sender
        self._hooks = hooks

    def __call__(
        self, objects: Sequence[ResultObject], destination: Recipient
    ) -> Iterator[Outcome]:
        """Send ``objects``, with an audit message before and audit messages after."""
        self._hooks.sending(objects, destination)
        outcomes: list[Outcome] = []
        try:
            for outcome in self._sender(objects, destination):
                outcomes.append(outcome)
                yield outcome
        finally:
            self._hooks.sent(objects, destination, outcomes)
