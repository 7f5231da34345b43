"""What one association may hold in memory.

pynetdicom (3.0.4) collects a message in memory whatever its size, and queues requests that
come before the one before them was answered.
"""

from __future__ import annotations

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
from scp.budget import Budget, Share
from scp.outline import Content
from scp.ports import Scratch

_LOG = logging.getLogger(__name__)

_COMMAND_SET = 1 << 16
"""Bytes that a command set may have; those of PS3.7 have a few hundred."""
_REQUESTS_WAITING = 4
"""Nobody may send a second request before the answer: no asynchronous operations window is
negotiated (PS3.7 annex D.3.3.3)."""
_PATIENCE_SECONDS = 60.0
_SLOWEST = 1024
"""Bytes per second that a data set must arrive with once the patience is over. Each PDU has its
own time limit; this one is for a peer that sends many tiny ones."""
_SLOWEST_ON_DISK = 4 * 1024
"""The same for one that takes of the budget of all."""
_STEP = 1 << 20
"""Bytes that are taken of the budget at a time."""


class Lost(Enum):
    """Why nothing of a data set is left."""

    TOO_LARGE = auto()
    NO_BUDGET = auto()
    NO_SPACE = auto()


class BoundedBuffer(BytesIO):
    """Keeps what is written up to a limit, and nothing once there was more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._seen = 0

    def write(self, data: Any) -> int:
        """Keep ``data``, or let go of everything once there is more than the limit."""
        self._seen += len(data)
        if self._seen <= self._limit:
            return super().write(data)
        self.seek(0)
        self.truncate()
        return len(data)


class DataSetBuffer(BytesIO):
    """A data set as it arrives: in the memory of its association, or in a file on the budget.

    Attributes:
        lost: Why everything was thrown away, if it was.
    """

    def __init__(self, limit: int, share: Share, scratch: Scratch) -> None:
        super().__init__()
        self._limit, self._share, self._scratch = limit, share, scratch
        self._began = time.monotonic()
        self._seen = self._in_memory = self._on_disk = 0
        self._file: IO[bytes] | None = None
        self._released = False
        self.lost: Lost | None = None

    def write(self, data: Any) -> int:
        """Keep ``data``, or let go of everything and read on for the answer."""
        size = len(data)
        self._seen += size
        if self.lost is not None or self._released:
            return size
        if self._seen > self._limit:
            self._lose(Lost.TOO_LARGE)
        elif self._file is None and self._share.memory.take(size):
            self._in_memory += size
            super().write(data)
        else:
            self._write_to_disk(data)
        return size

    def content(self) -> Content:
        """Return what was written.

        Raises:
            InstanceRefused: There was more than the limit.
            OutOfResources: There was no room for it; there may be later.
        """
        if self.lost is Lost.TOO_LARGE:
            # Not "out of resources": who hears that sends the same again.
            size, limit = self._seen / _STEP, self._limit / _STEP
            raise InstanceRefused(
                f"{size:.1f} MB exceed network.maximum_instance_mb, {limit:.1f} MB"
            )
        if self.lost is Lost.NO_BUDGET:
            raise OutOfResources("network.maximum_arriving_mb is used up by other images")
        if self.lost is Lost.NO_SPACE:
            raise OutOfResources("too little free space on the disk of this node")
        if self._file is None:
            return self.getvalue()
        try:
            self._file.flush()
            return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise OutOfResources(f"cannot read again: {error.strerror}") from error

    def is_starved(self) -> bool:
        """Tell whether it fills so slowly that somebody only holds the line."""
        seconds = time.monotonic() - self._began
        slowest = _SLOWEST if self._file is None else _SLOWEST_ON_DISK
        return seconds > _PATIENCE_SECONDS and self._seen < seconds * slowest

    def release(self) -> None:
        """Give back everything; what is written from now on is thrown away."""
        self._released = True
        self._drop()

    def __del__(self) -> None:
        """Give back what pynetdicom has forgotten."""
        self._drop()

    def _write_to_disk(self, data: Any) -> None:
        try:
            if not self._room_for(self._seen):
                self._lose(Lost.NO_BUDGET)
                return
            if self._file is None:
                self._file = self._scratch.temporary_file()
                self._file.write(self.getvalue())
                self._empty_memory()
            self._file.write(data)
        except (OSError, OutOfResources):
            self._lose(Lost.NO_SPACE)

    def _room_for(self, size: int) -> bool:
        """Take enough of the budget for ``size`` bytes on disk."""
        more = -(-(size - self._on_disk) // _STEP) * _STEP
        if more <= 0:
            return True
        self._scratch.check_room(more)
        if not self._share.disk.take(more):
            return False
        self._on_disk += more
        return True

    def _lose(self, why: Lost) -> None:
        self.lost = why
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
    """The data sets on their way, of all associations; called from their threads."""

    def __init__(self, *, limit: int, budget: Budget, scratch: Scratch) -> None:
        """Take data sets of up to ``limit`` bytes."""
        self._limit = limit
        self._budget = budget
        self._scratch = scratch
        self._shares: WeakKeyDictionary[Association, Share] = WeakKeyDictionary()
        self._lock = Lock()

    def on_pdu(self, event: Event) -> None:
        """Begin each message with bounded buffers, and end one that never ends (EVT_PDU_RECV)."""
        pdu: object = event.pdu
        dimse = event.assoc.dimse
        if not isinstance(pdu, P_DATA_TF):
            return
        if dimse.message is not None:
            begun: object = dimse.message.data_set
            if isinstance(begun, DataSetBuffer) and begun.is_starved():
                _LOG.warning(
                    "%s: aborted: a data set arrives too slowly", event.assoc.requestor.address
                )
                event.assoc.dul.event_queue.put("Evt19")
        else:
            dimse.message = DIMSEMessage()
            dimse.message.encoded_command_set = BoundedBuffer(_COMMAND_SET)
            dimse.message.data_set = DataSetBuffer(
                self._limit, self._share_of(event.assoc), self._scratch
            )

    def on_connection_close(self, event: Event) -> None:
        """Give back what a message has brought that will never end (EVT_CONN_CLOSE)."""
        message = event.assoc.dimse.message
        if message is not None:
            release(message.data_set)

    def _share_of(self, association: Association) -> Share:
        with self._lock:
            share = self._shares.get(association)
            if share is None:
                share = self._shares[association] = Share(self._budget)
            return share


def is_flooding(event: Event) -> bool:
    """Tell whether the peer sends requests without waiting for their answers (EVT_DIMSE_RECV)."""
    return event.assoc.dimse.msg_queue.qsize() >= _REQUESTS_WAITING


def content_of(data_set: BytesIO | None) -> Content:
    """Return the bytes of the data set of a request; see :meth:`DataSetBuffer.content`."""
    if isinstance(data_set, DataSetBuffer):
        return data_set.content()
    return data_set.getvalue() if data_set else b""


def release(data_set: BytesIO | None) -> None:
    """Give back what a data set holds."""
    if isinstance(data_set, DataSetBuffer):
        data_set.release()


def let_go(association: Association) -> None:
    """Give back what waits in an association that has ended; nobody will answer it."""
    with suppress(Empty):
        while True:
            _, request = association.dimse.msg_queue.get_nowait()
            release(getattr(request, "DataSet", None))
