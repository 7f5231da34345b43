"""Writes a phantom as a complete CT Image Storage series (PS3.3 A.3)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from phantom.spec import PhantomSpec
from phantom.thorax import Thorax

_ROOT = uuid.UUID("6d3a9d3c-52b6-5d9e-9d5b-0a7c3f1d9b11")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomIdentity:
    """Whose series it pretends to be; empty UIDs are derived from the spec."""

    patient_id: str = "RALES-PHANTOM"
    patient_name: str = "Phantom^Thorax"
    patient_birth_date: str = "19600101"
    patient_sex: str = "O"
    specific_character_set: str = "ISO_IR 192"
    accession_number: str = "PHANTOM1"
    study_date: str = "20260102"
    study_uid: str = ""
    series_uid: str = ""
    frame_of_reference_uid: str = ""


def write_series(
    thorax: Thorax,
    folder: Path,
    identity: PhantomIdentity | None = None,
    transfer_syntax: UID = ExplicitVRLittleEndian,
) -> list[Path]:
    """Write one file per slice into ``folder`` and return them, feet first.

    Files are named and numbered from the head down, as scanners do. Any transfer syntax
    that pydicom can encode is possible.

    Raises:
        ValueError: The retired big endian, for which the pixels are not swapped.
    """
    if not transfer_syntax.is_little_endian:
        raise ValueError(f"{transfer_syntax.name} is retired")
    identity = identity or PhantomIdentity()
    folder.mkdir(parents=True, exist_ok=True)
    count = thorax.hu.shape[0]
    paths = []
    for index in range(count):
        number = count - index
        dataset = _dataset(thorax, identity, index, number)
        if transfer_syntax.is_compressed and transfer_syntax.is_encapsulated:
            dataset.compress(transfer_syntax)
        dataset.file_meta.TransferSyntaxUID = transfer_syntax
        path = folder / f"{number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _uid(spec: PhantomSpec, identity: PhantomIdentity, role: str) -> str:
    """Derive a UID from the spec and the name; the same input always gives the same UID."""
    name = f"{spec!r}{identity!r}{role}"
    return f"2.25.{uuid.uuid5(_ROOT, name).int}"


def _dataset(thorax: Thorax, identity: PhantomIdentity, index: int, number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    _patient_and_study(dataset, thorax.spec, identity)
    _series(dataset, thorax.spec, identity)
    _image(dataset, thorax, index, number)
    uid = UID(_uid(thorax.spec, identity, f"instance {number}"))
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = uid
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _patient_and_study(dataset: Dataset, spec: PhantomSpec, identity: PhantomIdentity) -> None:
    dataset.SpecificCharacterSet = identity.specific_character_set
    dataset.PatientName = identity.patient_name
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = identity.patient_birth_date
    dataset.PatientSex = identity.patient_sex
    dataset.PatientAge = "065Y"
    dataset.StudyInstanceUID = identity.study_uid or _uid(spec, identity, "study")
    dataset.StudyDate = identity.study_date
    dataset.StudyTime = "101500"
    dataset.AccessionNumber = identity.accession_number
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.StudyDescription = "CT chest (phantom)"


def _series(dataset: Dataset, spec: PhantomSpec, identity: PhantomIdentity) -> None:
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = identity.series_uid or _uid(spec, identity, "series")
    dataset.SeriesNumber = 2
    dataset.SeriesDescription = f"Thorax phantom {spec.slice_spacing_mm:g} mm {spec.kernel}"
    dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = identity.study_date
    dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101600"
    dataset.BodyPartExamined = "CHEST"
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = identity.frame_of_reference_uid or _uid(spec, identity, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "Rales"
    dataset.ManufacturerModelName = "Thorax phantom"
    dataset.DeviceSerialNumber = str(spec.seed)
    dataset.SoftwareVersions = "1"
    dataset.KVP = "120"
    dataset.ConvolutionKernel = str(spec.kernel)
    dataset.SliceThickness = f"{spec.slice_spacing_mm:g}"
    dataset.SpacingBetweenSlices = f"{spec.slice_spacing_mm:g}"
    dataset.GantryDetectorTilt = "0"
    dataset.XRayTubeCurrent = "200"
    dataset.ExposureTime = "500"


def _image(dataset: Dataset, thorax: Thorax, index: int, number: int) -> None:
    slices, rows, columns = thorax.hu.shape
    position = (*thorax.origin[:2], thorax.origin[2] + index * thorax.spacing[0])
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = number
    dataset.ImagesInAcquisition = str(slices)
    dataset.ImagePositionPatient = [f"{value:.6g}" for value in position]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SliceLocation = f"{position[2]:.6g}"
    dataset.PixelSpacing = [f"{value:.6g}" for value in thorax.spacing[1:]]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = "-1024"
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter = ["-600", "40"]
    dataset.WindowWidth = ["1500", "400"]
    dataset.WindowCenterWidthExplanation = ["LUNG", "SOFT TISSUE"]
    dataset.PixelData = (thorax.hu[index].astype(np.int32) + 1024).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
