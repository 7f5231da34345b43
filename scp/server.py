"""Runs the Application Entity that listens: verification and storage SCP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from socketserver import BaseServer
from types import TracebackType
from typing import Any, Self

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from chestct.ae_title import shown_ae_title
from pynetdicom_guard.arrivals import Arrivals
from pynetdicom_guard.budget import Budget
from pynetdicom_guard.data_path import take_stores
from pynetdicom_guard.limits import (
    CountingEntity,
    has_no_association,
    idle_connections,
    on_connection_close,
    on_connection_open,
    on_message,
)
from pynetdicom_guard.listener import TlsContext, listen
from pynetdicom_guard.sockets import Limits, hang_up, seconds_since_read
from scp.admission import Admission, on_requested
from scp.contexts import STORAGE_SOP_CLASSES, commitment_context, supported_contexts
from scp.handlers import Handlers
from scp.ports import AuditSink, Intake, Peer, RefusalCounter, Refused
from scp.spool import Spool
from scp.traffic import Traffic

_LOG = logging.getLogger(__name__)

ACSE_SECONDS = 10.0
"""How long a connection may take to request an association; then it is closed."""
_DRAIN_SECONDS = 12.0
"""How long a sender may go on sending when the node stops."""
_IDLE_SECONDS = 1.0
"""An association that is silent for this long is aborted when the node stops."""
_POLL_SECONDS = 0.05
_CLOSE_SECONDS = 1.0
"""How long a peer may take to close the connection after an A-ABORT."""
_REJECTED_PERMANENT = 0x01
"""Result of an A-ASSOCIATE-RJ (PS3.8 table 9-21): because of the peer, not of the load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScpSettings:
    """The settings of the receiver.

    Attributes:
        admission: The peers that may send.
        maximum_instance: Bytes that the data set of one C-STORE may have.
        maximum_arriving: Bytes that all arriving data sets together may have on disk.
        network_timeout: Seconds without traffic after which an association is aborted, and the
            time that one PDU may take.
        port: 0 chooses a free port.
    """

    ae_title: str
    host: str
    port: int
    admission: Admission = field(default_factory=Admission)
    maximum_pdu_size: int = 131072
    maximum_associations: int = 128
    maximum_instance: int = 1 << 30
    maximum_arriving: int = 1 << 32
    network_timeout: float = 60.0


class RunningScp:
    """A receiver that listens; a context manager that stops it."""

    def __init__(self, ae: CountingEntity, server: Any) -> None:
        self._ae = ae
        self._server = server
        self._stopped = False

    @property
    def port(self) -> int:
        """The port that the receiver is bound to."""
        return int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        """Accept no new association, let senders finish for a while, and abort idle ones."""
        if self._stopped:
            return
        self._stopped = True
        BaseServer.shutdown(self._server)
        self._server.server_close()
        for idle in idle_connections(self._server):
            hang_up(idle)
        deadline = time.monotonic() + _DRAIN_SECONDS
        aborted: dict[Association, float] = {}
        while still_open := self._server.active_associations:
            now = time.monotonic()
            for association in still_open:
                if has_no_association(association):
                    hang_up(association)
                elif association in aborted:
                    if now - aborted[association] > _CLOSE_SECONDS:
                        hang_up(association)
                elif now > deadline or seconds_since_read(association) > _IDLE_SECONDS:
                    association.abort(block=False)
                    aborted[association] = now
            if now > deadline + 2 * _CLOSE_SECONDS:
                _LOG.warning("%d associations did not end in time", len(still_open))
                return
            time.sleep(_POLL_SECONDS)
        self._ae.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def start(
    settings: ScpSettings,
    *,
    spool: Spool,
    intake: Intake,
    clock: Callable[[], datetime],
    on_commitment_report: Callable[[Event], tuple[int, None]] | None = None,
    audit: AuditSink | None = None,
    refusals: RefusalCounter | None = None,
    traffic: Traffic | None = None,
    tls: TlsContext | None = None,
) -> RunningScp:
    """Listen in threads of its own and return at once.

    With ``on_commitment_report``, the handler of EVT_N_EVENT_REPORT, a PACS may request
    associations to report storage commitments. With ``tls``, only TLS is accepted. A wrong called
    and an unknown calling AE title are rejected (A-ASSOCIATE-RJ, PS3.8 section 9.3.4).

    Raises:
        OSError: The port cannot be bound.
    """
    ae = _entity(settings)
    arrivals = _arrivals(settings, spool)
    bound = _guard_handlers(settings, arrivals)
    if on_commitment_report is not None:
        ae.supported_contexts = [*ae.supported_contexts, commitment_context()]
        bound.append((evt.EVT_N_EVENT_REPORT, on_commitment_report))
    handlers = Handlers(
        spool=spool,
        intake=intake,
        clock=clock,
        audit=audit,
        refusals=refusals,
        traffic=traffic,
    )
    bound += _service_handlers(handlers)
    bound.append((evt.EVT_ESTABLISHED, _on_established, [arrivals, handlers]))
    bound.append((evt.EVT_REJECTED, _on_rejected, [audit, refusals]))
    return RunningScp(ae, listen(ae, (settings.host, settings.port), tls=tls, handlers=bound))


def _entity(settings: ScpSettings) -> CountingEntity:
    ae = CountingEntity(ae_title=settings.ae_title)
    ae.supported_contexts = supported_contexts()
    ae.require_called_aet = True
    ae.maximum_pdu_size = settings.maximum_pdu_size
    ae.maximum_associations = settings.maximum_associations
    ae.acse_timeout = ACSE_SECONDS
    ae.dimse_timeout = settings.network_timeout
    ae.network_timeout = settings.network_timeout
    return ae


def _arrivals(settings: ScpSettings, spool: Spool) -> Arrivals:
    return Arrivals(
        limit=settings.maximum_instance, budget=Budget(settings.maximum_arriving), scratch=spool
    )


def _guard_handlers(settings: ScpSettings, arrivals: Arrivals) -> list[Any]:
    """Return the handlers that limit connections; pynetdicom calls them in this order."""
    limits = Limits(
        maximum_pdu=settings.maximum_pdu_size,
        request_seconds=ACSE_SECONDS,
        pdu_seconds=settings.network_timeout,
    )
    return [
        (evt.EVT_CONN_OPEN, on_connection_open, [limits]),
        (evt.EVT_CONN_CLOSE, on_connection_close),
        (evt.EVT_REQUESTED, on_requested, [settings.admission]),
        (evt.EVT_CONN_CLOSE, arrivals.on_connection_close),
        (evt.EVT_PDU_RECV, arrivals.on_pdu),
        (evt.EVT_DIMSE_RECV, on_message),
    ]


def _service_handlers(handlers: Handlers) -> list[Any]:
    return [
        (evt.EVT_C_ECHO, handlers.on_echo),
        (evt.EVT_C_STORE, handlers.on_store),
        (evt.EVT_ESTABLISHED, handlers.on_established),
        (evt.EVT_ACSE_RECV, handlers.on_acse),
        (evt.EVT_PDU_RECV, handlers.on_pdu),
        (evt.EVT_ABORTED, handlers.on_aborted),
        (evt.EVT_CONN_CLOSE, handlers.on_aborted),
    ]


def _on_established(event: Event, arrivals: Arrivals, handlers: Handlers) -> None:
    """Take the C-STOREs of an association past pynetdicom (EVT_ESTABLISHED)."""
    take_stores(event.assoc, classes=STORAGE_SOP_CLASSES, arrivals=arrivals, store=handlers.store)


def _on_rejected(event: Event, audit: AuditSink | None, refusals: RefusalCounter | None) -> None:
    """Log, count and audit a rejected association (EVT_REJECTED)."""
    association = event.assoc
    request: Any = association.requestor.primitive
    answer: Any = association.acceptor.primitive
    reason = answer.reason_str if answer is not None else "rejected"
    called, calling = (
        shown_ae_title(title) for title in (request.called_ae_title, request.calling_ae_title)
    )
    _LOG.warning(
        "%s@%s asking for %s was rejected: %s",
        calling,
        association.requestor.address,
        called,
        reason,
    )
    peer = Peer(ae_title=calling, address=str(association.requestor.address))
    if refusals is not None:
        refusals.refused(peer, Refused.ASSOCIATION, f"asking for {called}: {reason}")
    if audit is not None and answer is not None and answer.result == _REJECTED_PERMANENT:
        audit.rejected(peer, f"{calling} asking for {called} was rejected: {reason}")
