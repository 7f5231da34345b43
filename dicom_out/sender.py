"""The storage SCU: one outcome per object, whatever the destination does."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event as ConnectionEvent
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from chestct.errors import RalesError, ResultDamaged
from chestct.results import Extra, ResultObject, SegKind
from chestct.text import printable
from dicom_out.encodings import data_set_of, in_syntax
from dicom_out.gate import Gate
from dicom_out.transfer import compressed_syntaxes
from dicom_out.written import read_whole

_LOG = logging.getLogger(__name__)

_VERIFICATION = UID("1.2.840.10008.1.1")
MAXIMUM_PDU = 131072
_ADDRESS = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>\[[^\]]+\]|[^:@]+):(?P<port>[0-9]{1,5})\Z")
_LAST_PORT = 65535
_PARK_SECONDS = 0.1
_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_LOW = 2
"""Priority of a C-STORE (PS3.7 section 9.3.1.1)."""
_TITLE_LENGTH = 16
_LONGEST = 500
"""Characters of a message; it may quote the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An Application Entity and where it listens.

    With ``commitment``, an object counts as delivered when it has committed to keep it. With
    ``compress``, what gets small by it is sent compressed, if it accepts that. It gets the SEG
    of the kind ``segmentation`` and all ``extras``; when it refuses the SEG, the ``fallback``.
    ``tls`` returns the context for a connection over TLS; none: without.

    Raises:
        ValueError: The AE title, host or port cannot be.
    """

    name: str
    ae_title: str
    host: str
    port: int
    commitment: bool = False
    tls: Callable[[], ssl.SSLContext] | None = None
    segmentation: SegKind = SegKind.BINARY
    compress: bool = False
    extras: tuple[Extra, ...] = ()
    fallback: tuple[Extra, ...] = ()

    def __post_init__(self) -> None:
        if not self.ae_title.strip() or len(self.ae_title) > _TITLE_LENGTH:
            raise ValueError("an AE title has 1 to 16 characters")
        if not self.host or not 0 < self.port <= _LAST_PORT:
            raise ValueError(f"{self.host}:{self.port} is no address")

    @property
    def title(self) -> str:
        """Who it is, in an audit trail."""
        return self.ae_title

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Parse ``AE@host:port``; an IPv6 host stands in brackets.

        Raises:
            ValueError: ``text`` is no such address.
        """
        match = _ADDRESS.match(text)
        if match is None:
            raise ValueError(f"{text!r} is no address of the form AE@host:port")
        host = match["host"].strip("[]")
        return cls(name=text, ae_title=match["title"], host=host, port=int(match["port"]))


class OutcomeKind(StrEnum):
    """What became of a request."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """For good: the same object will not be taken."""
    FAILED = "failed"
    """For now: the same request may succeed later."""
    NOT_ACCEPTED = "not accepted"
    """A state of the destination, whatever the object: its settings may change."""
    DAMAGED = "damaged"
    """Nothing was sent: our own file is gone, or not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one object; ``status`` is the DIMSE status, if one came.

    Attributes:
        message: Printable, whatever it quotes of the other side.
        reached: Whether there was an association; where not, no other object fares better.
        present: It says that it has an object of this UID: to one that was sent before and
            whose answer was lost, a delivery.
    """

    kind: OutcomeKind
    status: int | None
    message: str
    reached: bool = True
    present: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message, _LONGEST))


_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_OLD_NOT_SUPPORTED = range(0xA800, 0xA900)
"""What 0x0122 was in DICOM of 1993."""
_DUPLICATE = 0x0111
_PASSING = frozenset({0x0110, 0x0210, 0x0212, 0x0213, 0xFE00})
"""Processing failure, duplicate invocation, mistyped argument, resource limitation, cancelled."""
_OF_THE_DESTINATION = frozenset({0x0122, 0x0124, 0x0211})
"""SOP class not supported, not authorised, unrecognised operation (PS3.7 annex C)."""


def outcome_of(status: int) -> Outcome:
    """Classify the status of a C-STORE response (PS3.4 table B.2-1, PS3.7 annex C).

    Success and warnings (0x0001, 0xBxxx) mean that it is stored. What says nothing of the
    object may pass: out of resources (0xA7xx, 0x0213), a failure in processing (0x0110), and
    what the destination does not take or allow at present. Everything else is a verdict on
    the object, and final.
    """
    said = f"status 0x{status:04X}"
    if status == 0x0000 or status == 0x0001 or 0xB000 <= status <= 0xBFFF:  # noqa: PLR1714, PLR2004 - PS3.7 annex C
        return Outcome(kind=OutcomeKind.DELIVERED, status=status, message=f"stored, {said}")
    if status in _OUT_OF_RESOURCES or status in _PASSING:
        return Outcome(kind=OutcomeKind.FAILED, status=status, message=f"not stored, {said}")
    if status in _OF_THE_DESTINATION or status in _OLD_NOT_SUPPORTED:
        message = f"not accepted there at present, {said}"
        return Outcome(kind=OutcomeKind.NOT_ACCEPTED, status=status, message=message)
    if status == _DUPLICATE:
        message = f"it has an object of this UID already, {said}"
        return Outcome(kind=OutcomeKind.REFUSED, status=status, message=message, present=True)
    return Outcome(kind=OutcomeKind.REFUSED, status=status, message=f"refused, {said}")


def send(
    objects: Sequence[ResultObject],
    destination: Destination,
    *,
    calling_ae: str,
    timeout_seconds: float,
) -> tuple[Outcome, ...]:
    """Send ``objects`` in one association; return one outcome each, in order."""
    return tuple(
        send_each(objects, destination, calling_ae=calling_ae, timeout_seconds=timeout_seconds)
    )


def send_each(
    objects: Sequence[ResultObject],
    destination: Destination,
    *,
    calling_ae: str,
    timeout_seconds: float,
) -> Iterator[Outcome]:
    """Send ``objects`` in one association; yield the outcome of each, in order, once it is known.

    Never raises for what the destination or the network does. Only the presentation
    contexts that the objects need are proposed.
    """
    classes = list(dict.fromkeys(item.sop_class_uid for item in objects))
    contexts = storage_contexts(classes)
    if destination.compress:
        contexts += compressed_contexts(classes)
    with associated(destination, contexts, calling_ae, timeout_seconds) as (association, why):
        if association is None:
            yield from (why for _ in objects)
        else:
            yield from _store_all(association, objects)


def storage_contexts(classes: Sequence[str]) -> list[PresentationContext]:
    """Return what is proposed for objects of these SOP classes, one context each."""
    syntaxes: list[str | UID] = list(_PLAIN)
    return [build_context(UID(uid), syntaxes) for uid in classes]


def compressed_contexts(classes: Sequence[str]) -> list[PresentationContext]:
    """Return what is proposed beside those where compression is wanted, one context a syntax."""
    return [
        build_context(UID(uid), syntax) for uid in classes for syntax in compressed_syntaxes(uid)
    ]


def echo_context() -> PresentationContext:
    """Return what is proposed for a C-ECHO."""
    return build_context(_VERIFICATION, [ImplicitVRLittleEndian])


def echo(destination: Destination, *, calling_ae: str, timeout_seconds: float = 10.0) -> Outcome:
    """Send a C-ECHO."""
    contexts = [echo_context()]
    with associated(destination, contexts, calling_ae, timeout_seconds) as (association, why):
        if association is None:
            return why
        park_reactor(association)
        try:
            response = association.send_c_echo()
        except (RuntimeError, ValueError) as error:
            return _failed(f"no answer to C-ECHO: {error}")
        if "Status" not in response:
            return _failed("no answer to C-ECHO")
        status = int(response.Status)
        if status:
            return Outcome(
                kind=OutcomeKind.REFUSED, status=status, message=f"C-ECHO status 0x{status:04X}"
            )
        return Outcome(kind=OutcomeKind.DELIVERED, status=0, message="answers C-ECHO")


def _failed(message: str, *, reached: bool = True) -> Outcome:
    return Outcome(kind=OutcomeKind.FAILED, status=None, message=message, reached=reached)


_NO_ANSWER = _failed("no answer to C-STORE: connection lost or timed out")


def _store_all(association: Association, objects: Sequence[ResultObject]) -> Iterator[Outcome]:
    """Yield the outcome of each object; after one without an answer nothing more is sent.

    pynetdicom takes a moment to see that the connection is gone, and would wait for the
    next answer in vain.
    """
    answered = True
    for item in objects:
        if answered and park_reactor(association):
            outcome = _store(association, item)
            answered = outcome is not _NO_ANSWER
            yield outcome
        else:
            yield _failed("the association ended before this object")


def _store(association: Association, item: ResultObject) -> Outcome:
    context = _context_for(association, item)
    if context is None:
        return Outcome(
            kind=OutcomeKind.NOT_ACCEPTED,
            status=None,
            message=f"{UID(item.sop_class_uid).name} is not accepted there",
        )
    try:
        data_set = data_set_of(read_whole(item))
        content = in_syntax(data_set, UID(context.transfer_syntax[0]))
        response = _send(association, item, context, content)
    except ResultDamaged as error:
        return Outcome(kind=OutcomeKind.DAMAGED, status=None, message=str(error))
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        return _failed(f"could not be sent: {error}")
    if "Status" not in response:
        return _NO_ANSWER
    status = int(response.Status)
    if comment := response.get("ErrorComment"):
        # It may name the patient, so it is no part of what is logged, recorded and shown.
        _LOG.debug("the destination answers 0x%04X with the comment %r", status, str(comment))
    return outcome_of(status)


def _send(
    association: Any, item: ResultObject, context: PresentationContext, content: bytes
) -> Dataset:
    """Send an encoded data set as it is; return the response, empty where none came.

    pynetdicom's own ``send_c_store`` would decode and encode it once more.
    """
    request = C_STORE()
    request.MessageID = 1
    request.Priority = _LOW
    request.AffectedSOPClassUID = UID(item.sop_class_uid)
    request.AffectedSOPInstanceUID = UID(item.sop_instance_uid)
    request.DataSet = BytesIO(content)
    gate: Gate = association._reactor_checkpoint  # noqa: SLF001 - as send_c_store does
    try:
        association.dimse.send_msg(request, context.context_id)
        _, response = association.dimse.get_msg(block=True)
    finally:
        gate.set()
    if response is None:
        association._handle_no_response()  # noqa: SLF001 - likewise
        return Dataset()
    answer: Dataset = association._check_received_status(response)  # noqa: SLF001 - likewise
    return answer


def _context_for(association: Association, item: ResultObject) -> PresentationContext | None:
    """Return the best accepted context for an object; None where there is none.

    Compressed forms stand in contexts of their own, so that their acceptance is seen: a peer
    chooses one transfer syntax of each context as it likes.
    """
    accepted = {
        str(context.transfer_syntax[0]): context
        for context in association.accepted_contexts
        if str(context.abstract_syntax) == str(item.sop_class_uid) and context.as_scu
    }
    order = (*compressed_syntaxes(item.sop_class_uid), *_PLAIN)
    return next((accepted[syntax] for syntax in order if syntax in accepted), None)


def park_reactor(association: Any) -> bool:
    """Park the reactor before a request; tell whether the association still stands.

    See :mod:`dicom_out.gate`. A reactor that is busy for long (a starved machine) is waited
    for: to send before it is parked may lose the response.
    """
    gate: Gate = association._reactor_checkpoint  # noqa: SLF001 - the race is in there
    while association.is_established and association.is_alive():
        if gate.close_and_wait(_PARK_SECONDS):
            return True
    return False


@contextmanager
def associated(
    destination: Destination,
    contexts: list[PresentationContext],
    calling_ae: str,
    timeout_seconds: float,
    *,
    handlers: Sequence[tuple[Any, Any]] = (),
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[tuple[Association | None, Outcome]]:
    """Yield an association, or None and the outcome that says why there is none.

    ``handlers`` are bound to its events beside our own; ``roles`` are proposed.
    """
    ae = AE(ae_title=calling_ae)
    ae.requested_contexts = contexts
    ae.maximum_pdu_size = MAXIMUM_PDU
    ae.connection_timeout = min(timeout_seconds, 10.0)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_seconds
    line = _Line(timeout_seconds)
    try:
        association = ae.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            max_pdu=MAXIMUM_PDU,
            ext_neg=list(roles),
            tls_args=line.tls_arguments(destination),
            evt_handlers=[(evt.EVT_CONN_OPEN, line.prepare), *handlers],
        )
    except (OSError, RuntimeError, ValueError, TypeError, RalesError) as error:
        yield None, _failed(f"no association: {error}", reached=False)
        return
    try:
        if association.is_established:
            yield association, _failed("")
        else:
            yield None, _why_not(association, destination, line)
    finally:
        if association.is_established:
            association.release()
        line.close()


class _Line:
    """The connection under an association.

    Attributes:
        connected: Whether there ever was one.
        refusal: Why its TLS handshake failed; pynetdicom only logs that.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self.refusal: str | None = None

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def tls_arguments(self, destination: Destination) -> tuple[ssl.SSLContext, str] | None:
        """Return what :meth:`pynetdicom.AE.associate` takes as ``tls_args``."""
        if destination.tls is None:
            return None
        line = self

        class Noting(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - its base
                try:
                    super().do_handshake(block)
                except OSError as error:
                    line.refusal = str(error)
                    raise

            def connect(self, address: Any) -> None:
                try:
                    super().connect(address)
                except OSError:
                    self.close()  # pynetdicom would leave it to the garbage collector
                    raise

        context = destination.tls()
        context.sslsocket_class = Noting
        return context, destination.host

    def prepare(self, event: ConnectionEvent) -> None:
        """Prepare the association and its socket as soon as it is connected (EVT_CONN_OPEN).

        The association gets its gate. The socket gets TCP_NODELAY, and a time limit: pynetdicom
        has none once connected, so that a peer that stops reading in the middle of an object
        would hold its thread, and with it the delivery, for ever.
        """
        association: Any = event.assoc
        association._reactor_checkpoint = Gate()  # noqa: SLF001 - see dicom_out.gate
        wrapped = association.dul.socket
        if wrapped is not None and wrapped.socket is not None:
            self._socket = wrapped.socket
            wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wrapped.socket.settimeout(self._timeout_seconds)

    def close(self) -> None:
        """Close the socket; pynetdicom does not when the peer was quicker."""
        if self._socket is not None:
            self._socket.close()


def _why_not(association: Any, destination: Destination, line: _Line) -> Outcome:
    where = destination.place
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
        kinds = ", ".join(context.abstract_syntax.name for context in association.rejected_contexts)
        return Outcome(
            kind=OutcomeKind.NOT_ACCEPTED, status=None, message=f"{where} does not accept {kinds}"
        )
    if line.refusal is not None:
        return _failed(f"{where}: the TLS handshake failed: {line.refusal}", reached=False)
    if not line.connected:
        return _failed(f"{where} cannot be reached", reached=False)
    return _failed(f"{where} aborted the association or does not answer", reached=False)
