"""Buffers with limits for the data sets that arrive, in memory or on disk.

pynetdicom (3.0.4) collects a data set in memory whatever its size, and queues requests that a peer
sends before it has the answer to an earlier one.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import time
from contextlib import suppress
from enum import Enum, auto
from io import BytesIO
from queue import Empty
from threading import Lock
from typing import IO, Any
from weakref import WeakKeyDictionary

from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF

from chestct.errors import InstanceRefused, OutOfResources
from pynetdicom_guard.budget import Budget, Content, Scratch, Share

_LOG = logging.getLogger(__name__)

_COMMAND_SET_BYTES = 1 << 16
"""Bytes that a command set may have; those of PS3.7 have a few hundred."""
_MAXIMUM_REQUESTS = 4
"""Requests of one association that may wait. A conforming peer sends none before the answer to the
last one: no asynchronous operations window is negotiated (PS3.7 annex D.3.3.3)."""
_GRACE_SECONDS = 60.0
"""How long a data set may arrive at any speed."""
_MINIMUM_SPEED = 1024
"""Bytes per second at which a data set must arrive after the grace period. Each PDU has its own
time limit; this one stops a peer that sends many tiny PDUs."""
_MINIMUM_SPEED_ON_DISK = 4 * 1024
"""The same for a data set that takes from the budget of all associations."""
_STEP = 1 << 20
"""Bytes that are taken from the budget at a time."""


class Discarded(Enum):
    """Why a data set was discarded."""

    TOO_LARGE = auto()
    NO_BUDGET = auto()
    NO_SPACE = auto()


class BoundedBuffer(BytesIO):
    """Keeps bytes up to a limit, and nothing once more was written."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._seen = 0

    def write(self, data: Any) -> int:
        """Keep ``data``, or discard everything once the limit is exceeded."""
        self._seen += len(data)
        if self._seen <= self._limit:
            return super().write(data)
        self.seek(0)
        self.truncate()
        return len(data)


class DataSetBuffer(BytesIO):
    """A data set that arrives: in the memory of its association, or in a file on the disk budget.

    Attributes:
        discarded: Why everything was discarded; None while nothing was.
    """

    def __init__(self, limit: int, share: Share, scratch: Scratch) -> None:
        super().__init__()
        self._limit, self._share, self._scratch = limit, share, scratch
        self._began = time.monotonic()
        self._seen = self._in_memory = self._on_disk = 0
        self._file: IO[bytes] | None = None
        self._released = False
        self._hash = hashlib.sha256()
        self.discarded: Discarded | None = None

    def write(self, data: Any) -> int:
        """Keep ``data``, or discard everything; pynetdicom reads on, so that it can answer."""
        size = len(data)
        self._seen += size
        if self.discarded is not None or self._released:
            return size
        self._hash.update(data)  # now, while the sender prepares what comes next
        if self._seen > self._limit:
            self._discard(Discarded.TOO_LARGE)
        elif self._file is None and self._share.memory.take(size):
            self._in_memory += size
            super().write(data)
        else:
            self._write_to_disk(data)
        return size

    @property
    def digest(self) -> str:
        """The SHA-256 of :meth:`content`, in hexadecimal."""
        return self._hash.hexdigest()

    def content(self) -> Content:
        """Return the bytes that were written.

        Raises:
            InstanceRefused: The data set exceeds the limit.
            OutOfResources: No memory or disk was free for it; a resend may succeed.
        """
        if self.discarded is Discarded.TOO_LARGE:
            # Not OutOfResources: a sender that receives that sends the same data set again.
            size, limit = self._seen / _STEP, self._limit / _STEP
            raise InstanceRefused(
                f"{size:.1f} MB exceed network.maximum_instance_mb, {limit:.1f} MB"
            )
        if self.discarded is Discarded.NO_BUDGET:
            raise OutOfResources("network.maximum_arriving_mb is used up by other images")
        if self.discarded is Discarded.NO_SPACE:
            raise OutOfResources("too little free space on the disk of this node")
        if self._file is None:
            return self.getvalue()
        try:
            self._file.flush()
            return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise OutOfResources(f"cannot read again: {error.strerror}") from error

    def is_too_slow(self) -> bool:
        """Return whether the data set arrives too slowly."""
        seconds = time.monotonic() - self._began
        minimum = _MINIMUM_SPEED if self._file is None else _MINIMUM_SPEED_ON_DISK
        return seconds > _GRACE_SECONDS and self._seen < seconds * minimum

    def release(self) -> None:
        """Give everything back, and discard all further bytes."""
        self._released = True
        self._drop()

    def __del__(self) -> None:
        """Give back a data set that pynetdicom dropped without an end of the message."""
        self._drop()

    def _write_to_disk(self, data: Any) -> None:
        try:
            if not self._room_for(self._seen):
                self._discard(Discarded.NO_BUDGET)
                return
            if self._file is None:
                self._file = self._scratch.temporary_file()
                self._file.write(self.getvalue())
                self._empty_memory()
            self._file.write(data)
        except (OSError, OutOfResources):
            self._discard(Discarded.NO_SPACE)

    def _room_for(self, size: int) -> bool:
        """Take ``size`` bytes from the disk budget; return False when fewer are free."""
        more = -(-(size - self._on_disk) // _STEP) * _STEP
        if more <= 0:
            return True
        self._scratch.check_room(more)
        if not self._share.disk.take(more):
            return False
        self._on_disk += more
        return True

    def _discard(self, why: Discarded) -> None:
        self.discarded = why
        self._drop()

    def _drop(self) -> None:
        self._empty_memory()
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
        self._share.disk.give_back(self._on_disk)
        self._on_disk = 0

    def _empty_memory(self) -> None:
        self.seek(0)
        self.truncate()
        self._share.memory.give_back(self._in_memory)
        self._in_memory = 0


class Arrivals:
    """The data sets of all associations that arrive; called from the associations' threads."""

    def __init__(self, *, limit: int, budget: Budget, scratch: Scratch) -> None:
        """Accept data sets of up to ``limit`` bytes."""
        self._limit = limit
        self._budget = budget
        self._scratch = scratch
        self._shares: WeakKeyDictionary[Association, Share] = WeakKeyDictionary()
        self._lock = Lock()

    def on_pdu(self, event: Event) -> None:
        """Give each message limited buffers; abort a message that is too slow (EVT_PDU_RECV)."""
        pdu: object = event.pdu
        dimse = event.assoc.dimse
        if not isinstance(pdu, P_DATA_TF):
            return
        if dimse.message is not None:
            arriving: object = dimse.message.data_set
            if isinstance(arriving, DataSetBuffer) and arriving.is_too_slow():
                _LOG.warning(
                    "%s: aborted: a data set arrives too slowly", event.assoc.requestor.address
                )
                event.assoc.dul.event_queue.put("Evt19")
        else:
            dimse.message = message_with(self.data_set_of(event.assoc))

    def data_set_of(self, association: Association) -> DataSetBuffer:
        """Return a buffer for the next data set of an association."""
        return DataSetBuffer(self._limit, self._share_of(association), self._scratch)

    def on_connection_close(self, event: Event) -> None:
        """Give back the incomplete message of a closed connection (EVT_CONN_CLOSE)."""
        message = event.assoc.dimse.message
        if message is not None:
            release(message.data_set)

    def _share_of(self, association: Association) -> Share:
        with self._lock:
            share = self._shares.get(association)
            if share is None:
                share = self._shares[association] = Share(self._budget)
            return share


def message_with(data_set: DataSetBuffer) -> DIMSEMessage:
    """Return a message for pynetdicom to decode into, with limited buffers."""
    message = DIMSEMessage()
    message.encoded_command_set = BoundedBuffer(_COMMAND_SET_BYTES)
    message.data_set = data_set
    return message


def has_too_many_requests(event: Event) -> bool:
    """Return whether the peer sends requests without waiting for answers (EVT_DIMSE_RECV)."""
    return event.assoc.dimse.msg_queue.qsize() >= _MAXIMUM_REQUESTS


def content_of(data_set: BytesIO | None) -> tuple[Content, str]:
    """Return the bytes of the data set of a request, and their SHA-256 in hexadecimal.

    Raises as :meth:`DataSetBuffer.content`.
    """
    if isinstance(data_set, DataSetBuffer):
        return data_set.content(), data_set.digest
    content = data_set.getvalue() if data_set else b""
    return content, hashlib.sha256(content).hexdigest()


def release(data_set: BytesIO | None) -> None:
    """Give back the memory and disk of a data set."""
    if isinstance(data_set, DataSetBuffer):
        data_set.release()


def release_requests(association: Association) -> None:
    """Give back the requests that wait in an association that has ended."""
    with suppress(Empty):
        while True:
            _, request = association.dimse.msg_queue.get_nowait()
            release(getattr(request, "DataSet", None))
