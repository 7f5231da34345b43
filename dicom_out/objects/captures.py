"""Pictures and pages as DICOM objects: Secondary Capture (PS3.3 A.8) and PDF (PS3.3 A.45)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from chestct.results import AnalysisKey, Extra, ModelIdentity
from dicom_out.objects import codes
from dicom_out.objects.identity import (
    MANUFACTURER,
    RESEARCH,
    SoftwareIdentity,
    contributing_equipment,
)
from dicom_out.objects.seg import stamp
from dicom_out.objects.sources import Sources, take_over

Picture = NDArray[np.uint8]
"""Colours (row, column, 3), red, green and blue, 0 to 255."""

DERIVATION = "Drawn from automatic segmentation and measurement by artificial intelligence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What every object of one analysis says of where it comes from."""

    sources: Sources
    models: Sequence[ModelIdentity]
    key: AnalysisKey
    created: datetime
    software: SoftwareIdentity


def secondary_capture(page: Picture, made: Provenance) -> Dataset:
    """Build the page as a Secondary Capture image."""
    capture = _begin(Extra.SECONDARY_CAPTURE, SecondaryCaptureImageStorage, 9704, made)
    capture.Modality = "OT"
    capture.SeriesDescription = f"Rales summary ({RESEARCH})"
    _image(capture, made)
    _pixels(capture, page[None])
    return _end(capture, made)


def colour_overlay(
    frames: NDArray[np.uint8], places_mm: Sequence[float], made: Provenance
) -> Dataset:
    """Build a Multi-frame True Color Secondary Capture image.

    Args:
        frames: (frame, row, column, 3).
        places_mm: Where each frame lies along the axis of the patient, for a viewer to show.
        made: Where it comes from.
    """
    capture = _begin(
        Extra.COLOUR_OVERLAY, MultiFrameTrueColorSecondaryCaptureImageStorage, 9705, made
    )
    capture.Modality = "OT"
    capture.SeriesDescription = f"Rales overlay ({RESEARCH})"
    _image(capture, made)
    _pixels(capture, frames)
    capture.NumberOfFrames = len(frames)
    if len(frames) > 1:
        capture.FrameIncrementPointer = 0x00182005  # Slice Location Vector (PS3.3 C.8.6.4)
        capture.SliceLocationVector = [round(place, 3) for place in places_mm]
    return _end(capture, made)


def encapsulated_pdf(content: bytes, made: Provenance) -> Dataset:
    """Build the page as an Encapsulated PDF."""
    document = _begin(Extra.ENCAPSULATED_PDF, EncapsulatedPDFStorage, 9706, made)
    document.Modality = "DOC"
    document.SeriesDescription = f"Rales summary, PDF ({RESEARCH})"
    document.ConversionType = "WSD"
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "NO"
    document.RecognizableVisualFeatures = "NO"
    document.DocumentTitle = f"Rales summary: {RESEARCH}, not verified"
    document.ConceptNameCodeSequence = []
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    document.SourceInstanceSequence = [_reference(image) for image in made.sources.images]
    return _end(document, made)


def _begin(extra: Extra, sop_class: UID, series_number: int, made: Provenance) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = made.key.uid(extra)
    dataset.SeriesInstanceUID = made.key.uid(f"{extra}-series")
    dataset.SeriesNumber = series_number
    dataset.InstanceNumber = 1
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = made.software.name
    dataset.SoftwareVersions = made.software.version
    dataset.DeviceSerialNumber = made.software.station_name
    dataset.ContributingEquipmentSequence = contributing_equipment(made.models, made.software)
    return dataset


def _image(capture: Dataset, made: Provenance) -> None:
    """Say that it is derived, from what, and that nobody is named in it.

    No Pixel Spacing and no Patient Orientation: a page shows several planes, and nothing is to
    be measured on it.
    """
    capture.BodyPartExamined = "CHEST"
    capture.ConversionType = "WSD"
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.PatientOrientation = ""
    capture.BurnedInAnnotation = "NO"
    capture.RecognizableVisualFeatures = "NO"
    capture.LossyImageCompression = "00"
    capture.DerivationDescription = DERIVATION
    capture.SourceImageSequence = [_source(image) for image in made.sources.images]


def _pixels(capture: Dataset, frames: NDArray[np.uint8]) -> None:
    capture.SamplesPerPixel = 3
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.Rows, capture.Columns = frames.shape[1:3]
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    content = frames.tobytes()
    capture.PixelData = content + b"\0" * (len(content) % 2)
    capture["PixelData"].VR = "OB"


def _end(dataset: Dataset, made: Provenance) -> Dataset:
    dataset.ContentQualification = "RESEARCH"
    stamp(dataset, made.created, made.sources.original)
    take_over(made.sources.original, dataset)
    return dataset


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return item


def _source(image: Dataset) -> Dataset:
    item = _reference(image)
    purpose = Dataset()
    purpose.CodeValue = codes.SOURCE_IMAGE.value
    purpose.CodingSchemeDesignator = codes.SOURCE_IMAGE.scheme_designator
    purpose.CodeMeaning = codes.SOURCE_IMAGE.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
