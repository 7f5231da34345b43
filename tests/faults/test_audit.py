"""The audit trail (PS3.15 A.5): every message fits the schema, gets there, holds nobody up."""

from __future__ import annotations

import base64
import errno
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ct_series import ct_slice, stored_values
from fakes import FakeSender
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from state_rig import NOON

from chestct.errors import ConfigError
from chestct.results import ResultObject
from chestct.uids import Uid, derive_uid
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind
from rales.audit import messages
from rales.audit.hooks import AuditedSender, AuditHooks
from rales.audit.messages import (
    SECURITY_ALERT,
    TRANSFERRED,
    Action,
    Alert,
    AuditedPatient,
    AuditedStudy,
    AuditEvent,
    AuditSource,
    Participant,
    to_xml,
)
from rales.audit.opening import audit_trail, open_transport
from rales.audit.target import parse_target
from rales.audit.trail import AuditTrail
from rales.audit.transports import SyslogHeader
from rales.config.file import parse
from rales.config.sections import AuditConfig
from rales.state.store import Database, InstanceStore
from scp.admission import Admission
from scp.server import RunningScp, ScpSettings, start
from scp.spool import Spool

_SECONDS = 20.0
_SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit-message.rng")))
_ITSELF = Participant(user_id="1", ae_title="RALES", address="node", is_requestor=False)


def parse_syslog(message: bytes) -> tuple[str, Any]:
    """Take an RFC 5424 message apart; return its header and its XML, which fits the schema."""
    head, mark, text = message.partition(b"\xef\xbb\xbf")
    assert mark, "RFC 5424 section 6.4: UTF-8 starts with its byte order mark"
    fields = head.decode("ascii").split(" ")
    assert len(fields) == 8
    assert fields[0] in {"<85>1", "<84>1"}, "PS3.15 A.6: facility 10, severity 5 or 4"
    assert datetime.fromisoformat(fields[1]).tzinfo is not None
    assert fields[3:7] == ["rales", fields[4], "DICOM+RFC3881", "-"]
    document = etree.fromstring(text)
    assert _SCHEMA.validate(document), _SCHEMA.error_log
    return head.decode(), document


def kind_of(document: Any) -> tuple[str, str, str]:
    """Return event, event type and outcome."""
    event = document.find("EventIdentification")
    types = [one.get("csd-code") for one in event.findall("EventTypeCode")]
    return event.find("EventID").get("csd-code"), "".join(types), event.get("EventOutcomeIndicator")


def objects_of(document: Any) -> dict[str, Any]:
    """Return the participant objects by their ID type code."""
    return {
        one.find("ParticipantObjectIDTypeCode").get("csd-code"): one
        for one in document.findall("ParticipantObjectIdentification")
    }


class Received:
    """What a syslog receiver has got so far."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.changed = threading.Condition()

    def add(self, message: bytes) -> None:
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait_for(self, count: int) -> list[Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= count, _SECONDS)
        return [parse_syslog(one)[1] for one in self.messages]


@pytest.fixture
def udp() -> Iterator[tuple[str, Received]]:
    received = Received()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        def read() -> None:
            while content := listener.recv(65536):
                received.add(content)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield f"udp://127.0.0.1:{port}", received
        listener.sendto(b"", ("127.0.0.1", port))
        thread.join(_SECONDS)


@dataclass
class Certificates:
    """A test authority and what it signed."""

    ca: Path
    chain: Path
    key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    key, request, chain = folder / "key.pem", folder / "request.pem", folder / "chain.pem"
    elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName = DNS:localhost, IP:127.0.0.1\n")
    for command in (
        [
            *["req", "-x509", *elliptic, "-keyout", ca_key, "-out", ca, "-days", "2"],
            *["-subj", "/CN=test authority", "-addext", "keyUsage = keyCertSign"],
        ],
        ["req", *elliptic, "-keyout", key, "-out", request, "-subj", "/CN=localhost"],
        [
            *["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-out", chain],
            *["-days", "2", "-CAcreateserial", "-extfile", extensions],
        ],
    ):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return Certificates(ca, chain, key)


class TlsReceiver:
    """A syslog receiver over TLS (RFC 5425) that asks for a client certificate."""

    def __init__(self, certificates: Certificates, received: Received, port: int = 0) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.chain, certificates.key)
        self._context.load_verify_locations(certificates.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._received = received
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._connections: list[ssl.SSLSocket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
                connection = self._context.wrap_socket(plain, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: ssl.SSLSocket) -> None:
        with connection.makefile("rb") as stream:
            while length := _until_space(stream):
                self._received.add(stream.read(int(length)))

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def _until_space(stream: Any) -> bytes:
    """Return MSG-LEN of an octet-counted frame, empty at the end."""
    digits = b""
    try:
        while (one := stream.read(1)) and one != b" ":
            digits += one
    except OSError:
        return b""
    assert digits.isdigit() or not digits
    return digits


@dataclass
class Receiver:
    """A receiver that is audited."""

    scp: RunningScp
    hooks: AuditHooks

    def send(self, *datasets: Dataset, calling: str = "CT1", called: str = "RALES") -> list[int]:
        ae = AE(ae_title=calling)
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.scp.port, ae_title=called)
        if not association.is_established:
            return []
        statuses = [association.send_c_store(one).Status for one in datasets]
        association.release()
        return statuses


@pytest.fixture
def start_receiver(tmp_path: Path) -> Iterator[Callable[[AuditHooks | None], Receiver]]:
    database = Database(tmp_path / "state.sqlite")
    running: list[RunningScp] = []

    def begin(hooks: Any) -> Receiver:
        scp = start(
            ScpSettings(
                ae_title="RALES",
                host="127.0.0.1",
                port=0,
                admission=Admission(callers={"CT1": ()}),
            ),
            spool=Spool(tmp_path / "spool"),
            intake=InstanceStore(database, on_change=lambda: None),
            clock=lambda: datetime.now(UTC),
            audit=hooks,
        )
        running.append(scp)
        return Receiver(scp, hooks)

    yield begin
    for scp in running:
        scp.stop()
    database.close()


def slices(count: int, *, name: str = "Doe^Jane", number: str = "4711") -> list[Dataset]:
    stored = stored_values(count)
    datasets = [ct_slice(index, stored[index]) for index in range(count)]
    for dataset in datasets:
        dataset.PatientName, dataset.PatientID = name, number
        dataset.SpecificCharacterSet = "ISO_IR 192"
    return datasets


def test_what_was_received_is_told_with_patient_study_and_counts(
    udp: tuple[str, Received], start_receiver: Callable[..., Receiver]
) -> None:
    to, received = udp
    with audit_trail(AuditConfig(to=to, site="Hospital"), "RALES") as hooks:
        datasets = slices(3, name="Müller^Jörg")
        assert start_receiver(hooks).send(*datasets) == [0, 0, 0]
        began, ended = received.wait_for(2)
    assert kind_of(began) == ("110102", "", "0")
    assert kind_of(ended) == ("110104", "", "0")
    assert ended.find("EventIdentification").get("EventActionCode") == "C"
    source, destination = ended.findall("ActiveParticipant")
    assert source.get("AlternativeUserID") == "AETITLES=CT1"
    assert source.get("NetworkAccessPointID") == "127.0.0.1"
    assert source.get("NetworkAccessPointTypeCode") == "2"
    assert source.get("UserIsRequestor") == "true"
    assert source.find("RoleIDCode").get("csd-code") == "110153"
    assert destination.get("AlternativeUserID") == "AETITLES=RALES"
    assert destination.find("RoleIDCode").get("csd-code") == "110152"
    assert ended.find("AuditSourceIdentification").get("AuditEnterpriseSiteID") == "Hospital"
    patient, study = objects_of(ended)["2"], objects_of(ended)["110180"]
    assert patient.get("ParticipantObjectID") == "4711"
    assert patient.find("ParticipantObjectName").text == "Müller^Jörg"
    assert study.get("ParticipantObjectID") == datasets[0].StudyInstanceUID
    sop_class = study.find("ParticipantObjectDescription/SOPClass")
    assert (sop_class.get("UID"), sop_class.get("NumberOfInstances")) == (CTImageStorage, "3")


def test_a_resend_is_told_as_read_and_two_patients_as_two_messages(
    udp: tuple[str, Received], start_receiver: Callable[..., Receiver]
) -> None:
    to, received = udp
    one, other = slices(1)[0], slices(2, number="4712")[1]
    with audit_trail(AuditConfig(to=to), "RALES") as hooks:
        receiver = start_receiver(hooks)
        receiver.send(one)
        receiver.send(one, other)
        documents = received.wait_for(6)
    ended = [one for one in documents if kind_of(one)[0] == "110104"]
    actions = [
        (
            objects_of(document)["2"].get("ParticipantObjectID"),
            document.find("EventIdentification").get("EventActionCode"),
        )
        for document in ended
    ]
    assert sorted(actions) == [("4711", "C"), ("4711", "R"), ("4712", "C")]


@pytest.mark.parametrize(("calling", "called"), [("INTRUDER", "RALES"), ("CT1", "SOMEBODY")])
def test_who_is_rejected_by_name_is_a_security_alert(
    udp: tuple[str, Received],
    start_receiver: Callable[..., Receiver],
    calling: str,
    called: str,
) -> None:
    to, received = udp
    with audit_trail(AuditConfig(to=to), "RALES") as hooks:
        assert start_receiver(hooks).send(calling=calling, called=called) == []
        (alert,) = received.wait_for(1)
    assert kind_of(alert) == ("110113", "110126", "4")
    assert alert.findall("ActiveParticipant")[1].get("AlternativeUserID") == f"AETITLES={calling}"
    node = objects_of(alert)["110182"]
    assert node.get("ParticipantObjectID") == "127.0.0.1"
    detail = node.find("ParticipantObjectDetail")
    assert detail.get("type") == "Alert Description"
    assert calling in base64.b64decode(detail.get("value")).decode()


def test_start_and_stop_are_told_around_everything_else(udp: tuple[str, Received]) -> None:
    to, received = udp
    with audit_trail(AuditConfig(to=to), "RALES") as hooks:
        assert hooks is not None
        for tell in (hooks.started, hooks.attached, hooks.detached, hooks.stopped):
            tell()
    kinds = [kind_of(document) for document in received.wait_for(4)]
    assert kinds == [
        ("110100", "110120", "0"),
        ("110108", "110124", "0"),
        ("110108", "110125", "0"),
        ("110100", "110121", "0"),
    ]
    assert received.wait_for(4)[0].find("ActiveParticipant/RoleIDCode").get("csd-code") == "110150"


def test_what_was_sent_is_told_apart_by_its_outcome(
    udp: tuple[str, Received], tmp_path: Path
) -> None:
    to, received = udp
    (tmp_path / "seg.dcm").write_bytes(b"no DICOM: the patient cannot be named")
    objects = [_result(tmp_path / "seg.dcm", role) for role in ("seg", "sr")]
    refused = Outcome(kind=OutcomeKind.REFUSED, status=0x0122, message="refused, status 0x0122")
    stored = Outcome(kind=OutcomeKind.DELIVERED, status=0, message="stored")

    def sender(*_: object) -> list[Outcome]:
        return [refused, stored]

    destination = Destination(name="pacs", ae_title="PACS", host="localhost", port=104)
    with audit_trail(AuditConfig(to=to), "RALES") as hooks:
        assert hooks is not None
        assert list(AuditedSender(sender, hooks)(objects, destination)) == [refused, stored]
        began, *ended = received.wait_for(3)
    assert kind_of(began) == ("110102", "", "0")
    assert [kind_of(one) for one in ended] == [("110104", "", "0"), ("110104", "", "8")]
    assert ended[1].find("EventIdentification/EventOutcomeDescription").text == refused.message
    itself, remote = ended[0].findall("ActiveParticipant")
    assert itself.get("UserIsRequestor") == "true"
    assert itself.find("RoleIDCode").get("csd-code") == "110153"
    assert remote.get("NetworkAccessPointTypeCode") == "1"
    assert objects_of(ended[0])["2"].get("ParticipantObjectID") == "unknown"


def _result(path: Path, role: str) -> ResultObject:
    return ResultObject(
        role=role,
        path=path,
        sop_class_uid=Uid("1.2.840.10008.5.1.4.1.1.66.4"),
        sop_instance_uid=derive_uid("result", role),
        series_uid=derive_uid("series", role),
        study_uid=derive_uid("study"),
    )


def tls_config(port: int, certificates: Certificates, **changes: Any) -> AuditConfig:
    files = {
        "ca_file": certificates.ca,
        "certificate_file": certificates.chain,
        "key_file": certificates.key,
    }
    return AuditConfig(to=f"tls://localhost:{port}", **(files | changes))


def test_tls_brings_the_messages_octet_counted_and_survives_the_receiver(
    certificates: Certificates,
) -> None:
    received = Received()
    receiver = TlsReceiver(certificates, received)
    with audit_trail(tls_config(receiver.port, certificates), "RALES") as hooks:
        assert hooks is not None
        hooks.started()
        hooks.attached()
        received.wait_for(2)
        receiver.stop()
        hooks.detached()
        hooks.stopped()
        receiver = TlsReceiver(certificates, received, receiver.port)
        documents = received.wait_for(4)
    receiver.stop()
    types = [kind_of(document)[1] for document in documents]
    assert types == ["110120", "110124", "110125", "110121"]


def test_tls_tells_nothing_to_a_receiver_that_it_cannot_trust(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    received = Received()
    receiver = TlsReceiver(certificates, received)
    config = tls_config(receiver.port, certificates, ca_file=None)
    transport = open_transport(config)
    assert transport is not None
    with pytest.raises(ssl.SSLCertVerificationError):
        transport.send(b"secret")
    transport.close()
    receiver.stop()
    assert received.messages == []


def test_a_file_is_for_its_owner_only_and_has_one_line_a_message(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "audit.log"
    for _ in range(2):
        with audit_trail(AuditConfig(to=f"file:{path}"), "RALES") as hooks:
            assert hooks is not None
            hooks.started()
            hooks.stopped()
    lines = path.read_bytes().splitlines()
    assert [kind_of(parse_syslog(line)[1])[1] for line in lines] == ["110120", "110121"] * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_is_off_until_it_is_switched_on(tmp_path: Path) -> None:
    assert parse({}).audit.to == "off"
    with audit_trail(AuditConfig(), "RALES") as hooks:
        assert hooks is None


class StuckTransport:
    """A receiver that takes nothing until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.sending = threading.Event()
        self.sent: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.sending.set()
        self.let_go.wait(_SECONDS)
        self.sent.append(message)

    def close(self) -> None:
        """Nothing to give back."""


def _trail(transport: Any, capacity: int) -> AuditTrail:
    return AuditTrail(
        transport,
        source=AuditSource(id="RALES", site=""),
        reporter=_ITSELF,
        header=SyslogHeader(host="node", application="rales", process="1"),
        capacity=capacity,
    )


def test_a_stuck_receiver_holds_nobody_up_and_what_is_lost_is_counted_and_said(
    start_receiver: Callable[..., Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    transport = StuckTransport()
    with _trail(transport, capacity=3) as trail:
        hooks = AuditHooks(trail, _ITSELF, lambda: NOON)
        hooks.started()
        assert transport.sending.wait(_SECONDS)
        began = time.monotonic()
        for _ in range(8):
            hooks.attached()
        assert start_receiver(hooks).send(*slices(2)) == [0, 0]
        assert time.monotonic() - began < _SECONDS
        assert trail.lost >= 5
        lost = trail.lost
        transport.let_go.set()
    documents = [parse_syslog(one)[1] for one in transport.sent]
    alerts = [one for one in documents if kind_of(one) == ("110113", "110134", "8")]
    details = [one.find(".//ParticipantObjectDetail").get("value") for one in alerts]
    said = b" ".join(base64.b64decode(one) for one in details).decode()
    assert sum(int(word) for word in said.split() if word.isdigit()) >= lost
    assert "the audit queue is full" in caplog.text
    assert "audit messages were lost" in caplog.text


def test_an_end_without_a_receiver_comes_in_time_and_says_what_is_unsent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    began = time.monotonic()
    with audit_trail(AuditConfig(to=f"tls://127.0.0.1:{port}"), "RALES") as hooks:
        assert hooks is not None
        hooks.started()
        hooks.stopped()
    assert time.monotonic() - began < _SECONDS
    assert "could not be sent before the end" in caplog.text


@given(text=st.text(), number=st.text())
def test_whatever_a_name_holds_the_message_is_well_formed_and_fits(text: str, number: str) -> None:
    event = AuditEvent(
        event=TRANSFERRED,
        action=Action.CREATE,
        at=NOON,
        participants=(_ITSELF,),
        study=AuditedStudy(uid="1.2", instances={CTImageStorage: 1}),
        patient=AuditedPatient(id=number, name=text),
        description=text,
    )
    document = etree.fromstring(to_xml(event, AuditSource(id="x", site=text)).encode())
    assert _SCHEMA.validate(document), _SCHEMA.error_log


def test_the_schema_of_the_tests_refuses_what_is_no_audit_message() -> None:
    event = AuditEvent(
        event=SECURITY_ALERT,
        action=Action.EXECUTE,
        at=NOON,
        participants=(_ITSELF,),
        alert=Alert(node="n", description="d"),
    )
    text = to_xml(event, AuditSource(id="x", site=""))
    assert _SCHEMA.validate(etree.fromstring(text))
    for wrong in ('EventOutcomeIndicator="0"', ' originalText="Security Alert"', ' UserID="1"'):
        assert wrong in text
        assert not _SCHEMA.validate(etree.fromstring(text.replace(wrong, "")))


@pytest.mark.parametrize(
    "to", ["on", "udp:host", "tcp://host", "udp://", "tls://h:0", "tls://h:70000", "file:"]
)
def test_a_target_that_cannot_be_is_named_with_its_key(to: str) -> None:
    with pytest.raises(ConfigError, match=r"audit\.to"):
        parse({"audit": {"to": to}})


def test_targets_have_the_ports_of_their_rfcs() -> None:
    found = [parse_target(text) for text in ("udp://h", "tls://h", "udp://[::1]:5", "off")]
    assert [(one.host, one.port) if one else None for one in found] == [
        ("h", 514),
        ("h", 6514),
        ("::1", 5),
        None,
    ]


def test_the_fake_sender_fits_the_audited_one(udp: tuple[str, Received], tmp_path: Path) -> None:
    to, received = udp
    destination = Destination(name="pacs", ae_title="PACS", host="10.0.0.1", port=104)
    with audit_trail(AuditConfig(to=to), "RALES") as hooks:
        assert hooks is not None
        list(
            AuditedSender(FakeSender(), hooks)([_result(tmp_path / "gone.dcm", "seg")], destination)
        )
    assert [kind_of(one)[0] for one in received.wait_for(2)] == ["110102", "110104"]


@pytest.mark.parametrize("name", ["&" * 20_000, "\ud800" * 20_000, "é" * 70_000])
def test_a_hostile_name_is_bounded_and_the_trail_goes_on(
    udp: tuple[str, Received], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, received = udp
    names = (name, "next")
    patients = iter([messages.AuditedPatient(id=each, name=each) for each in names])
    monkeypatch.setattr("rales.audit.hooks.patient_of", lambda _path: next(patients))
    destination = Destination(name="pacs", ae_title="PACS", host="10.0.0.1", port=104)
    with audit_trail(AuditConfig(to=to), "RALES") as hooks:
        assert hooks is not None
        for _ in range(2):
            hooks.sending([_result(tmp_path / "gone.dcm", "seg")], destination)
        documents = received.wait_for(2)
    told = [objects_of(one)["2"].get("ParticipantObjectID") for one in documents]
    assert told[1] == "next"
    assert 0 < len(told[0]) <= 1024


def test_a_message_that_can_never_go_is_lost_alone_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[bytes] = []

    class Narrow:
        """Raises over the first, for good."""

        def send(self, message: bytes) -> None:
            if not sent:
                sent.append(b"")
                raise OSError(errno.EMSGSIZE, "Message too long")
            sent.append(message)

        def close(self) -> None:
            """Have nothing to give back."""

    event = messages.AuditEvent(
        event=messages.NETWORK_ENTRY,
        action=messages.Action.EXECUTE,
        at=datetime.now(UTC),
        participants=(),
    )
    trail = AuditTrail(
        Narrow(),
        source=messages.AuditSource(id="R", site=""),
        reporter=messages.Participant(user_id="1", ae_title="R", address="h", is_requestor=False),
        header=SyslogHeader(host="h", application="rales", process="1"),
    )
    with trail:
        for _ in range(3):
            trail.submit(lambda: event)
    assert len(sent) == 1 + 2 + 1, "the other two, and that one was lost"
    assert "is lost" in caplog.text
