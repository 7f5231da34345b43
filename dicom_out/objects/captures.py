"""Pictures and pages as DICOM objects: Secondary Capture (PS3.3 A.8) and PDF (PS3.3 A.45)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from chestct.analysed import AnalysedSeries
from chestct.geometry import Geometry
from chestct.results import Extra
from dicom_out.objects import codes
from dicom_out.objects.finish import finish
from dicom_out.objects.identity import (
    MANUFACTURER,
    RESEARCH,
    contributing_equipment,
)
from dicom_out.objects.patient_study import lossy_history
from dicom_out.objects.series_names import ResultKind, series_number
from dicom_out.objects.sources import DECIMALS, Sources, decimal
from dicom_out.reference import sop_reference

Picture = NDArray[np.uint8]
"""Colours (row, column, 3), red, green and blue, 0 to 255."""

_KINDS = {
    Extra.SECONDARY_CAPTURE: ResultKind.SUMMARY,
    Extra.COLOUR_OVERLAY: ResultKind.OVERLAY,
    Extra.ENCAPSULATED_PDF: ResultKind.PDF,
}
_DERIVATION = "Drawn from automatic segmentation and measurement by artificial intelligence"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayFrames:
    """The frames of the colour overlay and where they lie in the patient.

    Attributes:
        pixels: Colours (frame, row, column, 3).
        grid: The pixels of the frames, on the slices of the volume in canonical orientation.
        slices: The slice of ``grid`` that each frame shows.
    """

    pixels: NDArray[np.uint8]
    grid: Geometry
    slices: tuple[int, ...]


def secondary_capture(page: Picture, analysed: AnalysedSeries, sources: Sources) -> Dataset:
    """Build the page as a Secondary Capture image."""
    capture = _begin(Extra.SECONDARY_CAPTURE, SecondaryCaptureImageStorage, analysed, sources)
    _image(capture, sources)
    capture.BurnedInAnnotation = "YES"  # study date, accession number; the name if configured
    _pixels(capture, page[None])
    return finish(capture, analysed, sources, described="Summary")


def colour_overlay(frames: OverlayFrames, analysed: AnalysedSeries, sources: Sources) -> Dataset:
    """Build a Multi-frame True Color Secondary Capture image, each frame at its place."""
    capture = _begin(
        Extra.COLOUR_OVERLAY, MultiFrameTrueColorSecondaryCaptureImageStorage, analysed, sources
    )
    _image(capture, sources)
    _pixels(capture, frames.pixels)
    capture.NumberOfFrames = len(frames.slices)
    if len(frames.slices) > 1:
        capture.FrameIncrementPointer = 0x00182005  # Slice Location Vector (PS3.3 C.8.6.4)
        capture.SliceLocationVector = [
            round((frames.slices[0] - index) * frames.grid.slice_spacing, 3)
            for index in frames.slices
        ]
    _places(capture, frames, analysed, sources)
    return finish(capture, analysed, sources, described="Overlay")


def _places(
    capture: Dataset, frames: OverlayFrames, analysed: AnalysedSeries, sources: Sources
) -> None:
    """Give each frame its place in the patient, so that viewers scroll it along with the CT.

    The functional groups are those of PS3.3 table A.8-5b.
    """
    grid = frames.grid
    capture.FrameOfReferenceUID = analysed.volume.frame_of_reference_uid
    capture.PositionReferenceIndicator = sources.images[0].PositionReferenceIndicator
    organization = analysed.key.uid(f"{Extra.COLOUR_OVERLAY}-dimensions")
    index = Dataset()
    index.DimensionOrganizationUID = organization
    index.DimensionIndexPointer = Tag("ImagePositionPatient")
    index.FunctionalGroupPointer = Tag("PlanePositionSequence")
    capture.DimensionOrganizationSequence = [_holding(DimensionOrganizationUID=organization)]
    capture.DimensionIndexSequence = [index]
    measures = _holding(
        PixelSpacing=[decimal(spacing) for spacing in grid.pixel_spacing],
        SliceThickness=decimal(analysed.volume.thickness_mm or grid.slice_spacing),
    )
    cosines = (*grid.row_cosines, *grid.column_cosines)
    orientation = _holding(ImageOrientationPatient=[decimal(cosine) for cosine in cosines])
    capture.SharedFunctionalGroupsSequence = [
        _holding(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation])
    ]
    capture.PerFrameFunctionalGroupsSequence = [
        _holding(
            FrameContentSequence=[_holding(DimensionIndexValues=number)],
            PlanePositionSequence=[
                _holding(
                    ImagePositionPatient=[
                        decimal(round(mm, DECIMALS)) for mm in grid.slice_position(place)
                    ]
                )
            ],
        )
        for number, place in enumerate(frames.slices, start=1)
    ]


def _holding(**values: object) -> Dataset:
    """Return a sequence item with some elements."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def encapsulated_pdf(content: bytes, analysed: AnalysedSeries, sources: Sources) -> Dataset:
    """Build the page as an Encapsulated PDF."""
    document = _begin(Extra.ENCAPSULATED_PDF, EncapsulatedPDFStorage, analysed, sources)
    document.Modality = "DOC"
    document.ConversionType = "WSD"
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "YES"
    document.RecognizableVisualFeatures = "NO"
    document.DocumentTitle = f"Rales summary: {RESEARCH}, not verified"
    document.ConceptNameCodeSequence = [_coded(codes.IMAGING_MEASUREMENT_REPORT)]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    document.SourceInstanceSequence = [
        sop_reference(image.SOPClassUID, image.SOPInstanceUID) for image in sources.images
    ]
    return finish(document, analysed, sources, described="Summary, PDF")


def _begin(extra: Extra, sop_class: UID, analysed: AnalysedSeries, sources: Sources) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = analysed.key.uid(extra)
    dataset.SeriesInstanceUID = analysed.key.uid(f"{extra}-series")
    dataset.SeriesNumber = series_number(sources.original, _KINDS[extra])
    dataset.InstanceNumber = 1
    dataset.Manufacturer = MANUFACTURER
    dataset.ContributingEquipmentSequence = contributing_equipment(
        analysed.models, analysed.software
    )
    return dataset


def _image(capture: Dataset, sources: Sources) -> None:
    """State that the image is derived, and from which images.

    It has no Pixel Spacing and no Patient Orientation: a page shows several planes, and nobody
    should measure on it.
    """
    capture.Modality = "OT"
    capture.ConversionType = "WSD"
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.PatientOrientation = ""
    capture.BurnedInAnnotation = "NO"
    capture.RecognizableVisualFeatures = "NO"
    history = lossy_history(sources.original) or {"LossyImageCompression": ["00"]}
    for keyword, values in history.items():
        setattr(capture, keyword, values)
    capture.DerivationDescription = _DERIVATION
    capture.SourceImageSequence = [_source(image) for image in sources.images]


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


def _source(image: Dataset) -> Dataset:
    item = sop_reference(image.SOPClassUID, image.SOPInstanceUID)
    item.PurposeOfReferenceCodeSequence = [_coded(codes.SOURCE_IMAGE)]
    return item


def _coded(code: Code) -> Dataset:
    """Return the item of a code sequence."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
