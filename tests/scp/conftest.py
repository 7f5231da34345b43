"""A receiver on a free port, an intake that keeps its record in memory, and a bare SCU."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from socketserver import BaseServer
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
)
from pynetdicom import build_context
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from chestct.series import ReceivedInstance
from chestct.uids import Uid
from scp.ports import AssociationEnd, Recorded
from scp.server import RunningScp, ScpSettings, start
from scp.spool import Spool

_SECONDS = 20.0
"""Longer than anything here takes; a test that waits so long has failed."""

_FRAGMENT = 1 << 16

_NUMBERS = itertools.count(10**36)
"""Of new instances: the same in every run, because the names of tests contain their lengths."""


@dataclass
class MemoryIntake:
    """A :class:`scp.ports.Intake` that records in memory."""

    instances: list[ReceivedInstance] = field(default_factory=list)
    ends: list[tuple[frozenset[Uid], str, AssociationEnd]] = field(default_factory=list)
    error: BaseException | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def record(self, instance: ReceivedInstance) -> Recorded:
        with self.changed:
            if self.error is not None:
                raise self.error
            same = [
                one for one in self.instances if one.sop_instance_uid == instance.sop_instance_uid
            ]
            if same and same[-1].content_digest == instance.content_digest:
                return Recorded.REPEATED
            self.instances.append(instance)
            self.changed.notify_all()
            return Recorded.REPLACED if same else Recorded.NEW

    def association_ended(
        self, series_uids: frozenset[Uid], calling_ae: str, how: AssociationEnd, at: datetime
    ) -> None:
        assert at.tzinfo is not None
        with self.changed:
            self.ends.append((series_uids, calling_ae, how))
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, _SECONDS)


class Rejected(Exception):
    """The association was rejected; ``reason`` as in PS3.8 section 9.3.4."""

    def __init__(self, pdu: A_ASSOCIATE_RJ) -> None:
        super().__init__(pdu.reason_str)
        self.result, self.source, self.reason = pdu.result, pdu.source, pdu.reason_diagnostic


class Scu:
    """A storage SCU on a bare socket: it says exactly what a test wants to be said."""

    def __init__(
        self,
        port: int,
        *,
        syntax: str = ExplicitVRLittleEndian,
        sop_class: str = CTImageStorage,
        called: str = "RALES",
        calling: str = "SCANNER",
        host: str = "127.0.0.1",
    ) -> None:
        self.socket = socket.create_connection((host, port), timeout=_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message_id = 0
        self.send(associate_request(sop_class, syntax, called=called, calling=calling))
        kind, body = self.read()
        if kind == 0x03:
            self.socket.close()
            pdu = A_ASSOCIATE_RJ()
            pdu.decode(body)
            raise Rejected(pdu)
        assert kind == 0x02, f"PDU type {kind}"
        self.accepted = _context_result(body) == 0

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def read(self) -> tuple[int, bytes]:
        """Return type and bytes of the next PDU; (0, b"") when the peer closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        return head[0], head + self._exactly(struct.unpack(">L", head[2:])[0])

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            try:
                part = self.socket.recv(count - len(content))
            except ConnectionResetError:
                part = b""
            if not part:
                return content
            content += part
        return content

    def request(self, sop_class: str, sop_instance: str | None, *, command: int = 1) -> bytes:
        """Return the P-DATA-TF of a command set."""
        self._message_id += 1
        dataset = Dataset()
        dataset.AffectedSOPClassUID = sop_class
        dataset.CommandField = command
        dataset.MessageID = self._message_id
        dataset.Priority = 0
        dataset.CommandDataSetType = 0x0001
        if sop_instance is not None:
            dataset.AffectedSOPInstanceUID = sop_instance
        body = encode(dataset, is_implicit_vr=True, is_little_endian=True)
        assert body is not None
        head = bytes(4) + struct.pack("<LL", 4, len(body))
        return p_data(head + body, control=0x03)

    def store(
        self, content: bytes, *, sop_class: str = CTImageStorage, sop_instance: str | None = "1.2.3"
    ) -> Dataset:
        """Send one C-STORE and return the command set of the answer."""
        self.send(self.request(sop_class, sop_instance))
        for place in range(0, max(len(content), 1), _FRAGMENT):
            last = place + _FRAGMENT >= len(content)
            part = content[place : place + _FRAGMENT]
            self.send(p_data(part, control=0x02 if last else 0x00))
        return self.answer()

    def answer(self) -> Dataset:
        kind, body = self.read()
        if kind != 0x04:
            self.socket.close()
            raise ConnectionAbortedError(f"PDU type {kind} instead of an answer")
        return decode(BytesIO(body[12:]), is_implicit_vr=True, is_little_endian=True)

    def release(self) -> None:
        self.send(A_RELEASE_RQ().encode())
        kind, _ = self.read()
        assert kind == 0x06, f"PDU type {kind}"
        self.socket.close()

    def abort(self) -> None:
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = 0, 0
        self.send(pdu.encode())
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self.socket:
            if kind is None and self.socket.fileno() >= 0:
                self.release()


def p_data(content: bytes, *, control: int, context_id: int = 1) -> bytes:
    """Return a P-DATA-TF PDU of one presentation data value (PS3.8 section 9.3.5)."""
    value = struct.pack(">LBB", len(content) + 2, context_id, control) + content
    return struct.pack(">BBL", 4, 0, len(value)) + value


def associate_request(sop_class: str, syntax: str, *, called: str, calling: str) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = primitive.called_ae_title = "X"
    context = build_context(sop_class, syntax)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length = MaximumLengthNotification()
    length.maximum_length_received = 16382
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID("1.2.826.0.1.3680043.9.3811.0.0")
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    encoded = bytes(pdu.encode())
    # Written past pynetdicom, which would not say what it finds improper.
    titles = f"{called:16}{calling:16}".encode("latin-1")
    return encoded[:10] + titles + encoded[42:]


def _context_result(accept: bytes) -> int:
    """Return the result of the only presentation context of an A-ASSOCIATE-AC."""
    place = 74
    while accept[place] != 0x21:
        place += 4 + struct.unpack(">H", accept[place + 2 : place + 4])[0]
    return accept[place + 6]


def make_ct(*, rows: int = 64, columns: int = 64, number: int = 1, **values: Any) -> Dataset:
    """Return a small CT slice; ``values`` replaces attributes, None removes them."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"2.25.{next(_NUMBERS)}"
    dataset.Modality = "CT"
    dataset.PatientName = "Müller^Jörg"
    dataset.PatientID = "4711"
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [0, 0, 2.5 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.7, 0.7]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    pixels = np.arange(rows * columns, dtype=np.int16) % 301 - 150 + number
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def to_bytes(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return the encoded data set, as it goes over the wire."""
    uid = UID(syntax)
    encoded = encode(
        dataset,
        is_implicit_vr=uid.is_implicit_VR,
        is_little_endian=uid.is_little_endian,
        deflated=uid == DeflatedExplicitVRLittleEndian,
    )
    assert encoded is not None
    return bytes(encoded)


def data_set_of(path: Path) -> bytes:
    """Return what follows the file meta information of a Part 10 file."""
    content = path.read_bytes()
    assert content[128:132] == b"DICM"
    assert content[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    return content[144 + struct.unpack("<L", content[140:144])[0] :]


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def serve(
    intake: MemoryIntake, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., RunningScp]]:
    """Return a function that starts a receiver; ``settings`` are those of ScpSettings."""
    # A stop waits for the listening loop's next look; twice a second makes the tests slow.
    forever = BaseServer.serve_forever
    monkeypatch.setattr(BaseServer, "serve_forever", lambda self: forever(self, 0.02))
    with ExitStack() as stack:

        def begin(**settings: Any) -> RunningScp:
            defaults: dict[str, Any] = {"ae_title": "RALES", "host": "127.0.0.1", "port": 0}
            return stack.enter_context(
                start(
                    ScpSettings(**(defaults | settings)),
                    spool=spool,
                    intake=intake,
                    clock=lambda: datetime.now(UTC),
                )
            )

        yield begin


@pytest.fixture
def node(serve: Callable[..., RunningScp]) -> RunningScp:
    return serve()


def store(node: RunningScp, dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """Send one data set over an association of its own and return the answer."""
    with Scu(node.port, syntax=syntax, sop_class=dataset.SOPClassUID) as scu:
        return scu.store(
            to_bytes(dataset, syntax),
            sop_class=dataset.SOPClassUID,
            sop_instance=dataset.SOPInstanceUID,
        )
