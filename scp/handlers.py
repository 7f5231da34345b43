"""What happens with each C-STORE, and what is told at the end of an association."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.events import Event

from chestct.errors import NotDicom, RalesError, SopClassMismatch, SopClassNotSupported
from chestct.series import ReceivedInstance
from chestct.uids import Uid
from scp import headers
from scp.contexts import STORAGE_SOP_CLASSES
from scp.guard import EMPTY_UID
from scp.ports import AssociationEnd, Intake, Recorded
from scp.spool import Spool
from scp.status import StoreStatus, answer

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Tally:
    """What one association has brought so far."""

    started: float
    series: set[Uid] = field(default_factory=set)
    stored: int = 0
    refused: int = 0
    size: int = 0


class Handlers:
    """The handlers of the receiver; called from the threads of the associations."""

    def __init__(self, *, spool: Spool, intake: Intake, clock: Callable[[], datetime]) -> None:
        self._spool = spool
        self._intake = intake
        self._clock = clock
        self._tallies: dict[Association, _Tally] = {}
        self._lock = Lock()

    def on_echo(self, event: Event) -> int:  # noqa: ARG002 - the answer is always the same
        """Answer a C-ECHO."""
        return int(StoreStatus.SUCCESS)

    def on_store(self, event: Event) -> int | Dataset:
        """Answer a C-STORE: 0x0000 only when the bytes are durable and recorded."""
        tally = self._tally(event.assoc)
        try:
            instance = self._receive(event)
        except RalesError as error:
            tally.refused += 1
            status = answer(error)
            _LOG.warning("%s refused 0x%04X: %s", _peer(event.assoc), status.Status, error)
            return status
        except Exception as error:  # noqa: BLE001 - no exception may leak into the protocol machine
            tally.refused += 1
            _LOG.exception("%s: unexpected error while storing", _peer(event.assoc))
            return answer(error)
        tally.stored += 1
        tally.size += instance.size
        tally.series.add(instance.series_uid)
        return int(StoreStatus.SUCCESS)

    def _receive(self, event: Event) -> ReceivedInstance:
        request: Any = event.request
        syntax = event.context.transfer_syntax
        if request.AffectedSOPClassUID not in STORAGE_SOP_CLASSES:
            raise SopClassNotSupported(f"{UID(request.AffectedSOPClassUID).name} is not stored")
        if request.AffectedSOPInstanceUID == EMPTY_UID:
            raise NotDicom("Affected SOP Instance UID is missing")
        content = request.DataSet.getvalue() if request.DataSet else b""
        header, _ = headers.parse(content, syntax)
        if header.sop_class_uid != request.AffectedSOPClassUID:
            raise SopClassMismatch("SOP Class UID of data set and request differ")
        if header.sop_instance_uid != request.AffectedSOPInstanceUID:
            raise SopClassMismatch("SOP Instance UID of data set and request differ")
        spooled = self._spool.write(header.series_uid, _file_meta(header, syntax), content)
        instance = ReceivedInstance(
            path=spooled.path,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            series_uid=header.series_uid,
            study_uid=header.study_uid,
            patient_key=header.patient_key,
            transfer_syntax_uid=Uid(syntax),
            content_digest=spooled.content_digest,
            size=spooled.size,
            received_at=self._clock(),
            calling_ae=_calling_ae(event.assoc),
            slice_position=header.slice_position,
            expected_instances=header.expected_instances,
        )
        if self._intake.record(instance) is Recorded.REPLACED:
            _LOG.warning(
                "%s sent other content under SOP Instance UID %s; both are kept, the new counts",
                _peer(event.assoc),
                instance.sop_instance_uid,
            )
        return instance

    def on_released(self, event: Event) -> None:
        """Note the end of an association (EVT_RELEASED)."""
        self._end(event.assoc, AssociationEnd.RELEASED)

    def on_aborted(self, event: Event) -> None:
        """Note the end of an association (EVT_ABORTED, EVT_CONN_CLOSE)."""
        self._end(event.assoc, AssociationEnd.ABORTED)

    def _tally(self, association: Association) -> _Tally:
        with self._lock:
            return self._tallies.setdefault(association, _Tally(started=time.monotonic()))

    def _end(self, association: Association, how: AssociationEnd) -> None:
        with self._lock:
            tally = self._tallies.pop(association, None)
        if tally is None:
            return
        _LOG.info(
            "%s %s: %d stored, %d refused, %d series, %.1f MB in %.1f s",
            _peer(association),
            how,
            tally.stored,
            tally.refused,
            len(tally.series),
            tally.size / 1e6,
            time.monotonic() - tally.started,
        )
        if tally.series:
            try:
                series = frozenset(tally.series)
                self._intake.association_ended(series, _calling_ae(association), how, self._clock())
            except RalesError:
                # The series is complete by its quiet time then.
                _LOG.exception("the end of an association could not be recorded")


def _calling_ae(association: Association) -> str:
    """Return the calling AE title; it comes from outside, so only what prints."""
    title = str(association.requestor.ae_title)
    return "".join(character for character in title if character.isprintable())[:16].strip()


def _peer(association: Association) -> str:
    return f"{_calling_ae(association)}@{association.requestor.address}"


def _file_meta(header: headers.Header, syntax: str) -> bytes:
    """Return preamble, prefix and file meta information (PS3.10 section 7.1)."""
    meta = create_file_meta(
        sop_class_uid=UID(header.sop_class_uid),
        sop_instance_uid=UID(header.sop_instance_uid),
        transfer_syntax=UID(syntax),
    )
    return bytes(128) + b"DICM" + encode_file_meta(meta)
