"""Handles the events of associations: stores each C-STORE, reports the end of each association."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from io import BytesIO
from threading import BoundedSemaphore, Lock
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.events import Event
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_RELEASE

from chestct.errors import NotDicom, RalesError, SopClassNotSupported
from chestct.series import ReceivedInstance
from chestct.text import printable
from chestct.uids import Uid
from pynetdicom_guard.arrivals import content_of, release
from pynetdicom_guard.budget import Content
from pynetdicom_guard.limits import PLACEHOLDER_UID
from pynetdicom_guard.store_messages import StoreRequest
from scp import headers
from scp.contexts import STORAGE_SOP_CLASSES, refused_classes
from scp.digests import ValueDigests
from scp.file_meta import file_start
from scp.peers import calling_ae, peer_of, shown_peer
from scp.ports import (
    AssociationEnd,
    AuditSink,
    Intake,
    Recorded,
    RefusalCounter,
    Refused,
    Transfer,
)
from scp.spool import Spool
from scp.status import StoreStatus, answer
from scp.stored import instance_of
from scp.tally import Tally, cause, level
from scp.traffic import Traffic

_LOG = logging.getLogger(__name__)

_READERS = 2
"""Data sets that are parsed at the same time; the memory for each is limited."""
_SERVICE_USER = 0x00
"""Source of an A-ABORT that the application of the peer sends (PS3.8 table 9-26)."""


class Handlers:
    """The handlers of the receiver; called from the threads of the associations."""

    def __init__(
        self,
        *,
        spool: Spool,
        intake: Intake,
        clock: Callable[[], datetime],
        audit: AuditSink | None = None,
        refusals: RefusalCounter | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self._refusals = refusals
        self._spool = spool
        self._intake = intake
        self._clock = clock
        self._audit = audit
        self._traffic = traffic or Traffic()
        self._tallies: dict[Association, Tally] = {}
        self._lock = Lock()
        self._reading = BoundedSemaphore(_READERS)
        self._digests = ValueDigests(_READERS)

    def on_established(self, event: Event) -> None:
        """Begin to count an association; log the classes that are refused (EVT_ESTABLISHED)."""
        with self._lock:
            self._tallies[event.assoc] = Tally()
        accepted = event.assoc.accepted_contexts
        refused = refused_classes(accepted, event.assoc.rejected_contexts)
        if refused:
            level = logging.INFO if accepted else logging.WARNING
            _LOG.log(
                level,
                "%s offers contexts that are not accepted: %s",
                shown_peer(event.assoc),
                refused,
            )
            if not accepted:
                reason = f"offers only contexts that are not accepted: {refused}"
                self._count(event.assoc, Refused.ASSOCIATION, reason)

    def on_echo(self, event: Event) -> int:
        """Answer a C-ECHO.

        pynetdicom also calls this for a C-STORE of the Verification SOP Class, which must not be
        answered with success.
        """
        if isinstance(event.request, C_ECHO):
            return int(StoreStatus.SUCCESS)
        _LOG.warning("%s refused: the Verification class has only C-ECHO", shown_peer(event.assoc))
        return int(StoreStatus.SOP_CLASS_NOT_SUPPORTED)

    def on_store(self, event: Event) -> int | Dataset:
        """Answer a C-STORE that pynetdicom received (EVT_C_STORE)."""
        request: Any = event.request
        wanted = StoreRequest(
            sop_class_uid=str(getattr(request, "AffectedSOPClassUID", None)),
            sop_instance_uid=str(getattr(request, "AffectedSOPInstanceUID", None)),
            transfer_syntax=event.context.transfer_syntax,
        )
        if isinstance(request, C_STORE):
            return self.store(event.assoc, wanted, request.DataSet)
        # pynetdicom calls this for every request of a storage class, an N-CREATE too.
        error = SopClassNotSupported("a storage class has only C-STORE")
        return self._refuse(event.assoc, wanted, error)

    def store(
        self, association: Association, request: StoreRequest, data_set: BytesIO | None
    ) -> int | Dataset:
        """Answer a C-STORE: 0x0000 only when the file is durable and accepted for recording."""
        # An association that was cut off has no tally any more; its last requests are still stored.
        tally = self._tallies.get(association) or Tally()
        try:
            instance = self._receive(association, request, data_set, tally)
        except Exception as error:  # noqa: BLE001 - no exception may leak into the protocol machine
            return self._refuse(association, request, error)
        finally:
            release(data_set)
        tally.stored += 1
        tally.size += instance.size
        return int(StoreStatus.SUCCESS)

    def _refuse(self, association: Association, request: StoreRequest, error: Exception) -> Dataset:
        """Log and count a refusal; return its status."""
        if tally := self._tallies.get(association):
            tally.refused += 1
        status = answer(error)
        reason = type(error).__name__
        if isinstance(error, RalesError):
            reason = str(error)
            _LOG.warning(
                "%s refused 0x%04X: %s (SOP Instance UID %s)",
                shown_peer(association),
                status.Status,
                reason,
                printable(request.sop_instance_uid, 64),
            )
        else:
            _LOG.error(
                "%s: unexpected error while storing", shown_peer(association), exc_info=error
            )
        self._count(association, Refused.IMAGE, f"0x{status.Status:04X} {reason}")
        return status

    def _count(self, association: Association, kind: Refused, reason: str) -> None:
        if self._refusals is not None:
            self._refusals.refused(peer_of(association), kind, reason)

    def _receive(
        self,
        association: Association,
        request: StoreRequest,
        data_set: BytesIO | None,
        tally: Tally,
    ) -> ReceivedInstance:
        syntax = request.transfer_syntax
        if request.sop_class_uid not in STORAGE_SOP_CLASSES:
            raise SopClassNotSupported(f"{UID(request.sop_class_uid).name} is not stored")
        if request.sop_instance_uid == PLACEHOLDER_UID:
            raise NotDicom("Affected SOP Instance UID is missing")
        content, digest = content_of(data_set)
        with self._reading:
            parsed = headers.read(content, syntax, scratch=self._spool)
        headers.check_identity(parsed.header, request.sop_class_uid, request.sop_instance_uid)
        self._count_instance(association, tally, parsed.header)
        instance, recorded = self._keep(association, parsed, content, digest)
        self._audit_stored(association, tally, instance, recorded)
        if recorded is Recorded.REPLACED:
            _LOG.warning(
                "%s sent other content for SOP Instance UID %s: both are kept, the new one is used",
                shown_peer(association),
                instance.sop_instance_uid,
            )
        return instance

    def _keep(
        self, association: Association, parsed: headers.Parsed, content: Content, digest: str
    ) -> tuple[ReceivedInstance, Recorded]:
        """Write the file of a data set and record it; nothing new stays if that fails."""
        received_at, sender = self._clock(), calling_ae(association)
        start = file_start(
            parsed.header,
            parsed.transfer_syntax,
            calling_ae=sender,
            called_ae=str(association.ae.ae_title),
        )
        with ExitStack() as stack:
            writing = self._spool.writing(
                parsed.header.series_uid, start, content, digest=digest, received_at=received_at
            )
            spooled, header = self._digests.during(lambda: stack.enter_context(writing), parsed)
            instance = instance_of(
                header,
                spooled,
                transfer_syntax=parsed.transfer_syntax,
                received_at=received_at,
                calling_ae=sender,
            )
            return instance, self._intake.record(instance)

    def _count_instance(
        self, association: Association, tally: Tally, header: headers.Header
    ) -> None:
        with self._lock:
            tally.series.add(header.series_uid)
            if header.study_uid not in tally.studies and association in self._tallies:
                self._traffic.began(header.study_uid)
            tally.studies[header.study_uid] += 1

    def _audit_stored(
        self, association: Association, tally: Tally, instance: ReceivedInstance, kind: Recorded
    ) -> None:
        if self._audit is None:
            return
        key = (instance.study_uid, instance.patient_key, kind)
        transfer = tally.transfers.get(key)
        if transfer is None:
            transfer = Transfer(study_uid=key[0], recorded=kind, sample=instance.path)
            tally.transfers[key] = transfer
        transfer.instances[instance.sop_class_uid] += 1
        if transfer.instances.total() == 1:
            self._audit.transfer_began(peer_of(association), transfer)

    def on_acse(self, event: Event) -> None:
        """Record the end of an association by a release request (EVT_ACSE_RECV).

        This event comes before the answer. EVT_RELEASED comes after it, and the peer may close the
        connection sooner, which would look like an abort.
        """
        primitive: object = event.primitive  # type: ignore[attr-defined]  # made at run time
        if isinstance(primitive, A_RELEASE):
            self._end(event.assoc, AssociationEnd.RELEASED)

    def on_pdu(self, event: Event) -> None:
        """Remember that the peer aborts an association (EVT_PDU_RECV)."""
        pdu: object = event.pdu
        tally = self._tallies.get(event.assoc)
        if tally is not None and isinstance(pdu, A_ABORT_RQ) and pdu.source == _SERVICE_USER:
            tally.has_sent_abort = True

    def on_aborted(self, event: Event) -> None:
        """Record any other end of an association (EVT_ABORTED, EVT_CONN_CLOSE)."""
        self._end(event.assoc, AssociationEnd.ABORTED)

    def _end(self, association: Association, how: AssociationEnd) -> None:
        with self._lock:
            tally = self._tallies.pop(association, None)
            for study_uid, images in tally.studies.items() if tally else ():
                self._traffic.ended(study_uid, images=images)
        if tally is None:
            return
        _LOG.log(
            level(tally, how),
            "%s %s: %d stored, %d refused, %d series, %.1f MB in %.1f s",
            shown_peer(association),
            how if how is AssociationEnd.RELEASED else cause(association, tally),
            tally.stored,
            tally.refused,
            len(tally.series),
            tally.size / 1e6,
            time.monotonic() - tally.started,
        )
        if tally.series:
            self._report_end(association, frozenset(tally.series), how)
        if self._audit is not None:
            for transfer in tally.transfers.values():
                self._audit.transfer_ended(peer_of(association), transfer, how)

    def _report_end(
        self, association: Association, series: frozenset[Uid], how: AssociationEnd
    ) -> None:
        try:
            self._intake.association_ended(series, calling_ae(association), how, self._clock())
        except Exception:  # noqa: BLE001 - pynetdicom would drop it
            # The series is complete after its quiet time then.
            _LOG.exception("the end of an association could not be recorded")
