"""Storage commitment (PS3.4 annex J): nothing counts as delivered that was not committed."""

from __future__ import annotations

import json
import re
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from fakes import FakeSender
from ports import free_port
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from sending import send
from state_rig import NOON, StateRig, received_instance
from steps import step_all
from tiny_node import TinyNode, send_files, tiny_thorax, write_models, write_tiny_series
from waiting import wait_for

from chestct.errors import ReportInvalid
from chestct.results import ResultObject
from chestct.states import DeliveryState, JobState
from chestct.uids import Uid, derive_uid
from dicom_out.network.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    CommitmentReport,
    parse_report,
    request_commitment,
)
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind
from pynetdicom_guard.reactor_gate import park_reactor, put_gate
from rales.config.file import parse
from rales.config.peers import destinations_of
from rales.demo.pacs import answers, running
from rales.state.store import CommitmentStore, Database, DeliveryStore, InstanceStore, Job
from rales.steps.backoff import BackOff
from rales.steps.commit import CommitmentWorker
from rales.steps.deliver import DeliveryWorker
from rales.steps.retry import retry
from scp.server import RunningScp, ScpSettings, start
from scp.spool import Spool

_SECONDS = 30.0
SEG, SR = Uid("1.2.840.10008.5.1.4.1.1.66.4"), Uid("1.2.840.10008.5.1.4.1.1.88.34")
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_BACK_OFF = BackOff(
    first=timedelta(seconds=5), longest=timedelta(seconds=60), give_up_after=timedelta(hours=1)
)


@dataclass
class CommittingPacs:
    """A PACS of pynetdicom that commits to what it holds: on the same association or later.

    ``drops`` are classes of objects that it takes, answers 0x0000 and throws away.
    """

    title: str = "PACS"
    same_association: bool = True
    silent: bool = False
    drops: set[str] = field(default_factory=set)
    report_to: tuple[str, int] | None = None
    propose_role: bool = True
    held: dict[str, str] = field(default_factory=dict)
    stores: int = 0
    asked: list[Dataset] = field(default_factory=list)
    replies: list[int | None] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    port: int = 0

    def __enter__(self) -> Self:
        ae = AE(ae_title=self.title)
        for uid in (SEG, SR):
            ae.add_supported_context(uid, _SYNTAXES)
        ae.add_supported_context(PUSH_MODEL, _SYNTAXES)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._action),
            (evt.EVT_DATA_SENT, self._after_answer),
            (evt.EVT_CONN_OPEN, _gate),
        ]
        self._pending: dict[Any, Dataset] = {}
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.ae.shutdown()

    @property
    def destination(self) -> Destination:
        return Destination(
            name="pacs", ae_title=self.title, host="127.0.0.1", port=self.port, commitment=True
        )

    def _store(self, event: Any) -> int:
        request = event.request
        self.stores += 1
        if request.AffectedSOPClassUID not in self.drops:
            self.held[request.AffectedSOPInstanceUID] = request.AffectedSOPClassUID
        return 0x0000

    def _action(self, event: Any) -> tuple[int, None]:
        assert event.request.RequestedSOPInstanceUID == PUSH_MODEL_INSTANCE
        assert event.request.ActionTypeID == 1
        self.asked.append(event.action_information)
        if not self.silent:
            self._pending[event.assoc] = self.asked[-1]
        return 0x0000, None

    def _after_answer(self, event: Any) -> None:
        """Report once the answer to the N-ACTION is on the wire, from a thread of its own."""
        is_message = event.data[0] == 0x04
        asked = self._pending.pop(event.assoc, None) if is_message else None
        if asked is None:
            return
        report = self.report_of(asked)
        run = partial(self._report_there, event.assoc, *report) if self.same_association else None
        run = run or partial(self.report_anew, *report)
        threading.Thread(target=run, daemon=True).start()

    def report_of(self, asked: Dataset) -> tuple[int, Dataset]:
        held, failed = [], []
        for item in asked.ReferencedSOPSequence:
            if item.ReferencedSOPInstanceUID in self.held:
                held.append(item)
            else:
                item.FailureReason = 0x0112
                failed.append(item)
        information = Dataset()
        information.TransactionUID = asked.TransactionUID
        if held:
            information.ReferencedSOPSequence = held
        if failed:
            information.FailedSOPSequence = failed
        return 2 if failed else 1, information

    def _report_there(self, association: Any, kind: int, information: Dataset) -> None:
        self._send(association, kind, information)

    def report_anew(self, kind: int, information: Dataset) -> None:
        """Open an association to the node as the SCP of the class (PS3.7 D.3.3.4)."""
        assert self.report_to is not None
        ae = AE(ae_title=self.title)
        ae.add_requested_context(PUSH_MODEL, _SYNTAXES)
        roles = [build_role(PUSH_MODEL, scp_role=True)] if self.propose_role else []
        title, port = self.report_to
        association = ae.associate(
            "127.0.0.1",
            port,
            ae_title=title,
            ext_neg=roles,
            evt_handlers=[(evt.EVT_CONN_OPEN, _gate)],
        )
        assert association.is_established
        self._send(association, kind, information)
        association.release()

    def _send(self, association: Any, kind: int, information: Dataset) -> None:
        if not self.propose_role:
            # pynetdicom sends as SCP only with the role; others do not look.
            association.accepted_contexts[0]._as_scp = True
        assert park_reactor(association)
        status, _ = association.send_n_event_report(
            information, kind, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
        with self.changed:
            self.replies.append(status.get("Status"))
            self.changed.notify_all()

    def wait_for_replies(self, count: int) -> list[int | None]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.replies) >= count, _SECONDS)
        return self.replies


def _gate(event: Any) -> None:
    """Keep pynetdicom from losing the responses that the fake waits for; see ReactorGate."""
    put_gate(event.assoc)


class Node(StateRig):
    """The delivery half of a node over a real state file, with one job that has results."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Database(folder / "state.sqlite"))
        self.folder = folder
        self.deliveries = DeliveryStore(self.database)
        self.commitments = CommitmentStore(self.database)
        self.job = self._compose()
        self.destination = Destination(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=104, commitment=True
        )

    def _compose(self) -> Job:
        self.instances.record(received_instance(self.folder / "ct.dcm"))
        claimed = self.claim()
        objects = [self._object(role, kind) for role, kind in (("seg", SEG), ("sr", SR))]
        result = {"objects": [_as_dict(item) for item in objects]}
        self.jobs.composed(claimed, key="k", result=result, at=NOON, message="ok")
        return claimed

    def _object(self, role: str, kind: Uid) -> ResultObject:
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = kind, derive_uid("committed", role)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2", derive_uid("series", role)
        dataset.PatientID = "P"
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = self.folder / f"{role}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return ResultObject(
            role=role,
            path=path,
            sop_class_uid=kind,
            sop_instance_uid=Uid(dataset.SOPInstanceUID),
            series_uid=derive_uid("series", role),
            study_uid=Uid("1.2"),
        )

    def workers(
        self, destination: Destination, sender: Any = None, requester: Any = None
    ) -> tuple[DeliveryWorker, CommitmentWorker]:
        common: dict[str, Any] = {
            "jobs": self.jobs,
            "destinations": {destination.name: destination},
            "back_off": _BACK_OFF,
            "clock": self.clock,
        }
        caller: dict[str, Any] = {"calling_ae": "RALES", "timeout_seconds": 10.0}
        delivery = DeliveryWorker(
            deliveries=self.deliveries, sender=sender or partial(send, **caller), **common
        )
        commitment = CommitmentWorker(
            commitments=self.commitments,
            requester=requester or partial(request_commitment, **caller),
            timeout=timedelta(minutes=10),
            **common,
        )
        return delivery, commitment

    def state(self) -> JobState:
        return self.jobs.get(self.job.id).state

    def states(self) -> list[DeliveryState]:
        return [one.state for one in self.deliveries.of_job(self.job.id)]

    def rows(self) -> list[tuple[str, str | None, int | None]]:
        """Return role, answered at and failure reason of every object asked for."""
        found = self.database.rows("SELECT * FROM commitments ORDER BY rowid")
        return [(row["role"], row["answered_at"], row["failure_reason"]) for row in found]


def _as_dict(item: ResultObject) -> dict[str, str | int]:
    return {
        "role": item.role,
        "path": str(item.path),
        "sop_class_uid": item.sop_class_uid,
        "sop_instance_uid": item.sop_instance_uid,
        "series_uid": item.series_uid,
        "study_uid": item.study_uid,
        "digest": item.digest,
        "size": item.size,
    }


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[[CommitmentWorker], RunningScp]]:
    """Start the node's receiver, which takes reports on associations that a PACS opens."""
    with ExitStack() as stack:

        def begin(worker: CommitmentWorker, port: int = 0, **settings: Any) -> RunningScp:
            database = Database(tmp_path / "receiver.sqlite")
            stack.callback(database.close)
            return stack.enter_context(
                start(
                    ScpSettings(ae_title="RALES", host="127.0.0.1", port=port, **settings),
                    spool=Spool(tmp_path / "spool"),
                    intake=InstanceStore(database, on_change=lambda: None),
                    clock=lambda: datetime.now(UTC),
                    on_commitment_report=worker.on_report,
                )
            )

        yield begin


def test_a_report_on_the_same_association_delivers(node: Node) -> None:
    with CommittingPacs() as pacs:
        delivery, commitment = node.workers(pacs.destination)
        step_all(delivery, NOON)
        assert node.states() == [DeliveryState.STORED] * 2
        assert node.state() is JobState.DELIVERING, "stored is not yet delivered"
        step_all(commitment, NOON)
        assert pacs.wait_for_replies(1) == [0x0000]
    assert node.states() == [DeliveryState.DELIVERED] * 2
    step_all(delivery, NOON)
    assert node.state() is JobState.DONE
    assert [(role, reason) for role, _, reason in node.rows()] == [("seg", None), ("sr", None)]
    assert all(answered for _, answered, _ in node.rows())


@pytest.mark.parametrize("role", ["scp", "none proposed"])
def test_a_report_on_a_new_association_delivers(
    node: Node, listen: Callable[..., RunningScp], role: str
) -> None:
    with CommittingPacs(same_association=False, propose_role=role == "scp") as pacs:
        delivery, commitment = node.workers(pacs.destination)
        pacs.report_to = ("RALES", listen(commitment).port)
        step_all(delivery, NOON)
        step_all(commitment, NOON)
        assert pacs.wait_for_replies(1) == [0x0000]
    assert node.states() == [DeliveryState.DELIVERED] * 2


def test_what_a_pacs_took_and_dropped_is_sent_again_until_it_is_kept(node: Node) -> None:
    with CommittingPacs(drops={SR}) as pacs:
        delivery, commitment = node.workers(pacs.destination)
        step_all(delivery, NOON)
        step_all(commitment, NOON)
        pacs.wait_for_replies(1)
        assert node.states() == [DeliveryState.DELIVERED, DeliveryState.PENDING]
        seg, sr = node.deliveries.of_job(node.job.id)
        assert "no such object there (0x0112)" in sr.message
        assert sr.due_at == NOON + timedelta(seconds=5)
        assert node.state() is JobState.DELIVERING
        pacs.drops.clear()
        now = node.clock.advance(5)
        step_all(delivery, now)
        step_all(commitment, now)
        assert pacs.wait_for_replies(2) == [0x0000, 0x0000]
        step_all(delivery, now)
        assert pacs.stores == 3, "the SEG, which is committed, is not sent again"
        assert set(pacs.held) == {seg.sop_instance_uid, sr.sop_instance_uid}
    assert node.state() is JobState.DONE
    reasons = [(role, reason) for role, _, reason in node.rows()]
    assert reasons == [("seg", None), ("sr", 0x0112), ("sr", None)]


def _asked(node: Node) -> Uid:
    (uid,) = {one.transaction_uid for one in node.deliveries.of_job(node.job.id)}
    assert uid is not None
    return uid


def _accepts_silently(*_: object, **__: object) -> Outcome:
    return Outcome(kind=OutcomeKind.DELIVERED, status=0, message="commitment requested")


def test_without_a_report_everything_is_sent_and_asked_for_again(node: Node) -> None:
    sender = FakeSender()
    delivery, commitment = node.workers(node.destination, sender, _accepts_silently)
    step_all(delivery, NOON)
    assert step_all(commitment, NOON) == NOON + timedelta(minutes=10)
    first = _asked(node)
    assert step_all(commitment, node.clock.advance(599)) == NOON + timedelta(minutes=10)
    assert node.states() == [DeliveryState.STORED] * 2
    step_all(commitment, node.clock.advance(1))
    assert node.states() == [DeliveryState.PENDING] * 2
    now = node.clock.advance(5)
    step_all(delivery, now)
    step_all(commitment, now)
    assert _asked(node) != first
    assert len(sender.sent) == 4


def test_a_late_report_counts_and_its_repetition_changes_nothing(node: Node) -> None:
    delivery, commitment = node.workers(node.destination, FakeSender(), _accepts_silently)
    step_all(delivery, NOON)
    step_all(commitment, NOON)
    uids = frozenset(one.sop_instance_uid for one in node.deliveries.of_job(node.job.id))
    late = CommitmentReport(transaction_uid=_asked(node), committed=uids, failed={})
    step_all(commitment, node.clock.advance(601))
    assert node.states() == [DeliveryState.PENDING] * 2
    assert commitment.take(late)
    assert commitment.take(late)
    assert node.states() == [DeliveryState.DELIVERED] * 2
    failed = CommitmentReport(
        transaction_uid=late.transaction_uid,
        committed=frozenset(),
        failed=dict.fromkeys(uids, 0x0112),
    )
    assert commitment.take(failed)
    assert node.states() == [DeliveryState.DELIVERED] * 2


def test_an_object_that_the_report_forgets_is_not_delivered(node: Node) -> None:
    delivery, commitment = node.workers(node.destination, FakeSender(), _accepts_silently)
    step_all(delivery, NOON)
    step_all(commitment, NOON)
    seg, _ = node.deliveries.of_job(node.job.id)
    commitment.take(
        CommitmentReport(
            transaction_uid=_asked(node),
            committed=frozenset({seg.sop_instance_uid, Uid("1.2.3.4.5")}),
            failed={},
        )
    )
    assert node.states() == [DeliveryState.DELIVERED, DeliveryState.STORED]
    step_all(commitment, node.clock.advance(601))
    assert node.states() == [DeliveryState.DELIVERED, DeliveryState.PENDING]


@pytest.mark.parametrize("reason", [0x0119, 0x0122])
def test_a_final_failure_ends_the_job_failed_and_a_retry_starts_anew(
    node: Node, reason: int
) -> None:
    delivery, commitment = node.workers(node.destination, FakeSender(), _accepts_silently)
    step_all(delivery, NOON)
    step_all(commitment, NOON)
    seg, sr = (one.sop_instance_uid for one in node.deliveries.of_job(node.job.id))
    commitment.take(
        CommitmentReport(
            transaction_uid=_asked(node), committed=frozenset({seg}), failed={sr: reason}
        )
    )
    step_all(delivery, NOON)
    job = node.jobs.get(node.job.id)
    assert job.state is JobState.FAILED
    assert f"0x{reason:04X}" in job.message
    retry(node.jobs, job, at=NOON)
    assert node.states() == [DeliveryState.DELIVERED, DeliveryState.PENDING]


def test_a_pacs_that_never_commits_is_given_up_in_the_end(node: Node) -> None:
    delivery, commitment = node.workers(node.destination, FakeSender(), _accepts_silently)
    for _ in range(9):
        now = node.clock.advance(700)
        step_all(delivery, now)
        step_all(commitment, now)
    step_all(delivery, node.clock.now)
    job = node.jobs.get(node.job.id)
    assert job.state is JobState.FAILED
    assert "given up: no commitment report" in job.message


def test_a_pacs_that_cannot_be_asked_is_asked_again_without_sending(node: Node) -> None:
    answers = [Outcome(kind=OutcomeKind.FAILED, status=None, message="cannot be reached")]
    sender = FakeSender()

    def requester(*_: object, **__: object) -> Outcome:
        return answers.pop() if answers else _accepts_silently()

    delivery, commitment = node.workers(node.destination, sender, requester)
    step_all(delivery, NOON)
    assert step_all(commitment, NOON) == NOON + timedelta(seconds=5)
    assert (
        "cannot be requested: cannot be reached" in node.deliveries.of_job(node.job.id)[0].message
    )
    step_all(commitment, node.clock.advance(5))
    assert node.states() == [DeliveryState.STORED] * 2
    assert _asked(node)
    assert len(sender.sent) == 2


def test_a_pacs_without_the_service_is_named_with_the_remedy(node: Node) -> None:
    ae = AE(ae_title="PACS")
    ae.add_supported_context(SEG, _SYNTAXES)
    ae.add_supported_context(SR, _SYNTAXES)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0x0000)]
    )
    destination = Destination(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=server.server_address[1],
        commitment=True,
    )
    delivery, commitment = node.workers(destination)
    step_all(delivery, NOON)
    step_all(commitment, NOON)
    step_all(delivery, NOON)
    ae.shutdown()
    job = node.jobs.get(node.job.id)
    assert job.state is JobState.FAILED
    assert "does not accept Storage Commitment Push Model" in job.message
    assert "destinations.commitment = false" in job.message


def test_a_stop_between_asking_and_answer_loses_nothing(node: Node, tmp_path: Path) -> None:
    def dies(*_: object, **__: object) -> Outcome:
        raise KeyboardInterrupt

    delivery, commitment = node.workers(node.destination, FakeSender(), dies)
    step_all(delivery, NOON)
    with pytest.raises(KeyboardInterrupt):
        step_all(commitment, NOON)
    uids = frozenset(one.sop_instance_uid for one in node.deliveries.of_job(node.job.id))
    transaction = _asked(node)
    _, after_restart = node.workers(node.destination, FakeSender(), _accepts_silently)
    report = CommitmentReport(transaction_uid=transaction, committed=uids, failed={})
    assert after_restart.take(report)
    assert node.states() == [DeliveryState.DELIVERED] * 2


class AskingNode(TinyNode):
    """A whole node whose destinations are to commit."""

    def write_config(self) -> Path:
        path = super().write_config()
        asks = re.sub(r"(\[\[destinations\]\]\n)", r"\1commitment = true\n", path.read_text())
        path.write_text(asks)
        return path


def test_a_kill_while_a_whole_node_waits_for_the_report_neither_loses_nor_resends(
    tmp_path: Path,
) -> None:
    thorax = tiny_thorax()
    sent = write_tiny_series(thorax, tmp_path, "COMMITTED")
    models = write_models(tmp_path / "models", thorax)
    with CommittingPacs(silent=True) as pacs:
        whole = AskingNode(tmp_path, models, [pacs.destination])
        whole.start()
        try:
            assert send_files(whole.port, sent.files, set())
            wait_for("the request", lambda: pacs.asked)
            whole.kill()
            states = whole.rows("SELECT DISTINCT state FROM deliveries")
            assert states == [("stored",)]
            assert whole.jobs(sent.uid) == [("delivering", "")]
            whole.start()
            pacs.report_to = ("RALES", whole.port)
            pacs.report_anew(*pacs.report_of(pacs.asked[0]))
            assert pacs.wait_for_replies(1) == [0x0000]
            assert whole.ended(sent.uid) == "done"
            assert whole.terminate() == 0
        finally:
            if whole.process is not None and whole.process.poll() is None:
                whole.kill()
    assert pacs.stores == 2
    assert len(pacs.asked) == 1


def test_switching_commitment_off_lets_what_was_stored_count(node: Node) -> None:
    delivery, commitment = node.workers(node.destination, FakeSender(), _accepts_silently)
    step_all(delivery, NOON)
    step_all(commitment, NOON)
    plain = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    delivery, commitment = node.workers(plain, FakeSender(), _accepts_silently)
    step_all(commitment, NOON)
    step_all(delivery, NOON)
    assert node.state() is JobState.DONE


def _report(pacs: CommittingPacs, kind: int, **changes: Any) -> int | None:
    information = Dataset()
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SEG, "1.2.3"
    information.TransactionUID, information.ReferencedSOPSequence = "2.25.99", [item]
    for name, value in changes.items():
        setattr(information, name, value)
    before = len(pacs.replies)
    pacs.report_anew(kind, information)
    return pacs.wait_for_replies(before + 1)[-1]


def test_a_report_that_nobody_asked_for_is_refused_and_changes_nothing(
    node: Node, listen: Callable[..., RunningScp]
) -> None:
    delivery, commitment = node.workers(node.destination, FakeSender(), _accepts_silently)
    step_all(delivery, NOON)
    step_all(commitment, NOON)
    with CommittingPacs() as pacs:
        pacs.report_to = ("RALES", listen(commitment).port)
        assert _report(pacs, 1) == 0x0115
        assert _report(pacs, 7) == 0x0115
        assert _report(pacs, 1, TransactionUID=None) == 0x0115
    assert node.states() == [DeliveryState.STORED] * 2


def test_a_report_that_cannot_be_recorded_is_not_acknowledged(
    node: Node, listen: Callable[..., RunningScp]
) -> None:
    delivery, commitment = node.workers(node.destination, FakeSender(), _accepts_silently)
    step_all(delivery, NOON)
    step_all(commitment, NOON)
    transaction = _asked(node)
    node.database.rows("PRAGMA query_only = ON")
    with CommittingPacs() as pacs:
        pacs.report_to = ("RALES", listen(commitment).port)
        assert _report(pacs, 1, TransactionUID=transaction) == 0x0213
    node.database.rows("PRAGMA query_only = OFF")
    assert node.states() == [DeliveryState.STORED] * 2


def test_the_node_itself_commits_to_nothing(node: Node, listen: Callable[..., RunningScp]) -> None:
    _, commitment = node.workers(node.destination)
    port = listen(commitment).port
    ae = AE(ae_title="PACS")
    ae.add_requested_context(PUSH_MODEL, _SYNTAXES)
    association = ae.associate("127.0.0.1", port, ae_title="RALES")
    information = Dataset()
    information.TransactionUID = "2.25.1"
    information.ReferencedSOPSequence = []
    status, _ = association.send_n_action(information, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    association.release()
    assert status.Status != 0x0000


def test_without_a_destination_that_asks_for_it_the_class_is_not_offered(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.sqlite")
    scp = start(
        ScpSettings(ae_title="RALES", host="127.0.0.1", port=0),
        spool=Spool(tmp_path / "spool"),
        intake=InstanceStore(database, on_change=lambda: None),
        clock=lambda: datetime.now(UTC),
    )
    ae = AE(ae_title="PACS")
    ae.add_requested_context(PUSH_MODEL, _SYNTAXES)
    association = ae.associate("127.0.0.1", scp.port, ae_title="RALES")
    established = association.is_established
    scp.stop()
    database.close()
    assert not established


def test_an_object_that_stands_in_both_lists_counts_as_failed() -> None:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SEG, "1.2.3"
    information = Dataset()
    information.TransactionUID = "2.25.1"
    information.ReferencedSOPSequence = information.FailedSOPSequence = [item]
    report = parse_report(2, information)
    assert (report.committed, report.failed) == (frozenset(), {"1.2.3": 0x0110})
    with pytest.raises(ReportInvalid):
        parse_report(None, information)


def test_the_configuration_says_who_is_asked() -> None:
    one = {"name": "a", "ae_title": "A", "host": "h", "port": 1}
    config = parse({"destinations": [one, one | {"name": "b", "commitment": True}]})
    found = destinations_of(config)
    assert [found[name].commitment for name in ("a", "b")] == [False, True]


@pytest.mark.orthanc
def test_a_real_orthanc_commits_on_an_association_of_its_own(
    node: Node, listen: Callable[..., RunningScp], tmp_path: Path
) -> None:
    if shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("Orthanc is not installed")
    destination = Destination(
        name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=free_port(), commitment=True
    )
    delivery, commitment = node.workers(destination)
    config = {
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "DicomAet": destination.ae_title,
        "DicomPort": destination.port,
        "DicomModalities": {"rales": ["RALES", "127.0.0.1", listen(commitment).port]},
        "HttpPort": free_port(),
        "RemoteAccessAllowed": False,
    }
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps(config))
    with running(["Orthanc", str(file)], tmp_path / "orthanc.log"):
        wait_for("Orthanc", lambda: answers(destination), 2 * _SECONDS)
        step_all(delivery, NOON)
        assert node.states() == [DeliveryState.STORED] * 2
        step_all(commitment, NOON)
        wait_for("the report", lambda: _all_delivered(node), _SECONDS)
        retry(node.jobs, _done(node, delivery), at=NOON)
        step_all(delivery, NOON)
        _remove_from(config["HttpPort"], node.deliveries.of_job(node.job.id)[1].sop_instance_uid)
        step_all(commitment, NOON)
        wait_for(
            "the report of a loss", lambda: DeliveryState.PENDING in node.states() or None, _SECONDS
        )
        now = node.clock.advance(5)
        step_all(delivery, now)
        step_all(commitment, now)
        wait_for("the third report", lambda: _all_delivered(node), _SECONDS)
    assert [reason for _, _, reason in node.rows()] == [None, None, None, 0x0112, None]


def _all_delivered(node: Node) -> bool | None:
    return node.states() == [DeliveryState.DELIVERED] * 2 or None


def _done(node: Node, delivery: DeliveryWorker) -> Job:
    step_all(delivery, NOON)
    job = node.jobs.get(node.job.id)
    assert job.state is JobState.DONE
    return job


def _remove_from(port: int, uid: str) -> None:
    """Delete an instance behind the back of its sender."""
    url = f"http://127.0.0.1:{port}"
    query = json.dumps({"Level": "Instance", "Query": {"SOPInstanceUID": uid}}).encode()
    with urllib.request.urlopen(f"{url}/tools/find", data=query, timeout=10) as answer:
        (found,) = json.loads(answer.read())
    request = urllib.request.Request(f"{url}/instances/{found}", method="DELETE")
    with urllib.request.urlopen(request, timeout=10):
        pass
