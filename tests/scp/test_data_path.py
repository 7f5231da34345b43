"""The data path answers each stream as pynetdicom does: the same bytes, stored instances and end.

Each example goes to two receivers over real sockets. In one of them, pynetdicom reads everything.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from hostile import ABORT, DATA, RELEASE_RP, RELEASE_RQ, Wire, command_set, pdu, store_command
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from waiting import wait_for

import scp.server
from pynetdicom_guard.data_path import DataPath
from scp.ports import AssociationEnd
from scp.server import ScpSettings, start
from scp.spool import Spool

from .conftest import MemoryIntake, data_set_of, make_ct, to_bytes

_CT, _MR = str(CTImageStorage).encode(), b"1.2.840.10008.5.1.4.1.1.4"
_EXPLICIT, _IMPLICIT, _VERIFICATION, _UNKNOWN = 1, 3, 5, 99
_UIDS = ("2.25.7", "2.25.70", "1.2." + "3" * 60)
_IMAGES = {
    (uid, syntax): to_bytes(make_ct(rows=8, columns=8, SOPInstanceUID=uid), name)
    for uid in _UIDS
    for syntax, name in (
        (_EXPLICIT, ExplicitVRLittleEndian),
        (_IMPLICIT, ImplicitVRLittleEndian),
    )
}
_SILENCE_SECONDS = 2.0
_EXAMPLES = 40
_CLOSED = (0, b"")
_NO_DATA_SET = struct.pack("<HHLH", 0, 0x0800, 2, 0x0101)


@dataclass
class Receiver:
    """A receiver and what it has stored."""

    port: int
    intake: MemoryIntake

    def answers(self, messages: list[list[bytes]]) -> list[tuple[int, bytes]]:
        """Return the PDUs that it answers to the messages of one association."""
        self.intake.instances.clear()
        self.intake.ends.clear()
        answers: list[tuple[int, bytes]] = []
        with Wire(self.port, seconds=_SILENCE_SECONDS) as wire:
            wire.establish()
            for chunks in messages:
                for chunk in chunks:
                    wire.send(chunk)
                answers += _answers(wire)
                if answers and answers[-1][0] != DATA:
                    break
        return answers

    def record(self) -> tuple[list[tuple[str, str, bytes]], list[AssociationEnd]]:
        """Return the instances that it stored and the ends that it reported."""
        stored = [
            (one.sop_instance_uid, one.transfer_syntax_uid, data_set_of(one.path))
            for one in self.intake.instances
        ]
        return stored, [how for _, _, how in self.intake.ends]


def _answers(wire: Wire) -> list[tuple[int, bytes]]:
    """Return the next PDU, or none where the receiver waits for more."""
    try:
        return [wire.read()]
    except TimeoutError:
        return []


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Receiver, Receiver]]:
    with ExitStack() as stack:

        def receiver(name: str) -> Receiver:
            intake = MemoryIntake()
            spool = Spool(tmp_path_factory.mktemp(name))
            node = start(
                ScpSettings(ae_title="RALES", host="127.0.0.1", port=0, network_timeout=5.0),
                spool=spool,
                intake=intake,
                clock=lambda: datetime.now(UTC),
            )
            return Receiver(stack.enter_context(node).port, intake)

        short = receiver("short")
        with patch.object(scp.server, "_on_established", lambda *_: None):
            plain = receiver("plain")
        yield short, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A C-STORE and how it is cut and damaged."""

    uid: str = _UIDS[0]
    context: int = _EXPLICIT
    elements: dict[int, bytes | None] = field(default_factory=dict)
    cut_content_at: int | None = None
    command_cut_at: int | None = None
    value_sizes: tuple[int, ...] = (1 << 16,)
    values_in_a_pdu: int = 1
    odd_value: tuple[int, int, int] | None = None
    """Position, context and control header of a presentation data value in between."""
    control_bits: int = 0
    damage: tuple[int, bytes, int] | None = None
    """Position, bytes, and how many bytes they replace."""
    chunk_sizes: tuple[int, ...] = (1 << 16,)

    def chunks(self) -> list[bytes]:
        """Return the bytes in the pieces in which they are sent."""
        return list(_pieces(self.stream(), list(self.chunk_sizes)))

    def stream(self) -> bytes:
        """Return the bytes."""
        content = _IMAGES.get((self.uid, self.context), b"")[: self.cut_content_at]
        elements = store_command(instance=self.uid.encode()) | self.elements
        command = command_set({n: value for n, value in elements.items() if value is not None})
        values = [
            *self._values(command, 0x01, [self.command_cut_at or len(command)]),
            *self._values(content, 0x00, list(self.value_sizes)),
        ]
        if self.odd_value is not None:
            place, context, control = self.odd_value
            values.insert(place % (len(values) + 1), _value(b"odd", context, control))
        stream = b"".join(
            pdu(DATA, b"".join(values[place : place + self.values_in_a_pdu]))
            for place in range(0, len(values), self.values_in_a_pdu)
        )
        if self.damage is not None:
            place, new, replaced = self.damage
            place %= len(stream) + 1
            stream = stream[:place] + new + stream[place + replaced :]
        return stream

    def _values(self, content: bytes, kind: int, sizes: list[int]) -> Iterator[bytes]:
        pieces = list(_pieces(content, sizes)) or [b""]
        for number, piece in enumerate(pieces):
            last = 0x02 if number == len(pieces) - 1 else 0x00
            yield _value(piece, self.context, kind | last | self.control_bits)


def _end_of_message(stream: bytes) -> int | None:
    """Return where the message ends, by the headers of PDUs and values; None where it does not."""
    place, end, command = 0, len(stream), b""
    while place + 12 <= end:
        size = struct.unpack_from(">L", stream, place + 2)[0]
        pdu_end, place = place + 6 + size, place + 6
        while place + 6 <= min(pdu_end, end):
            length, _, control = struct.unpack_from(">LBB", stream, place)
            command += stream[place + 6 : place + 4 + length] if control & 1 else b""
            place += 4 + length
            if control & 2 and (not control & 1 or _NO_DATA_SET in command):
                return place
        place = pdu_end
    return None


def _value(content: bytes, context: int, control: int) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context, control) + content


def _pieces(content: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield ``content`` in pieces of ``sizes``; the last size is repeated."""
    place = 0
    while place < len(content):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        yield content[place : place + size]
        place += size


_SIZES = st.lists(st.integers(1, 40) | st.integers(41, 2000), min_size=1, max_size=5).map(
    lambda sizes: (*sizes, 997)
)
_ELEMENTS = st.dictionaries(
    st.sampled_from(
        [0x0002, 0x0100, 0x0110, 0x0120, 0x0600, 0x0700, 0x0800, 0x1000, 0x1030, 0x1031]
    ),
    st.sampled_from(
        [
            None,
            b"",
            b"\0",
            b"\0\0",
            b"\1\1",
            b"\1\0\0\0",
            b"\2\0",
            b"\x30\0",
            b"\xff\x0f",
            b"MOVER ",
            _CT + b"\0",
            _CT + b" ",
            _MR + b"\0",
            b"1.2.3\0",
            b"1.02\0\0",
            b"A.B ",
            b"\xff\xfe",
        ]
    ),
    max_size=2,
)
_WHOLE = st.builds(
    Store,
    uid=st.sampled_from(_UIDS),
    context=st.sampled_from([_EXPLICIT, _IMPLICIT]),
    value_sizes=_SIZES,
    values_in_a_pdu=st.integers(1, 4),
    chunk_sizes=_SIZES,
)
_ODD = st.builds(
    Store,
    uid=st.sampled_from([*_UIDS, ""]),
    context=st.sampled_from([_EXPLICIT, _IMPLICIT, _VERIFICATION, _UNKNOWN]),
    elements=_ELEMENTS,
    cut_content_at=st.none() | st.integers(0, 900),
    command_cut_at=st.none() | st.integers(1, 60),
    value_sizes=_SIZES,
    values_in_a_pdu=st.integers(1, 4),
    odd_value=st.none()
    | st.tuples(
        st.integers(0, 9),
        st.sampled_from([_EXPLICIT, _IMPLICIT, _VERIFICATION, _UNKNOWN]),
        st.integers(0, 4),
    ),
    control_bits=st.sampled_from([0, 0, 0, 0x80]),
    damage=st.none()
    | st.tuples(st.integers(0, 3000), st.binary(max_size=4), st.integers(0, 4))
    | st.tuples(st.integers(0, 3000), st.just(pdu(ABORT, bytes(4))), st.just(999)),
    chunk_sizes=_SIZES,
)


@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(before=[Store(), Store()], odd=Store(odd_value=(1, _IMPLICIT, 0)))
@example(before=[Store()], odd=Store(value_sizes=(100,), values_in_a_pdu=9, odd_value=(4, 1, 3)))
@example(before=[Store()], odd=Store(damage=(0, b"", 1)))
@example(before=[Store()], odd=Store(elements={0x0700: b"\x30\0"}))
@example(before=[Store()], odd=Store(damage=(300, pdu(ABORT, bytes(4)), 999)))
@example(before=[Store()], odd=Store(value_sizes=(100,), damage=(590, pdu(ABORT, bytes(4)), 0)))
@given(before=st.lists(_WHOLE, max_size=2), odd=_ODD)
def test_a_stream_has_the_same_outcome_as_in_pynetdicom(
    receivers: tuple[Receiver, Receiver], before: list[Store], odd: Store
) -> None:
    release = [pdu(RELEASE_RQ, bytes(4))]
    end = _end_of_message(odd.stream() + release[0])
    # pynetdicom reads what follows a message while it answers: either may come first.
    assume(end in {None, len(odd.stream())})
    others = set(threading.enumerate())
    messages = [store.chunks() for store in before]
    messages += [odd.chunks() + release] if end is None else [odd.chunks(), release]
    with ThreadPoolExecutor(2) as pool:
        short, plain = pool.map(lambda receiver: receiver.answers(messages), receivers)
    for one, other in ((short, plain), (plain, short)):
        if one[-1:] == [_CLOSED] and other[-1][0] == ABORT:
            # A connection that is closed with unread bytes loses the A-ABORT before its end.
            other[-1] = _CLOSED
    assert short == plain
    wait_for(
        "the threads of both associations to end", lambda: set(threading.enumerate()) <= others
    )
    assert receivers[0].record() == receivers[1].record()


def test_a_plain_store_takes_the_data_path_and_anything_else_does_not(
    receivers: tuple[Receiver, Receiver],
) -> None:
    taken: list[bool] = []
    take = DataPath._take

    def noted(path: DataPath, content: memoryview) -> bool:
        taken.append(take(path, content))
        return taken[-1]

    echo = {0x0002: b"1.2.840.10008.1.1\0", 0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: b"\1\1"}
    echo_pdu = pdu(DATA, _value(command_set(echo), _VERIFICATION, 0x03))
    messages = [Store().chunks(), [echo_pdu], Store().chunks(), [pdu(RELEASE_RQ, bytes(4))]]
    with patch.object(DataPath, "_take", noted):
        answers = receivers[0].answers(messages)
    assert [kind for kind, _ in answers] == [DATA, DATA, DATA, RELEASE_RP]
    # Each PDU of the two images was taken, and that of the C-ECHO was left to pynetdicom.
    assert taken == [True, True, False, True, True]
