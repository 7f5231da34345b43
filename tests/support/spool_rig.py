"""A state file and a spool with real images, without networks and without a node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from state_rig import NOON, StateRig

from chestct.series import ReceivedInstance
from chestct.uids import Uid
from rales.node.housekeeping import HousekeepingWorker
from rales.state.layout import Layout
from rales.state.store import Database
from scp.file_meta import file_start
from scp.headers import parse
from scp.spool import Spool
from scp.stored import instance_of

SYNTAX = str(ExplicitVRLittleEndian)


def image(series: str, number: int, *, accession: str = "") -> bytes:
    """Return the encoded data set of a small image."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{series}.{number + 1}"
    dataset.AccessionNumber = accession
    dataset.PatientName = "Nobody^Is"
    dataset.PatientID = "P1"
    dataset.StudyInstanceUID = "1.2.9"
    dataset.SeriesInstanceUID = series
    dataset.ImagePositionPatient = [0, 0, 2.5 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = 2
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = bytes([number % 256, 0] * 4)
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_dataset(stream, dataset)
    return stream.getvalue()


@dataclass
class SpoolRig(StateRig):
    """What ``rales serve`` has below its data folder."""

    folder: Path
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = Layout(self.folder)
        self.open()

    def open(self) -> None:
        """Open the state file, as a start does."""
        super().__init__(Database(self.layout.state))
        self.spool = Spool(self.layout.spool, tidy=False)

    def close(self) -> None:
        """Close it."""
        self.database.close()

    def write(self, series: str, number: int, *, accession: str = "") -> ReceivedInstance:
        """Make one image durable, and do not record it: as a power cut at that moment leaves it."""
        content = image(series, number, accession=accession)
        header = parse(content, SYNTAX)
        start = file_start(header, SYNTAX, calling_ae="CT", called_ae="RALES")
        spooled = self.spool.write(Uid(series), start, content, received_at=NOON)
        return instance_of(
            header, spooled, transfer_syntax=SYNTAX, received_at=NOON, calling_ae="CT"
        )

    def receive(self, series: str, count: int, *, first: int = 0) -> list[ReceivedInstance]:
        """Receive images of a series."""
        received = [self.write(series, number) for number in range(first, first + count)]
        for one in received:
            self.instances.record(one)
        return received

    def housekeeping(self) -> HousekeepingWorker:
        """Return what a start would run; it works without pauses."""
        return HousekeepingWorker(
            database=self.database,
            instances=self.instances,
            spool=Spool(self.layout.spool, tidy=False),
            layout=self.layout,
            keep=None,
            on_checked=self.told.append,
            monotonic=_Still(),
        )

    def check(self) -> str:
        """Do what a start does; return what it tells of the files."""
        self.housekeeping().step(NOON)
        return self.told[-1]

    def files(self) -> set[str]:
        """Return every file below the spool."""
        return {path.name for path in self.layout.spool.glob("*/*")}

    def quarantined(self) -> set[str]:
        """Return every file in quarantine."""
        return {path.name for path in self.layout.quarantine.glob("*")}


class _Still:
    """A clock that stands: no step ever takes too long."""

    def __call__(self) -> float:
        return 0.0


def spool_rig(folder: Path) -> Iterator[SpoolRig]:
    """Yield a rig in ``folder`` and close it; for a fixture."""
    rig = SpoolRig(folder)
    yield rig
    rig.close()
