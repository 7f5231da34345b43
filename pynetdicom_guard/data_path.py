"""A short way for C-STOREs: from the socket to the handler, past pynetdicom.

pynetdicom negotiates and ends each association and serves everything but plain C-STOREs. For those
its two threads, which poll a thousand times a second, its objects for each PDU, and its pydicom
data sets for the command sets take ten times as long as the bytes.

Once an association is established, :class:`DataPath` reads its PDUs in the thread that pynetdicom
reads them in, while pynetdicom's other thread is parked. It takes the PDUs of plain C-STOREs. At
any other PDU it gives pynetdicom the state that pynetdicom would have at that point, and the PDU
unread. pynetdicom thus judges all that is unusual, and limits and time-outs stay where they are.
"""

# ruff: noqa: SLF001 - pynetdicom has no public place for any of this
from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

from pynetdicom_guard.arrivals import Arrivals, DataSetBuffer, message_with
from pynetdicom_guard.crash_guard import AWAITING_CLOSE, aborting
from pynetdicom_guard.reactor_gate import gate_of, put_gate
from pynetdicom_guard.sockets import PDU_HEAD, GuardedReceive
from pynetdicom_guard.store_messages import LONGEST_RESPONSE, StoreRequest, read_request, response

_DATA_TRANSFER = "Sta6"
"""State in which an association is established (PS3.8 section 9.2)."""
_PARK_SECONDS = 0.005
_ITEM = struct.Struct(">LBB")
_IS_COMMAND, _IS_LAST = 0x01, 0x02

Store = Callable[[Association, StoreRequest, DataSetBuffer], "int | Dataset"]
"""Handles a C-STORE and returns its status, or a data set with status and Error Comment."""


class _Value(NamedTuple):
    """A presentation data value (PS3.8 annex E)."""

    context_id: int
    is_command: bool
    is_last: bool
    content: memoryview


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A C-STORE whose command set has arrived."""

    request: StoreRequest
    context_id: int
    command_set: bytes
    data_set: DataSetBuffer


def take_stores(
    association: Association, *, classes: Collection[str], arrivals: Arrivals, store: Store
) -> None:
    """Take the C-STOREs of an association past pynetdicom, from its own thread (EVT_ESTABLISHED).

    It does nothing where the association has no context for ``classes``, or where a response may
    exceed the PDUs that the peer takes.
    """
    syntaxes = {
        context.context_id: str(context.transfer_syntax[0])
        for context in association.accepted_contexts
        if context.abstract_syntax in classes and context.context_id is not None
    }
    receive = getattr(association.dul.socket, "recv", None)
    longest = association.requestor.maximum_length or math.inf
    if not syntaxes or not isinstance(receive, GuardedReceive) or longest < LONGEST_RESPONSE:
        return
    put_gate(association)
    path = DataPath(association, receive, syntaxes, classes=classes, arrivals=arrivals, store=store)
    whole: Any = association
    whole.dul._is_transport_event = aborting(path.is_transport_event, association)


class DataPath:
    """The data path of one association; runs in pynetdicom's thread for the connection."""

    def __init__(
        self,
        association: Association,
        receive: GuardedReceive,
        syntaxes: Mapping[int, str],
        *,
        classes: Collection[str],
        arrivals: Arrivals,
        store: Store,
    ) -> None:
        """Use the contexts of ``syntaxes``, which has the transfer syntax of each."""
        self._association: Any = association
        self._receive = receive
        self._syntaxes = syntaxes
        self._classes = classes
        self._arrivals = arrivals
        self._store = store
        self._arriving: _Arriving | None = None
        self._look: Callable[[], bool] = association.dul._is_transport_event

    def is_transport_event(self) -> bool:
        """Take C-STOREs until pynetdicom is needed; then look at the socket as pynetdicom does."""
        self._run()
        dul = self._association.dul
        if dul.state_machine.current_state == AWAITING_CLOSE:
            self._receive.take_all()
        if self._receive.is_ahead and not (dul.event_queue.queue or dul.to_provider_queue.queue):
            dul._read_pdu_data()
            return True
        return self._look()

    def _run(self) -> None:
        if not self._may_run():
            return
        dul = self._association.dul
        try:
            while not self._is_pynetdicom_needed():
                try:
                    pdu = self._receive.next_p_data()
                except TimeoutError:
                    continue
                if pdu is None or not self._take(pdu):
                    break
                self._receive.take(len(pdu))
                dul._idle_timer.restart()
            self._hand_over()
        finally:
            gate_of(self._association).set()

    def _may_run(self) -> bool:
        """Park pynetdicom's other thread; return False where it is still at work."""
        if self._is_pynetdicom_needed():
            return False
        gate = gate_of(self._association)
        if gate.close_and_wait(_PARK_SECONDS) and not self._is_pynetdicom_needed():
            return True
        gate.set()
        return False

    def _is_pynetdicom_needed(self) -> bool:
        """Return whether pynetdicom has something to do, to send or to wait for."""
        association, dul = self._association, self._association.dul
        return bool(
            dul._kill_thread
            or dul.state_machine.current_state != _DATA_TRANSFER
            or not association.is_established
            or association._kill
            or association.dimse.message is not None
            or association.dimse.msg_queue.queue
            or dul.to_user_queue.queue
            or dul.to_provider_queue.queue
            or dul.event_queue.queue
            or dul.idle_timer_expired()
        )

    def _take(self, pdu: memoryview) -> bool:
        """Take the next PDU; return False, and change nothing, where pynetdicom has to read it."""
        values = _values_of(pdu)
        arriving = self._arriving
        if not values:
            return False
        if arriving is None:
            arriving = self._begin(values[0])
            if arriving is None:
                return False
            del values[0]
        elif arriving.data_set.is_too_slow():
            return False
        if not _are_next(values, arriving.context_id):
            return False
        self._arriving = arriving
        for value in values:
            arriving.data_set.write(value.content)
        if values and values[-1].is_last:
            self._arriving = None
            self._answer(arriving)
        return True

    def _begin(self, value: _Value) -> _Arriving | None:
        """Return the C-STORE that a command set requests; None where it is anything else."""
        syntax = self._syntaxes.get(value.context_id)
        if syntax is None or not (value.is_command and value.is_last):
            return None
        command_set = bytes(value.content)
        request = read_request(command_set, syntax)
        if request is None or request.sop_class_uid not in self._classes:
            return None
        data_set = self._arrivals.data_set_of(self._association)
        return _Arriving(request, value.context_id, command_set, data_set)

    def _answer(self, arriving: _Arriving) -> None:
        self._association.dimse.cancel_req = {}  # as pynetdicom does before each service
        answer = self._store(self._association, arriving.request, arriving.data_set)
        status, comment = (
            (answer, None)
            if isinstance(answer, int)
            else (answer.Status, answer.get("ErrorComment"))
        )
        if self._association.is_established:
            self._association.dul.socket.send(
                response(arriving.request, arriving.context_id, status, comment)
            )

    def _hand_over(self) -> None:
        """Give pynetdicom the message that is arriving, as if it had read the beginning."""
        arriving, self._arriving = self._arriving, None
        if arriving is None:
            return
        message = message_with(arriving.data_set)
        command = P_DATA()
        command.presentation_data_value_list.append(
            (arriving.context_id, bytes([_IS_COMMAND | _IS_LAST]) + arriving.command_set)
        )
        message.decode_msg(command, self._association)
        self._association.dimse.message = message


def _values_of(pdu: memoryview) -> list[_Value] | None:
    """Return the presentation data values of a P-DATA-TF; None where it is malformed."""
    values = []
    place = PDU_HEAD
    while place + _ITEM.size <= len(pdu):
        size, context_id, control = _ITEM.unpack_from(pdu, place)
        end = place + 4 + size
        if size < 2 or end > len(pdu):  # noqa: PLR2004 - context and control header
            return None
        values.append(
            _Value(
                context_id,
                bool(control & _IS_COMMAND),
                bool(control & _IS_LAST),
                pdu[place + _ITEM.size : end],
            )
        )
        place = end
    return values if place == len(pdu) else None


def _are_next(values: list[_Value], context_id: int) -> bool:
    """Return whether these are fragments of one data set, of which only the last may end it."""
    return all(
        value.context_id == context_id and not value.is_command for value in values
    ) and not any(value.is_last for value in values[:-1])
