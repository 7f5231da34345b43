"""Small CT series made to order: right in every respect but the one that a test changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid, derive_uid

SLICES, ROWS, COLUMNS = 24, 40, 34
SPACING = (1.5, 0.75)
STEP = 2.5
ORIGIN = (-31.0, 17.5, -203.25)

Change = Callable[[int, Dataset], None]


def stored_values(slices: int = SLICES, *, signed: bool = False) -> NDArray[np.int32]:
    """Return stored pixels (slice, row, column): every slice, row and column is another."""
    values = np.random.default_rng(5).integers(0, 4096, (slices, ROWS, COLUMNS))
    return (values - 2048 if signed else values).astype(np.int32)


def ct_slice(index: int, stored: NDArray[np.int32], *, signed: bool = False) -> Dataset:
    """Return slice ``index`` of an axial chest series; the slices ascend with the index."""
    dataset = _common(CTImageStorage, f"slice {index}", signed=signed)
    dataset.ImagePositionPatient = [ORIGIN[0], ORIGIN[1], ORIGIN[2] + STEP * index]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = list(SPACING)
    dataset.SliceThickness = STEP
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "1", "-1024", "HU"
    dataset.PixelData = stored.astype("<u2" if not signed else "<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def enhanced_ct(stored: NDArray[np.int32]) -> Dataset:
    """Return an Enhanced CT whose frames run from the head down (PS3.3 A.38)."""
    frames = len(stored)
    dataset = _common(EnhancedCTImageStorage, "enhanced", signed=False)
    dataset.NumberOfFrames = frames
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=list(SPACING), SliceThickness=STEP)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            CTImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[
                item(ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + STEP * (frames - 1 - frame)])
            ],
            PixelValueTransformationSequence=[
                item(RescaleSlope="1", RescaleIntercept=str(-1024 - frame), RescaleType="HU")
            ],
        )
        for frame in range(frames)
    ]
    dataset.PixelData = stored[::-1].astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def item(**elements: Any) -> Dataset:
    """Return a sequence item."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def _common(sop_class: UID, name: str, *, signed: bool) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = derive_uid(name)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Modality = "CT"
    dataset.BodyPartExamined = "CHEST"
    dataset.SeriesDescription, dataset.ConvolutionKernel = "Lung 2.5", "B70f"
    dataset.PatientName, dataset.PatientID = "Tiny^Series", "TINY"
    dataset.StudyInstanceUID = derive_uid("loading study")
    dataset.SeriesInstanceUID = derive_uid("loading series")
    dataset.FrameOfReferenceUID = derive_uid("loading frame")
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = int(signed)
    return dataset


@dataclass
class SeriesMaker:
    """Writes data sets and hands back the series that they make."""

    folder: Path
    written: list[Dataset] = field(default_factory=list)

    def __call__(
        self,
        change: Change = lambda _index, _dataset: None,
        *,
        slices: int = SLICES,
        signed: bool = False,
        syntax: UID = ExplicitVRLittleEndian,
        extra: Sequence[Dataset] = (),
        leave_out: Sequence[int] = (),
    ) -> Series:
        """Write a series of single-frame images, each changed by ``change(index, dataset)``."""
        stored = stored_values(slices, signed=signed)
        datasets = [
            ct_slice(index, stored[index], signed=signed)
            for index in range(slices)
            if index not in leave_out
        ]
        for index, dataset in enumerate(datasets):
            change(index, dataset)
        return self.write([*datasets, *extra], syntax)

    def write(
        self,
        datasets: Sequence[Dataset],
        syntax: UID = ExplicitVRLittleEndian,
        compress: Callable[[Dataset, UID], None] = Dataset.compress,
    ) -> Series:
        """Write data sets as they are, but for the transfer syntax."""
        instances = []
        for number, dataset in enumerate(datasets):
            if syntax.is_encapsulated:
                compress(dataset, syntax)
            dataset.file_meta.TransferSyntaxUID = syntax
            path = self.folder / f"{number}.dcm"
            dataset.save_as(
                path,
                enforce_file_format=True,
                implicit_vr=syntax == ImplicitVRLittleEndian,
                little_endian=syntax.is_little_endian,
            )
            instances.append(received(path, dataset))
        self.written = list(datasets)
        return Series.of(instances)


def received(path: Path, dataset: Dataset, **changes: Any) -> ReceivedInstance:
    """Return what a receiver would have recorded of a file."""
    record = {
        "path": path,
        "sop_class_uid": Uid(dataset.SOPClassUID),
        "sop_instance_uid": Uid(dataset.SOPInstanceUID),
        "series_uid": derive_uid("loading series"),
        "study_uid": derive_uid("loading study"),
        "patient_key": "a",
        "transfer_syntax_uid": Uid(dataset.file_meta.TransferSyntaxUID),
        "content_digest": "0" * 64,
        "size": path.stat().st_size,
        "received_at": datetime(2026, 1, 2, tzinfo=UTC),
        "calling_ae": "TEST",
    }
    return ReceivedInstance(**(record | changes))
