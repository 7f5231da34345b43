"""Nothing that identifies a patient is logged at INFO or kept in the state file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pydicom
import pytest
from node_process import NodeProcess
from ports import free_port
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from tiny_node import write_models

from phantom import Thorax, write_series

SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"

_TEXTS = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames", "PatientBirthName"),
    *("PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers"),
    *("MilitaryRank", "EthnicGroup", "Occupation", "PatientComments", "AdditionalPatientHistory"),
    *("PatientReligiousPreference", "ResponsiblePerson", "ResponsibleOrganization"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "RequestingPhysician"),
    *("NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "InstitutionName"),
    *("InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber"),
    *("AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *("ImageComments", "AdmissionID", "MedicalAlerts", "Allergies"),
    *("PerformedProcedureStepDescription", "RequestedProcedureDescription"),
    *("ReasonForTheRequestedProcedure", "AdmittingDiagnosesDescription"),
)
_ODD = (
    *("PatientBirthDate", "PatientBirthTime", "PatientAge", "PatientSize", "PatientWeight"),
    *("StudyDate", "StudyTime", "SeriesDate", "ContentDate", "SeriesNumber", "InstanceNumber"),
    *("PatientSex", "KVP"),
)
"""Elements of VRs with a form (DA, TM, AS, DS, IS, CS), which a value can fail to have."""


def marker(letter: str, keyword: str) -> str:
    """Return a value that stands for one element of one patient and occurs nowhere else."""
    return f"MK{letter}{tag_for_keyword(keyword):08X}"


def mark(dataset: Dataset, letter: str) -> None:
    """Give every identifying text its marker, the dates some that look like dates."""
    for keyword in _TEXTS:
        setattr(dataset, keyword, marker(letter, keyword))
    dataset.PatientBirthDate = "18760513"
    dataset.add_new(0x00091010, "LO", f"MK{letter}PRIVATE")
    dataset.add_new(0x00090010, "LO", "SOMEBODY 1.0")


def spoil(dataset: Dataset, letter: str) -> None:
    """Put markers where dates and numbers belong, as a careless exporter does."""
    for keyword in _ODD:
        tag = Tag(keyword)
        value = marker(letter, keyword).encode()
        vr = dictionary_VR(keyword)
        dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)  # noqa: FBT003


@dataclass
class TalkativePacs:
    """Takes the SEG and refuses the SR, saying whose it is."""

    stored: list[str] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        ae = AE(ae_title="PACS")
        for uid in (SEG, SR):
            ae.add_supported_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.ae.shutdown()

    def _store(self, event: Any) -> Dataset | int:
        self.stored.append(event.request.AffectedSOPClassUID)
        if event.request.AffectedSOPClassUID == SEG:
            return 0x0000
        status = Dataset()
        status.Status = 0xA900
        status.ErrorComment = (
            f"{event.dataset.PatientName} has another ID {event.dataset.PatientID}"
        )
        return status


@dataclass
class Node(NodeProcess):
    """``rales serve`` at its default level."""

    pacs: TalkativePacs
    models: Path

    def configuration(self) -> str:
        return (
            f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\n'
            f"port = {self.pacs.port}\n"
            f'[[destinations]]\nname = "gone"\nae_title = "GONE"\nhost = "127.0.0.1"\n'
            f"port = {free_port()}\n"
            "[completion]\nsettle_seconds = 0.5\nquiet_seconds = 2.0\n"
            "[delivery]\nfirst_retry_seconds = 0.5\nlongest_retry_seconds = 1.0\n"
            "give_up_after_hours = 0.0003\n"
            '[eligibility]\nkernel_exclude = ["SCOUT"]\n'
            f'[analysis]\nmodels_dir = "{self.models}"\nproviders = ["CPU"]\nthreads = 1\n'
            '[audit]\nto = "file:audit.log"\n'
        )

    def send(self, *datasets: Dataset) -> list[int]:
        ae = AE(ae_title="CT1")
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.port, ae_title="RALES")
        assert association.is_established
        statuses = [association.send_c_store(one).Status for one in datasets]
        association.release()
        return statuses


@pytest.fixture(scope="module")
def node(thorax: Thorax, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    models = write_models(tmp_path_factory.mktemp("models"), thorax)
    with TalkativePacs() as pacs:
        running = Node(tmp_path_factory.mktemp("node"), pacs, models)
        running.start()
        yield running
        assert running.process is not None
        if running.process.poll() is None:
            running.cut_power()


def series(
    thorax: Thorax, folder: Path, letter: str, *changes: Callable[[Dataset, str], None]
) -> list[Dataset]:
    """Return a phantom's slices under UIDs of their own, changed."""
    datasets = [pydicom.dcmread(path) for path in write_series(thorax, folder)]
    number = f"2.25.{ord(letter)}"
    for index, dataset in enumerate(datasets):
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = f"{number}.1", f"{number}.2"
        dataset.SOPInstanceUID = f"{number}.3.{index}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        for change in (mark, *changes):
            change(dataset, letter)
    return datasets


def test_a_whole_run_at_info_names_nobody(node: Node, thorax: Thorax, tmp_path: Path) -> None:
    analysed = series(thorax, tmp_path / "a", "A", spoil)
    short = series(thorax, tmp_path / "b", "B", _cut_off)[:2]
    excluded = series(thorax, tmp_path / "c", "C", _of_another_kernel)
    mixed = series(thorax, tmp_path / "d", "D")[:25]
    mixed[3].PatientID = marker("D", "OtherPatientIDs")
    with warnings.catch_warnings(action="ignore"):  # pydicom's, on what was spoilt on purpose
        for datasets, status in ((analysed, 0), (short, 0xC000), (excluded, 0), (mixed, 0)):
            assert set(node.send(*datasets)) == {status}
    states = {
        letter: (node.ended(f"2.25.{ord(letter)}.1"), node.jobs(f"2.25.{ord(letter)}.1")[-1][1])
        for letter in "ACD"
    }
    assert states == {
        "A": ("failed", "delivery-refused"),
        "C": ("rejected", "excluded-by-rule"),
        "D": ("rejected", "mixed-patients"),
    }
    assert set(node.pacs.stored) == {SEG, SR}
    assert node.terminate() == 0
    for said in ("analysed in", "refused 0xC000", "will not be delivered", "stopped"):
        assert said in node.log()
    audit = (node.folder / "audit.log").read_text()
    told = {marker("A", keyword) for keyword in ("PatientName", "PatientID")}
    assert told <= _found(audit), "the markers do get in; the audit trail is to name them"
    assert _found(node.log()) == set(), node.log()
    state = b"".join(path.read_bytes() for path in (node.data).glob("state.sqlite*"))
    assert _found(state.decode("latin-1")) == set()
    assert _found(node.status() + node.status("--json")) == set()
    for path in [node.data, *(node.data).rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize(("level", "shown"), [("INFO", 0), ("DEBUG", 2)])
def test_warnings_of_libraries_which_quote_values_are_shown_at_debug_only(
    level: str, shown: int
) -> None:
    """In the node's process and in one that it spawns for the analysis."""
    warn = "import warnings; warnings.warn('Invalid value for VR DA: MKA00100030')"
    code = (
        f"import subprocess, sys; from rales.cli import logs; logs.configure({level!r}); {warn};"
        f"subprocess.run([sys.executable, '-c', {warn!r}])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr.count("UserWarning: Invalid value") == shown


def _found(text: str) -> set[str]:
    """Return every marker in ``text``, and whether the birth date is there."""
    words = {text[place : place + 11] for place in _places(text, "MK")}
    return words | {"18760513" for _ in _places(text, "18760513")}


def _places(text: str, what: str) -> Iterator[int]:
    place = text.find(what)
    while place >= 0:
        yield place
        place = text.find(what, place + 1)


def _cut_off(dataset: Dataset, _: str) -> None:
    dataset.Rows *= 2


def _of_another_kernel(dataset: Dataset, _: str) -> None:
    dataset.ConvolutionKernel = "SCOUT"
