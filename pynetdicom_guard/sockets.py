"""Replaces ``recv`` and ``send`` of the socket of an accepted connection, with limits.

pynetdicom (3.0.4) takes a PDU of any announced length, and waits without limit for the rest of a
PDU and for a peer that does not read.
"""

from __future__ import annotations

import logging
import math
import socket
import struct
import time
from dataclasses import dataclass

from pynetdicom.association import Association

from pynetdicom_guard.crash_guard import connection_of

_LOG = logging.getLogger(__name__)

_CONTROL_PDU_BYTES = 1 << 17
"""Bytes that any PDU may have, whatever maximum was negotiated. An A-ASSOCIATE-RQ with 128
presentation contexts of ten transfer syntaxes each has 50,000; parsing a million takes 2 s."""
PDU_HEAD = 6
"""Bytes of type and length of a PDU (PS3.8 section 9.3.1)."""
P_DATA_TF = 0x04
"""Type of the PDUs that carry messages."""
_LENGTH = struct.Struct(">L")
_WAIT_SECONDS = 0.05
"""How long the data path waits before it looks whether this node wants to send something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one connection.

    Attributes:
        maximum_pdu: The negotiated maximum length of a P-DATA-TF.
        request_seconds: How long a connection may take to request an association.
        pdu_seconds: How long the rest of a PDU may take to arrive once it has begun; how long the
            peer may take to read a PDU.
    """

    maximum_pdu: int
    request_seconds: float
    pdu_seconds: float


class GuardedReceive:
    """Replaces the ``recv`` of an association's socket.

    Reads in large steps into one buffer, refuses a PDU that announces too many bytes, and gives a
    PDU that has begun a deadline. It sends acknowledgements at once, because a sender with Nagle's
    algorithm waits for them.

    pynetdicom calls it for 6 bytes, then for the rest of a PDU. The data path asks for
    :meth:`next_p_data` instead; pynetdicom reads what the data path does not :meth:`take`.
    """

    def __init__(self, connection: socket.socket, association: Association, limits: Limits) -> None:
        self._connection = connection
        self._association = association
        self._maximum = max(limits.maximum_pdu + PDU_HEAD, _CONTROL_PDU_BYTES)
        self._limits = limits
        self._has_unexplained_bytes = False
        self._ahead = bytearray()
        self._start = self._end = 0
        self._is_late = False
        self.last_read = time.monotonic()

    @property
    def is_ahead(self) -> bool:
        """Whether bytes that pynetdicom has not read were taken from the socket."""
        return self._end > self._start

    def next_p_data(self) -> memoryview | None:
        """Return the bytes of the next PDU; they stay in the buffer.

        Returns:
            None where pynetdicom has to read: the connection is closed, or the PDU is late, longer
            than the negotiated maximum, or no P-DATA-TF.

        Raises:
            TimeoutError: No PDU began within a short time.
        """
        deadline = time.monotonic() + self._limits.pdu_seconds
        while True:
            held = self._end - self._start
            size = PDU_HEAD
            if held >= PDU_HEAD:
                (length,) = _LENGTH.unpack_from(self._ahead, self._start + 2)
                if self._ahead[self._start] != P_DATA_TF or length > self._limits.maximum_pdu:
                    return None
                size += length
                if held >= size:
                    return memoryview(self._ahead)[self._start : self._start + size]
            try:
                if not self._read_ahead(size):
                    return None
            except TimeoutError:
                if not held:
                    raise
                if time.monotonic() > deadline:
                    self._is_late = True
                    return None
            except OSError:
                return None

    def take(self, size: int) -> None:
        """Drop the first ``size`` bytes of the buffer."""
        self._start += size

    def take_all(self) -> None:
        """Drop all bytes of the buffer."""
        self._start = self._end

    def __call__(self, count: int) -> bytearray:
        """Return ``count`` bytes, or fewer when the peer closed the connection.

        Raises:
            OSError: The PDU is too long or did not arrive in time. pynetdicom then closes the
                connection.
        """
        if count > self._maximum:
            raise self._refusal(f"a PDU announces {count} bytes; the maximum is {self._maximum}")
        silent = has_no_request(self._association)
        seconds = self._limits.request_seconds if silent else self._limits.pdu_seconds
        held = min(count, self._end - self._start)
        buffer = bytearray(count)
        buffer[:held] = self._ahead[self._start : self._start + held]
        self._start += held
        with memoryview(buffer)[held:] as view:
            try:
                seconds_left = 0.0 if self._is_late else seconds
                received = held + self._read(view, time.monotonic() + seconds_left)
            except TimeoutError:
                raise self._refusal(f"a PDU did not arrive within {seconds:g} s") from None
        return buffer if received == count else buffer[:received]

    def _read(self, view: memoryview, deadline: float) -> int:
        received = 0
        while received < len(view):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            count = self._connection.recv_into(view[received:])
            if count == 0:
                break
            received += count
            self.last_read = time.monotonic()
            self._has_unexplained_bytes = True
            _acknowledge_now(self._connection)
        self._connection.settimeout(None)
        return received

    def _read_ahead(self, size: int) -> bool:
        """Read what has arrived, up to the end of the buffer; return False when it is closed.

        The buffer then has room for a PDU of ``size`` bytes that begins at its start.
        """
        if not self._ahead:
            self._ahead = bytearray(self._limits.maximum_pdu + PDU_HEAD)
        held = self._end - self._start
        if not held or self._start + size > len(self._ahead):
            self._ahead[:held] = self._ahead[self._start : self._end]
            self._start, self._end = 0, held
        self._connection.settimeout(_WAIT_SECONDS)
        with memoryview(self._ahead)[self._end :] as view:
            count = self._connection.recv_into(view)
            if count < len(view):
                _acknowledge_now(self._connection)
        self._end += count
        self.last_read = time.monotonic()
        return count > 0

    def close(self) -> None:
        """Close the connection; log it when its bytes were no association request."""
        self._connection.close()
        if self._has_unexplained_bytes and has_no_request(self._association):
            _LOG.warning(
                "%s: closed: its bytes are no valid association request",
                self._association.requestor.address,
            )

    def _refusal(self, reason: str) -> OSError:
        self._has_unexplained_bytes = False
        _LOG.warning("%s: closed: %s", self._association.requestor.address, reason)
        return OSError(reason)


class GuardedSend:
    """Replaces the ``send`` of an association's socket: a peer must read in time.

    A peer that never reads would hold its association past every other time limit, because
    pynetdicom's thread that checks those would wait in ``send``.
    """

    def __init__(self, connection: socket.socket, association: Association, limits: Limits) -> None:
        self._connection = connection
        self._association = association
        self._seconds = limits.pdu_seconds

    def __call__(self, content: bytes) -> None:
        """Send all of ``content``, or end the connection."""
        try:
            self._connection.settimeout(self._seconds)
            self._connection.sendall(content)
            self._connection.settimeout(None)
        except TimeoutError:
            _LOG.warning(
                "%s: closed: it did not read within %g s",
                self._association.requestor.address,
                self._seconds,
            )
            self._end()
        except OSError:
            self._end()

    def _end(self) -> None:
        hang_up(self._association)
        self._association.dul.event_queue.put("Evt17")


def _acknowledge_now(connection: socket.socket) -> None:
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def has_no_request(association: Association) -> bool:
    """Return whether an accepted connection has not requested an association yet."""
    return association.is_acceptor and association.requestor.primitive is None


def seconds_since_read(association: Association) -> float:
    """Return for how long the peer of an association has sent nothing."""
    receive = getattr(association.dul.socket, "recv", None)
    if not isinstance(receive, GuardedReceive):
        return math.inf
    return time.monotonic() - receive.last_read


def hang_up(association: Association) -> None:
    """Shut the connection down; the threads of the association see it and end."""
    connection = connection_of(association)
    if connection is None:
        return
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        _LOG.debug("%s: the connection was closed already", association.requestor.address)
