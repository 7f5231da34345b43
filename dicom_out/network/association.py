"""An association that Rales asks for: bounded from the connecting to the last thread's end.

pynetdicom (3.0.4) reads what a PDU's length promises into memory, waits anew for each byte, and
its thread that does so keeps a process alive that wants to stop.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from dicom_out.network.allowance import Allowance, Bounds
from dicom_out.network.destination import Destination
from dicom_out.network.gate import Gate
from dicom_out.network.outcome import Outcome, OutcomeKind, failed

_LOG = logging.getLogger(__name__)

MAXIMUM_PDU = 131072
"""Bytes of a P-DATA-TF that are negotiated, and that any PDU may have behind its first six. An
A-ASSOCIATE-AC with 128 presentation contexts has 5,000."""
_PARK_SECONDS = 0.1
_THREAD_SECONDS = 5.0
"""How long a thread of a line that was shut down may take to end: it does not wait for anybody."""


class Talk:
    """One conversation with a destination, and the connection under it.

    Attributes:
        association: What messages are sent on; None where there is none.
        why: The outcome of every request, where there is no association.
    """

    def __init__(self, destination: Destination, allowance: Allowance, bounds: Bounds) -> None:
        self.association: Association | None = None
        self.why = failed("")
        self._destination = destination
        self._allowance = allowance
        self._bounds = bounds
        self._begun: Any = None
        self._connected = False
        self._refusal: str | None = None

    def failed(self, message: str, *, reached: bool = True) -> Outcome:
        """Return a failure for now: what was met, or that and why the line was cut off."""
        if self._allowance.spent:
            message = f"{self._destination.place} was cut off: {self._allowance.spent}"
        return failed(message, reached=reached)

    def answer_seconds(self, content: int) -> float:
        """Return how long an answer is waited for, from when so many bytes begin to be sent."""
        return self._bounds.silence_seconds + content / self._bounds.slowest

    def begin(
        self,
        ae: AE,
        handlers: Sequence[tuple[Any, Any]],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation],
    ) -> None:
        """Ask for the association."""
        there = self._destination
        try:
            association = ae.associate(
                there.host,
                there.port,
                ae_title=there.ae_title,
                max_pdu=MAXIMUM_PDU,
                ext_neg=list(roles),
                tls_args=self._tls_arguments(),
                evt_handlers=[
                    (evt.EVT_ACSE_SENT, self._watch),
                    (evt.EVT_CONN_OPEN, self._prepare),
                    *handlers,
                ],
            )
        except Exception as error:  # noqa: BLE001 - pynetdicom on a hostile answer raises anything
            said = str(error) or type(error).__name__
            self.why = self.failed(f"no association: {said}", reached=False)
            return
        if association.is_established:
            self.association = association
        else:
            self.why = self._why_not(association)

    def end(self) -> None:
        """Release the association if it stands; hang up, and see its threads end."""
        if self.association is not None and park_reactor(self.association):
            self.association.release()
        self._allowance.hang_up()
        begun = self._begun
        if begun is None:
            return
        begun._kill = True  # noqa: SLF001 - Association.kill() may wait for ever
        begun.dul.kill_dul()
        begun._reactor_checkpoint.set()  # noqa: SLF001 - likewise
        for thread in (begun.dul, begun):
            if thread.ident is not None:
                thread.join(_THREAD_SECONDS)
        if begun.dul.socket is not None and begun.dul.socket.socket is not None:
            begun.dul.socket.socket.close()  # pynetdicom does not when the peer was quicker

    def _watch(self, event: evt.Event) -> None:
        """Bound the association before it is connected (EVT_ACSE_SENT, the request)."""
        if self._begun is not None:
            return
        association: Any = event.assoc
        self._begun = association
        association._reactor_checkpoint = Gate()  # noqa: SLF001 - see dicom_out.network.gate
        _protect(association)
        wrapped = association.dul.socket
        wrapped.recv = self._bounded(wrapped.recv)
        self._allowance.hold(wrapped.socket)

    def _prepare(self, event: evt.Event) -> None:
        """Prepare the socket as soon as it is connected (EVT_CONN_OPEN).

        TCP_NODELAY, and a time limit: pynetdicom has none once connected, so that a peer that
        stops reading in the middle of an object would hold its thread.
        """
        association: Any = event.assoc
        line: socket.socket = association.dul.socket.socket
        self._connected = True
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.settimeout(self._bounds.silence_seconds)

    def _bounded(self, receive: Callable[[int], bytearray]) -> Callable[[int], bytearray]:
        """Return ``receive``, which is asked for as many bytes as a PDU announces, with limits."""

        def bounded(size: int) -> bytearray:
            if size > MAXIMUM_PDU:
                what = f"a PDU announces {size} bytes, of which {MAXIMUM_PDU} are taken"
                raise self._allowance.refuse(what)
            self._allowance.take(size)
            return receive(size)

        return bounded

    def _tls_arguments(self) -> tuple[ssl.SSLContext, str] | None:
        """Return what :meth:`pynetdicom.AE.associate` takes as ``tls_args``."""
        if self._destination.tls is None:
            return None
        talk = self

        class Noting(ssl.SSLSocket):
            """Remembers why a handshake failed; pynetdicom only logs that."""

            def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - its base
                try:
                    super().do_handshake(block)
                except OSError as error:
                    talk._refusal = str(error)
                    raise

            def connect(self, address: Any) -> None:
                try:
                    super().connect(address)
                except OSError:
                    self.close()  # pynetdicom would leave it to the garbage collector
                    raise

        context = self._destination.tls()
        context.sslsocket_class = Noting
        return context, self._destination.host

    def _why_not(self, association: Any) -> Outcome:
        where = self._destination.place
        if association.is_rejected:
            answer = association.acceptor.primitive
            permanent = answer.result == 0x01
            return Outcome(
                kind=OutcomeKind.NOT_ACCEPTED if permanent else OutcomeKind.FAILED,
                status=None,
                message=f"{where} rejected the association: {answer.reason_str}",
                reached=False,
            )
        if association.rejected_contexts:
            kinds = ", ".join(one.abstract_syntax.name for one in association.rejected_contexts)
            message = f"{where} does not accept {kinds}"
            return Outcome(kind=OutcomeKind.NOT_ACCEPTED, status=None, message=message)
        if self._refusal is not None:
            message = f"{where}: the TLS handshake failed: {self._refusal}"
        elif not self._connected:
            message = f"{where} cannot be reached"
        else:
            message = f"{where} aborted the association or does not answer"
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
) -> Iterator[Talk]:
    """Yield a conversation, with an association or the reason why there is none.

    ``handlers`` are bound to its events beside our own; ``roles`` are proposed.
    """
    ae = AE(ae_title=calling_ae)
    ae.requested_contexts = contexts
    ae.maximum_pdu_size = MAXIMUM_PDU
    ae.connection_timeout = bounds.connect_seconds
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = bounds.silence_seconds
    with Allowance(bounds) as allowance:
        talk = Talk(destination, allowance, bounds)
        try:
            talk.begin(ae, handlers, roles)
            yield talk
        finally:
            talk.end()


def _protect(association: Any) -> None:
    """Have what its state machine stumbles over end an association, not half of its threads."""
    machine, run = association.dul.state_machine, association._run_reactor  # noqa: SLF001
    act = machine.do_action

    def give_up(error: Exception) -> None:
        _LOG.debug("an association ends by what pynetdicom raised", exc_info=error)
        association.is_aborted, association.is_established = True, False
        association.dul.kill_dul()
        association.dul.to_user_queue.put(None)
        association.dimse.msg_queue.put((None, None))

    def do_action(event: str) -> None:
        try:
            act(event)
        except Exception as error:  # noqa: BLE001 - it stumbles over anything that is out of turn
            give_up(error)

    def run_reactor() -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001 - likewise
            give_up(error)

    machine.do_action = do_action
    association._run_reactor = run_reactor  # noqa: SLF001


def park_reactor(association: Any) -> bool:
    """Park the reactor before a request; tell whether the association still stands.

    See :mod:`dicom_out.network.gate`. A reactor that is busy for long (a starved machine) is waited
    for: to send before it is parked may lose the response.
    """
    gate: Gate = association._reactor_checkpoint  # noqa: SLF001 - the race is in there
    while association.is_established and association.is_alive():
        if gate.close_and_wait(_PARK_SECONDS):
            return True
    return False
