"""An association with a destination, limited from connecting to the end of its threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from dicom_out.network.allowance import Allowance, Bounds
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind, failed
from pynetdicom_guard.reactor_gate import park_reactor
from pynetdicom_guard.requestor import RequestorGuard

MAXIMUM_PDU = 131072
"""Bytes of a P-DATA-TF that are negotiated, and that any PDU may have after its first six. An
A-ASSOCIATE-AC with 128 presentation contexts has 5,000."""
_REJECTED_PERMANENT = 0x01
"""Result of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""


class Conversation:
    """An association with a destination, or the reason why there is none.

    Attributes:
        association: The association; None where there is none.
        failure: The outcome of every request, where there is no association.
    """

    def __init__(self, destination: Destination, allowance: Allowance, bounds: Bounds) -> None:
        self.association: Association | None = None
        self.failure = failed("")
        self._destination = destination
        self._allowance = allowance
        self._bounds = bounds
        self._guard = RequestorGuard(
            allowance, maximum_pdu=MAXIMUM_PDU, silence_seconds=bounds.silence_seconds
        )

    def failed(self, message: str, *, reached: bool = True) -> Outcome:
        """Return a temporary failure: ``message``, or why the conversation was cut off."""
        if self._allowance.spent:
            message = f"{self._destination.place} was cut off: {self._allowance.spent}"
        return failed(message, reached=reached)

    def answer_seconds(self, content: int) -> float:
        """Return how long to wait for an answer, from when ``content`` bytes begin to be sent."""
        return self._bounds.silence_seconds + content / self._bounds.slowest

    def begin(
        self,
        ae: AE,
        handlers: Sequence[tuple[Any, Any]],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation],
    ) -> None:
        """Request the association."""
        destination = self._destination
        try:
            tls = destination.tls() if destination.tls else None
            association = ae.associate(
                destination.host,
                destination.port,
                ae_title=destination.ae_title,
                max_pdu=MAXIMUM_PDU,
                ext_neg=list(roles),
                tls_args=self._guard.tls_arguments(tls, destination.host) if tls else None,
                evt_handlers=[*self._guard.handlers, *handlers],
            )
        except Exception as error:  # noqa: BLE001 - pynetdicom on a hostile answer raises anything
            reason = str(error) or type(error).__name__
            self.failure = self.failed(f"no association: {reason}", reached=False)
            return
        if association.is_established:
            self.association = association
        else:
            self.failure = self._why_not(association)

    def end(self) -> None:
        """Release the association if it stands, hang up, and wait for its threads to end."""
        if self.association is not None and park_reactor(self.association):
            self.association.release()
        self._allowance.hang_up()
        self._guard.close()

    def _why_not(self, association: Any) -> Outcome:
        place = self._destination.place
        if association.is_rejected:
            answer = association.acceptor.primitive
            permanent = answer.result == _REJECTED_PERMANENT
            return Outcome(
                kind=OutcomeKind.NOT_ACCEPTED if permanent else OutcomeKind.FAILED,
                status=None,
                message=f"{place} rejected the association: {answer.reason_str}",
                reached=False,
            )
        if association.rejected_contexts:
            classes = ", ".join(
                context.abstract_syntax.name for context in association.rejected_contexts
            )
            message = f"{place} does not accept {classes}"
            return Outcome(kind=OutcomeKind.NOT_ACCEPTED, status=None, message=message)
        if self._guard.handshake_error is not None:
            message = f"{place}: the TLS handshake failed: {self._guard.handshake_error}"
        elif not self._guard.is_connected:
            message = f"{place} cannot be reached"
        else:
            message = f"{place} aborted the association or does not answer"
        return self.failed(message, reached=False)


@contextmanager
def associated(
    destination: Destination,
    contexts: list[PresentationContext],
    calling_ae: str,
    bounds: Bounds,
    *,
    handlers: Sequence[tuple[Any, Any]] = (),
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[Conversation]:
    """Yield a conversation: with an association, or with the reason why there is none.

    ``handlers`` are bound to the events of the association; ``roles`` are proposed.
    """
    ae = AE(ae_title=calling_ae)
    ae.requested_contexts = contexts
    ae.maximum_pdu_size = MAXIMUM_PDU
    ae.connection_timeout = bounds.connect_seconds
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = bounds.silence_seconds
    with Allowance(bounds) as allowance:
        conversation = Conversation(destination, allowance, bounds)
        try:
            conversation.begin(ae, handlers, roles)
            yield conversation
        finally:
            conversation.end()
