"""The storage SCU: one outcome per object, whatever the destination does."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from chestct.results import ResultObject
from dicom_out.gate import Gate

_LOG = logging.getLogger(__name__)

_VERIFICATION = UID("1.2.840.10008.1.1")
_MAXIMUM_PDU = 131072
_ADDRESS = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>\[[^\]]+\]|[^:@]+):(?P<port>[0-9]{1,5})\Z")
_LAST_PORT = 65535
_TITLE_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An Application Entity and where it listens.

    Raises:
        ValueError: The AE title, host or port cannot be.
    """

    name: str
    ae_title: str
    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.ae_title.strip() or len(self.ae_title) > _TITLE_LENGTH:
            raise ValueError("an AE title has 1 to 16 characters")
        if not self.host or not 0 < self.port <= _LAST_PORT:
            raise ValueError(f"{self.host}:{self.port} is no address")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one object; ``status`` is the DIMSE status, if one came."""

    kind: OutcomeKind
    status: int | None
    message: str


def outcome_of(status: int, comment: str = "") -> Outcome:
    """Classify the status of a C-STORE response (PS3.4 table B.2-1).

    Success and warnings (0x0001, 0xBxxx) mean that it is stored. Out of resources (0xA7xx)
    and processing failures (0x0110) may pass; everything else is final.
    """
    said = f"status 0x{status:04X}" + (f" ({comment})" if comment else "")
    if status == 0x0000 or status == 0x0001 or 0xB000 <= status <= 0xBFFF:  # noqa: PLR1714, PLR2004 - PS3.7 annex C
        return Outcome(kind=OutcomeKind.DELIVERED, status=status, message=f"stored, {said}")
    if 0xA700 <= status <= 0xA7FF or status == 0x0110:  # noqa: PLR2004 - PS3.4 B.2.3
        return Outcome(kind=OutcomeKind.FAILED, status=status, message=f"not stored, {said}")
    return Outcome(kind=OutcomeKind.REFUSED, status=status, message=f"refused, {said}")


def send(
    objects: Sequence[ResultObject],
    destination: Destination,
    *,
    calling_ae: str,
    timeout_seconds: float,
) -> tuple[Outcome, ...]:
    """Send ``objects`` in one association; return one outcome each, in order.

    Never raises for what the destination or the network does. Only the presentation
    contexts that the objects need are proposed.
    """
    classes = list(dict.fromkeys(item.sop_class_uid for item in objects))
    syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    contexts = [build_context(UID(uid), syntaxes) for uid in classes]
    with _associated(destination, contexts, calling_ae, timeout_seconds) as (association, why):
        if association is None:
            return (why,) * len(objects)
        return tuple(_store(association, item) for item in objects)


def echo(destination: Destination, *, calling_ae: str, timeout_seconds: float = 10.0) -> Outcome:
    """Send a C-ECHO."""
    contexts = [build_context(_VERIFICATION, [ImplicitVRLittleEndian])]
    with _associated(destination, contexts, calling_ae, timeout_seconds) as (association, why):
        if association is None:
            return why
        _close_gate(association)
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


def _failed(message: str) -> Outcome:
    return Outcome(kind=OutcomeKind.FAILED, status=None, message=message)


def _store(association: Association, item: ResultObject) -> Outcome:
    if not association.is_established:
        return _failed("the association ended before this object")
    if not _accepts(association, item):
        return Outcome(
            kind=OutcomeKind.REFUSED,
            status=None,
            message=f"{UID(item.sop_class_uid).name} is not accepted there",
        )
    _close_gate(association)
    try:
        response = association.send_c_store(item.path)
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        return _failed(f"could not be sent: {error}")
    if "Status" not in response:
        return _failed("no answer to C-STORE: connection lost or timed out")
    return outcome_of(int(response.Status), str(response.get("ErrorComment", "")))


def _accepts(association: Association, item: ResultObject) -> bool:
    return any(
        str(context.abstract_syntax) == str(item.sop_class_uid)
        for context in association.accepted_contexts
    )


def _close_gate(association: Any) -> None:
    """Park the reactor before a request; see :mod:`dicom_out.gate`."""
    gate = association._reactor_checkpoint  # noqa: SLF001 - the race is in there
    gate.close_and_wait(1.0)


@contextmanager
def _associated(
    destination: Destination,
    contexts: list[PresentationContext],
    calling_ae: str,
    timeout_seconds: float,
) -> Iterator[tuple[Association | None, Outcome]]:
    """Yield an association, or None and the outcome that says why there is none."""
    ae = AE(ae_title=calling_ae)
    ae.requested_contexts = contexts
    ae.maximum_pdu_size = _MAXIMUM_PDU
    ae.connection_timeout = min(timeout_seconds, 10.0)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_seconds
    try:
        association = ae.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            max_pdu=_MAXIMUM_PDU,
            evt_handlers=[(evt.EVT_CONN_OPEN, _prepare)],
        )
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        yield None, _failed(f"no association: {error}")
        return
    if not association.is_established:
        yield None, _why_not(association, destination)
        return
    try:
        yield association, _failed("")
    finally:
        if association.is_established:
            association.release()


def _prepare(event: Event) -> None:
    """Give the association its gate, and its socket TCP_NODELAY (EVT_CONN_OPEN)."""
    association: Any = event.assoc
    association._reactor_checkpoint = Gate()  # noqa: SLF001 - see dicom_out.gate
    wrapped = association.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not(association: Any, destination: Destination) -> Outcome:
    where = f"{destination.ae_title}@{destination.host}:{destination.port}"
    if association.is_rejected:
        answer = association.acceptor.primitive
        permanent = answer.result == 0x01
        return Outcome(
            kind=OutcomeKind.REFUSED if permanent else OutcomeKind.FAILED,
            status=None,
            message=f"{where} rejected the association: {answer.reason_str}",
        )
    if association.is_aborted:
        return _failed(f"{where} aborted the association or does not answer")
    return _failed(f"{where} cannot be reached")
