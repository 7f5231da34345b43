"""Tiny CT series made by hand, and label maps on them, for the tests of what is written.

The series are not chest-like: the writers do not look. Their geometry is awkward on purpose
(no two dimensions, no two spacings are equal), so that a swapped axis cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from chestct.analysed import AnalysedSeries
from chestct.findings import Findings
from chestct.geometry import Geometry, Vector
from chestct.method import Method, Presence
from chestct.results import AnalysisKey, ModelIdentity, Profile, ResultSet, SoftwareIdentity
from chestct.series import ReceivedInstance, Series
from chestct.uids import Uid, derive_uid
from chestct.volume import Label, LesionMap, SliceSource, Volume
from dicom_out.objects.compose import compose
from dicom_out.objects.sources import Sources, read_sources
from inference.reading.quantify import measure

SHAPE = (6, 24, 18)
PIXEL_SPACING = (1.5, 0.75)
SLICE_SPACING = 4.0
CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MODELS = (
    ModelIdentity(name="lungs", version="1.0", digest="ab" * 32, licence="Apache-2.0"),
    ModelIdentity(name="lesions", version="2.0", digest="cd" * 32, licence="CC BY-NC-SA 4.0"),
)
SOFTWARE = SoftwareIdentity(name="Rales", version="0.1.0", station_name="RALES")

Change = Callable[[Dataset], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A series on disk and what an analysis of it would say."""

    series: Series
    volume: Volume
    lesion_map: LesionMap
    findings: Findings
    key: AnalysisKey

    def analysed(self, **changes: Any) -> AnalysedSeries:
        """Return the record of the analysis; keyword arguments replace its fields."""
        fields = {
            "series": self.series,
            "volume": self.volume,
            "lesion_map": self.lesion_map,
            "findings": self.findings,
            "models": MODELS,
            "software": SOFTWARE,
            "key": self.key,
            "created": CREATED,
        }
        return AnalysedSeries(**(fields | changes))

    def sources(self) -> Sources:
        """Read the headers of the series."""
        return read_sources(self.series, self.volume)

    def compose(self, folder: Path, *profiles: Profile, **changes: Any) -> ResultSet:
        """Write the results into ``folder``, for OHIF unless ``profiles`` are given.

        Keyword arguments replace fields of the record.
        """
        folder.mkdir(parents=True, exist_ok=True)
        analysed = self.analysed(**changes)
        objects = compose(analysed, self.sources(), folder, profiles or (Profile.OHIF,))
        return ResultSet(key=analysed.key, objects=objects)


def make_case(
    folder: Path,
    *,
    labels: NDArray[np.uint8] | None = None,
    cosines: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    enhanced: bool = False,
    syntax: UID = ExplicitVRLittleEndian,
    pixel_spacing: tuple[float, float] = PIXEL_SPACING,
    slice_spacing: float = SLICE_SPACING,
    change: Change = lambda _: None,
) -> Case:
    """Write a series into ``folder`` and return it with a label map (by default with lesions).

    ``change`` edits every data set before it is written. Files are written in the order in
    which scanners number them, against the order of the volume.
    """
    labels = both_lungs() if labels is None else labels
    geometry = Geometry(
        shape=(labels.shape[0], labels.shape[1], labels.shape[2]),
        origin=(-31.0, 17.5, -203.25),
        row_cosines=cosines[0],
        column_cosines=cosines[1],
        pixel_spacing=pixel_spacing,
        slice_spacing=slice_spacing,
    )
    folder.mkdir(parents=True, exist_ok=True)
    hu = np.random.default_rng(3).integers(-900, 60, geometry.shape).astype(np.int16)
    write = _write_enhanced if enhanced else _write_slices
    paths, sources = write(folder, geometry, hu, syntax, change)
    instances = [_received(path, uid) for path, uid in paths]
    series = Series.of(instances)
    volume = Volume(
        hu=hu,
        geometry=geometry,
        sources=sources,
        series_uid=series.series_uid,
        frame_of_reference_uid=derive_uid("frame"),
    )
    lesion_map = LesionMap(labels=with_density(labels, hu), geometry=geometry)
    score = 0.91 if lesion_map.lesion().any() else 0.12
    presence = Presence(score=score, operating_point=0.5)
    return Case(
        series=series,
        volume=volume,
        lesion_map=lesion_map,
        findings=measure(volume, lesion_map, presence, Method(minimum_lesion_ml=0.0)),
        key=AnalysisKey(
            series_uid=series.series_uid,
            instances_digest=series.digest,
            models_digest="m",
            config_digest="c",
        ),
    )


def with_density(labels: NDArray[np.uint8], hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return labels with every ground-glass voxel of -300 HU and more as consolidation.

    The writers take any split. This one has voxels of either kind on every slice of a lesion.
    """
    glass = np.isin(labels, (Label.LEFT_GROUND_GLASS, Label.RIGHT_GROUND_GLASS))
    dense = glass & (hu >= Method().high_opacity_hu)
    return labels + np.uint8(2) * dense.view(np.uint8)


def healthy_lungs() -> NDArray[np.uint8]:
    """Return two lungs of different size without lesion (the first slice is empty)."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 4:20, 10:16] = Label.LEFT_LUNG
    labels[1:6, 3:21, 2:8] = Label.RIGHT_LUNG
    return labels


def both_lungs() -> NDArray[np.uint8]:
    """Return two lungs, one lesion in the left and a larger one in the right."""
    labels = healthy_lungs()
    labels[2:4, 6:9, 11:14] = Label.LEFT_GROUND_GLASS
    labels[2:5, 10:18, 3:7] = Label.RIGHT_GROUND_GLASS
    return labels


def left_lesion() -> NDArray[np.uint8]:
    """Return two lungs with a lesion in the left one only."""
    labels = healthy_lungs()
    labels[2, 6:9, 11:15] = Label.LEFT_GROUND_GLASS
    return labels


def _write_slices(
    folder: Path, geometry: Geometry, hu: NDArray[np.int16], syntax: UID, change: Change
) -> tuple[list[tuple[Path, Uid]], tuple[SliceSource, ...]]:
    count = geometry.shape[0]
    paths, sources = [], []
    for index in range(count):
        dataset = _common(syntax, CTImageStorage, derive_uid("instance", str(index)))
        dataset.InstanceNumber = count - index
        dataset.ImagePositionPatient = _decimals(geometry.slice_position(index))
        dataset.ImageOrientationPatient = _decimals(
            (*geometry.row_cosines, *geometry.column_cosines)
        )
        dataset.PixelSpacing = list(geometry.pixel_spacing)
        dataset.SliceThickness = geometry.slice_spacing
        dataset.RescaleIntercept, dataset.RescaleSlope = "-1024", "1"
        _pixels(dataset, geometry, hu[index])
        change(dataset)
        path = folder / f"{count - index}.dcm"
        _save(dataset, path)
        uid = Uid(dataset.SOPInstanceUID)
        paths.append((path, uid))
        sources.append(
            SliceSource(
                sop_class_uid=Uid(CTImageStorage),
                sop_instance_uid=uid,
                rescale=(float(dataset.RescaleSlope), float(dataset.RescaleIntercept)),
                instance_number=count - index,
            )
        )
    return paths, tuple(sources)


def _write_enhanced(
    folder: Path, geometry: Geometry, hu: NDArray[np.int16], syntax: UID, change: Change
) -> tuple[list[tuple[Path, Uid]], tuple[SliceSource, ...]]:
    """Write one multi-frame image whose frames run against the slices of the volume."""
    count = geometry.shape[0]
    uid = derive_uid("enhanced")
    dataset = _common(syntax, EnhancedCTImageStorage, uid)
    dataset.NumberOfFrames = count
    dataset.InstanceNumber = 1
    organization = derive_uid("organization")
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=0x00200032,
            FunctionalGroupPointer=0x00209113,
        )
    ]
    dataset.SharedFunctionalGroupsSequence = [
        _item(
            PixelMeasuresSequence=[
                _item(
                    PixelSpacing=list(geometry.pixel_spacing), SliceThickness=geometry.slice_spacing
                )
            ],
            PlaneOrientationSequence=[
                _item(
                    ImageOrientationPatient=_decimals(
                        (*geometry.row_cosines, *geometry.column_cosines)
                    )
                )
            ],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[_item(DimensionIndexValues=[frame + 1])],
            PlanePositionSequence=[
                _item(ImagePositionPatient=_decimals(geometry.slice_position(count - 1 - frame)))
            ],
        )
        for frame in range(count)
    ]
    _pixels(dataset, geometry, hu[::-1])
    change(dataset)
    path = folder / "enhanced.dcm"
    _save(dataset, path)
    sources = tuple(
        SliceSource(
            sop_class_uid=Uid(EnhancedCTImageStorage),
            sop_instance_uid=uid,
            frame_number=count - index,
            frame_count=count,
            rescale=(1.0, -1024.0),
            instance_number=1,
        )
        for index in range(count)
    )
    return [(path, uid)], sources


def _common(syntax: UID, sop_class: UID, uid: Uid) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Modality = "CT"
    dataset.PatientName, dataset.PatientID = "Tiny^Series", "TINY-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19700102", "F"
    dataset.StudyInstanceUID = derive_uid("study")
    dataset.SeriesInstanceUID = derive_uid("series")
    dataset.StudyDate, dataset.StudyTime = "20260102", "030405"
    dataset.AccessionNumber, dataset.StudyID = "ACC-7", "S7"
    dataset.ReferringPhysicianName = "Doe^Jane"
    dataset.SeriesNumber = 2
    dataset.FrameOfReferenceUID = derive_uid("frame")
    dataset.PositionReferenceIndicator = ""
    return dataset


def _pixels(dataset: Dataset, geometry: Geometry, hu: NDArray[np.int16]) -> None:
    _, dataset.Rows, dataset.Columns = geometry.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = (hu + 1024).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"


def _save(dataset: Dataset, path: Path) -> None:
    """Write a file, raw elements as they are."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    dataset.set_original_encoding(
        syntax.is_implicit_VR, syntax.is_little_endian, dataset._character_set
    )
    dataset.save_as(path, enforce_file_format=True)


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _decimals(values: tuple[float, ...]) -> list[str]:
    return [f"{value:.10g}" for value in values]


def _received(path: Path, uid: Uid) -> ReceivedInstance:
    content = path.read_bytes()
    return ReceivedInstance(
        path=path,
        sop_class_uid=Uid(CTImageStorage),
        sop_instance_uid=uid,
        series_uid=derive_uid("series"),
        study_uid=derive_uid("study"),
        patient_key="patient",
        transfer_syntax_uid=Uid(ExplicitVRLittleEndian),
        content_digest=sha256(content).hexdigest(),
        size=len(content),
        received_at=CREATED,
        calling_ae="MODALITY",
    )
