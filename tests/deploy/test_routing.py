"""The routing rule, in the real Orthanc: CT goes to Rales once, what Rales made never."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.events import Event
from waiting import wait_for

pytestmark = pytest.mark.orthanc

_KINDS = (CTImageStorage, SegmentationStorage, ComprehensiveSRStorage)


@dataclass(slots=True)
class Rales:
    """A storage SCP in the place of Rales; ``answers`` are used up before success."""

    answers: list[int] = field(default_factory=list)
    received: Counter[str] = field(default_factory=Counter)
    associations: int = 0
    port: int = 0

    def stored(self, event: Event) -> int:
        if self.answers:
            return self.answers.pop(0)
        self.received[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000

    def associated(self, _: Event) -> None:
        self.associations += 1


@pytest.fixture(scope="module")
def node() -> Iterator[Rales]:
    fake = Rales()
    node = AE(ae_title="RALES")
    node.require_called_aet = True
    for kind in _KINDS:
        node.add_supported_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    handlers = [(evt.EVT_C_STORE, fake.stored), (evt.EVT_ESTABLISHED, fake.associated)]
    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    fake.port = server.server_address[1]
    yield fake
    # Orthanc keeps its associations open for a while.
    associations = server.active_associations
    node.shutdown()
    for association in associations:
        association.join(10)


@pytest.fixture(scope="module")
def pacs(node: Rales, start_orthanc: Callable[[int], Any]) -> Any:
    return start_orthanc(node.port)


@pytest.fixture
def rales(node: Rales) -> Rales:
    node.answers, node.received, node.associations = [], Counter(), 0
    return node


@pytest.fixture
def orthanc(pacs: Any) -> Any:
    pacs.forget()
    return pacs


@contextmanager
def clock_ahead(orthanc: Any, seconds: int) -> Iterator[None]:
    """Let the script's clock run ahead."""
    ahead = f"real = os.time; os.time = function() return real() + {seconds} end"
    orthanc.request("/tools/execute-script", ahead.encode())
    yield
    orthanc.request("/tools/execute-script", b"os.time = real")


def beat(orthanc: Any) -> None:
    """Call OnHeartBeat by hand: Debian's Orthanc is too old for LuaHeartBeatPeriod."""
    orthanc.request("/tools/execute-script", b"OnHeartBeat()")


def series(kind: UID, modality: str, count: int) -> list[Dataset]:
    """Make the least that Orthanc indexes as one series."""
    study_uid, series_uid = generate_uid(), generate_uid()
    return [_instance(kind, modality, study_uid, series_uid, n) for n in range(count)]


def _instance(kind: UID, modality: str, study_uid: UID, series_uid: UID, number: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = series_uid
    dataset.PatientID = "PHANTOM"
    dataset.PatientName = "Phantom^Routing"
    dataset.Modality = modality
    dataset.InstanceNumber = number + 1
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def send(datasets: list[Dataset], port: int, calling: str) -> None:
    node = AE(ae_title=calling)
    for kind in {dataset.SOPClassUID for dataset in datasets}:
        node.add_requested_context(kind, ExplicitVRLittleEndian)
    association = node.associate("127.0.0.1", port, ae_title="ORTHANC")
    assert association.is_established
    assert [association.send_c_store(dataset).Status for dataset in datasets] == [0] * len(datasets)
    association.release()


def uids(datasets: list[Dataset]) -> Counter[str]:
    return Counter(str(dataset.SOPInstanceUID) for dataset in datasets)


def test_ct_is_routed_once_and_results_are_not(rales: Rales, orthanc: Any) -> None:
    ct = series(CTImageStorage, "CT", 3)
    send(ct, orthanc.dicom_port, "SCANNER")
    wait_for("the CT at Rales", lambda: rales.received.total() >= 3)
    assert rales.received == uids(ct)
    assert rales.associations == 1
    wait_for("the end of the job", lambda: "Rales has it" in orthanc.said())

    # What Rales answers with, and a CT object that it might once write.
    for results in (
        series(SegmentationStorage, "SEG", 1),
        series(ComprehensiveSRStorage, "SR", 1),
        series(CTImageStorage, "CT", 1),
    ):
        send(results, orthanc.dicom_port, "RALES")
    wait_for("the SEG's and SR's no", lambda: orthanc.said().count("not routed, it is no CT") == 2)
    wait_for("the no to Rales' own CT", lambda: "not routed, Rales sent it" in orthanc.said())

    # A later series passes: had anything of the above been sent, it would be here before it.
    later = series(CTImageStorage, "CT", 2)
    send(later, orthanc.dicom_port, "SCANNER")
    wait_for("the second CT at Rales", lambda: rales.received.total() >= 5)
    assert rales.received == uids(ct + later)
    wait_for("the end of both jobs", lambda: orthanc.said().count("Rales has it") == 2)


def test_segmentation_of_another_maker_is_not_routed(rales: Rales, orthanc: Any) -> None:
    send(series(SegmentationStorage, "CT", 1), orthanc.dicom_port, "WORKSTATION")
    wait_for("the no", lambda: "not routed, it is no CT" in orthanc.said())
    assert rales.associations == 0


def test_late_slice_sends_the_series_again(rales: Rales, orthanc: Any) -> None:
    ct = series(CTImageStorage, "CT", 3)
    send(ct[:2], orthanc.dicom_port, "SCANNER")
    wait_for("the first two slices", lambda: rales.received == uids(ct[:2]))
    send(ct[2:], orthanc.dicom_port, "SCANNER")
    wait_for("the whole series", lambda: rales.received == uids(ct[:2] + ct))
    wait_for("the end of both jobs", lambda: orthanc.said().count("Rales has it") == 2)


def test_refused_series_is_sent_again_after_a_pause(rales: Rales, orthanc: Any) -> None:
    rales.answers = [0xA700]
    ct = series(CTImageStorage, "CT", 2)
    send(ct, orthanc.dicom_port, "SCANNER")
    wait_for("the failed job", lambda: "not sent; again in 60 s" in orthanc.said())
    assert rales.received.total() == 0

    beat(orthanc)
    assert "attempt 2" not in orthanc.said()
    with clock_ahead(orthanc, 61):
        beat(orthanc)
    wait_for("the second attempt", lambda: "Rales has it" in orthanc.said())
    assert rales.received == uids(ct)


def test_series_is_given_up_after_a_day_and_says_so(rales: Rales, orthanc: Any) -> None:
    rales.answers = [0xA700] * 3
    send(series(CTImageStorage, "CT", 1), orthanc.dicom_port, "SCANNER")
    wait_for("the failed job", lambda: "again in 60 s" in orthanc.said())
    with clock_ahead(orthanc, 61):
        beat(orthanc)
        wait_for("the second failed job", lambda: "again in 120 s" in orthanc.said())
    with clock_ahead(orthanc, 86401):
        beat(orthanc)
        wait_for("the last word", lambda: "GIVEN UP after 3 attempts" in orthanc.said())
    assert rales.received.total() == 0
