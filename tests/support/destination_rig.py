"""Peers that misbehave as they are told, and a delivery worker over a real state file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from state_rig import StateRig, received_instance

from chestct.states import DeliveryState, JobState
from chestct.uids import Uid, derive_uid
from dicom_out.network.destination import Destination
from dicom_out.network.sender import send_each
from rales.state.store import Database, DeliveryStore, Job
from rales.steps.backoff import BackOff
from rales.steps.deliver import DeliveryWorker
from rales.steps.dispatch import Sender

SEG = Uid("1.2.840.10008.5.1.4.1.1.66.4")
SR = Uid("1.2.840.10008.5.1.4.1.1.88.34")
KINDS = {"seg": SEG, "sr": SR}
Answer = Callable[[Any], int]


class Peer:
    """A storage SCP that keeps what it says it keeps, and answers as it is told."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.times: Counter[str] = Counter()
        self.answer: Answer = lambda _event: 0x0000
        self._server: Any = None

    def start(self, *, port: int = 0, kinds: tuple[str, ...] = (SEG, SR)) -> int:
        ae = AE(ae_title="PEER")
        for kind in kinds:
            ae.add_supported_context(kind, ExplicitVRLittleEndian)
        self._server = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return int(self._server.server_address[1])

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.times[uid] += 1
        status = self.answer(event)
        if status == 0x0000 or status >> 12 == 0xB:
            self.kept[uid] = event.request.DataSet.getvalue()
        return status

    def stop(self) -> None:
        if self._server is not None:
            self._server.ae.shutdown()
            self._server = None


class Rig(StateRig):
    """A delivery worker over a real state file and the real sender."""

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(database)
        self.deliveries = DeliveryStore(database)
        self.folder = folder
        self.ports: dict[str, int] = {}

    def arrive(self, series: str = "1.2.3", *, number: int = 1) -> None:
        self.instances.record(
            received_instance(
                self.folder / f"{series}-{number}",
                series=series,
                number=number,
                received_at=self.clock.now,
            )
        )

    def compose(self, series: str = "1.2.3", *, number: int = 1) -> Job:
        self.arrive(series, number=number)
        return self.finish(self.claim(series))

    def finish(self, job: Job) -> Job:
        objects = [self._write(job, role, kind) for role, kind in KINDS.items()]
        self.jobs.composed(
            job, key="k", result={"objects": objects}, at=self.clock.now, message="ok"
        )
        return self.jobs.get(job.id)

    def _write(self, job: Job, role: str, kind: Uid) -> dict[str, Any]:
        uid = derive_uid(job.series_uid, str(job.revision), role)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        path = self.folder / f"{job.id}-{role}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return {
            "role": role,
            "path": str(path),
            "sop_class_uid": kind,
            "sop_instance_uid": uid,
            "series_uid": "2.25.7",
            "study_uid": "1.2",
            "digest": sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }

    def sender(self, timeout: float = 30.0) -> Sender:
        return partial(send_each, calling_ae="RALES", timeout_seconds=timeout)

    def worker(self, timeout: float = 30.0, *, sender: Sender | None = None) -> DeliveryWorker:
        return DeliveryWorker(
            jobs=self.jobs,
            deliveries=self.deliveries,
            destinations={
                name: Destination(name=name, ae_title="PEER", host="127.0.0.1", port=port)
                for name, port in self.ports.items()
            },
            sender=sender or self.sender(timeout),
            back_off=BackOff(
                first=timedelta(seconds=5),
                longest=timedelta(minutes=10),
                give_up_after=timedelta(hours=72),
            ),
            clock=self.clock,
        )

    def states(self, job: Job) -> dict[tuple[str, str], DeliveryState]:
        return {(one.destination, one.role): one.state for one in self.deliveries.of_job(job.id)}

    def state(self, job: Job) -> JobState:
        return self.jobs.get(job.id).state
