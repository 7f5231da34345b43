"""CT series whose pixels are the truth: what a voxel is, is painted into its Hounsfield value.

So where each lung and lesion lies in the patient follows from the source files alone, by the
equation of PS3.3 C.7.6.2.1.1, and nothing of the loading and writing code is needed to say it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from chest_cases import Case
from ct_series import ORIGIN, SPACING, STEP, SeriesMaker, ct_slice, enhanced_ct
from enhanced_ct import Layout
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLosslessSV1

from chestct.geometry import Vector
from chestct.method import Method, Presence
from chestct.results import AnalysisKey
from chestct.series import Series
from chestct.volume import Label, LesionMap
from inference.loading.loader import LoadingPolicy, load
from inference.reading.quantify import measure

SHAPE = (24, 40, 34)
PAINT = {
    Label.BACKGROUND: 40,
    Label.LEFT_LUNG: -860,
    Label.RIGHT_LUNG: -840,
    Label.LEFT_GROUND_GLASS: -500,
    Label.RIGHT_GROUND_GLASS: -480,
    Label.LEFT_CONSOLIDATION: -180,
    Label.RIGHT_CONSOLIDATION: -200,
}
"""Hounsfield units of each label."""

Labels = NDArray[np.uint8]
Change = Callable[[int, Dataset], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What sets one series apart from the plain one.

    Attributes:
        labels: Painted labels (file, row, column), in the order of the files.
        cosines: Image Orientation (Patient), rows and columns.
        steps: Place of each file along the normal of its plane, in mm.
        spacing: Pixel Spacing.
        intercept, slope, signed: How Hounsfield units are stored.
        layout: Puts the slices into multi-frame images.
        change: Edits every data set before it is written.
    """

    labels: Labels
    cosines: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    steps: Sequence[float] = tuple(STEP * index for index in range(SHAPE[0]))
    spacing: tuple[float, float] = SPACING
    intercept: int = -1024
    slope: int = 1
    signed: bool = False
    syntax: UID = ExplicitVRLittleEndian
    enhanced: bool = False
    layout: Layout | None = None
    change: Change = lambda _index, _dataset: None

    def write(self, folder: Path) -> tuple[Series, tuple[Path, ...]]:
        """Write the series into ``folder``; return it with its files."""
        folder.mkdir(parents=True)
        maker = SeriesMaker(folder)
        datasets = [self._enhanced()] if self.enhanced else self._slices()
        if self.layout is not None:
            datasets = self.layout.apply(datasets)
        lossless_jpeg = self.syntax == JPEGLosslessSV1
        series = maker.write(
            datasets,
            ExplicitVRLittleEndian if lossless_jpeg else self.syntax,
            (self.layout or Layout()).compress,
        )
        files = tuple(folder / f"{number}.dcm" for number in range(len(datasets)))
        if lossless_jpeg:
            for path in files:
                _jpeg_lossless(path)
        return series, files

    def _slices(self) -> list[Dataset]:
        hu = painted(self.labels)
        normal = np.cross(*self.cosines)
        datasets = []
        for index, place in enumerate(self.steps):
            stored = (hu[index] - self.intercept) // self.slope
            dataset = ct_slice(index, stored, signed=self.signed)
            position = np.array(ORIGIN) + place * normal
            dataset.ImagePositionPatient = [f"{value:.8g}" for value in position]
            dataset.ImageOrientationPatient = [
                f"{value:.10g}" for axis in self.cosines for value in axis
            ]
            dataset.PixelSpacing = list(self.spacing)
            dataset.RescaleIntercept, dataset.RescaleSlope = str(self.intercept), str(self.slope)
            dataset.InstanceNumber = index + 1
            dataset.PatientBirthDate, dataset.PatientSex = "19700102", "F"
            dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260102", "030405", "S7"
            dataset.AccessionNumber, dataset.ReferringPhysicianName = "ACC-7", "Doe^Jane"
            dataset.SpecificCharacterSet = "ISO_IR 100"
            self.change(index, dataset)
            datasets.append(dataset)
        return datasets

    def _enhanced(self) -> Dataset:
        """Return one Enhanced CT: its frames run from the head down, each with a rescale."""
        hu = painted(self.labels)
        down = np.arange(len(hu))[:, None, None]
        stored = hu[::-1] + 1024 + down
        dataset = enhanced_ct(stored[::-1].astype(np.int32))
        dataset.PatientBirthDate, dataset.PatientSex = "19700102", "F"
        dataset.InstanceNumber = 1
        self.change(0, dataset)
        return dataset


def painted(labels: Labels) -> NDArray[np.int32]:
    """Return the Hounsfield units of labels."""
    table = np.array([PAINT[label] for label in Label], np.int32)
    return table[labels]


def truth(files: Sequence[Path], read: Callable[[Path], Dataset]) -> dict[Label, NDArray]:
    """Return the centre of each label's voxels in LPS mm, (n, 3), from the source files alone."""
    points: dict[Label, list[NDArray]] = {label: [] for label in Label}
    for path in files:
        for pixels, position, cosines, spacing in _planes(read(path)):
            for label, hu in PAINT.items():
                rows, columns = np.nonzero(pixels == hu)
                points[label].append(
                    position
                    + columns[:, None] * spacing[1] * cosines[:3]
                    + rows[:, None] * spacing[0] * cosines[3:]
                )
    return {label: np.concatenate(found) for label, found in points.items()}


def _planes(dataset: Dataset) -> list[tuple[NDArray, NDArray, NDArray, list[float]]]:
    """Return (HU, position, cosines, spacing) of every frame of an image."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        hu = dataset.pixel_array.astype(np.int32) * int(dataset.RescaleSlope)
        return [
            (
                hu + int(dataset.RescaleIntercept),
                np.array(dataset.ImagePositionPatient, float),
                np.array(dataset.ImageOrientationPatient, float),
                [float(value) for value in dataset.PixelSpacing],
            )
        ]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    planes = []
    frames = dataset.PerFrameFunctionalGroupsSequence
    for pixels, groups in zip(dataset.pixel_array, frames, strict=True):
        found = {
            name: (groups if name in groups else shared)[name][0]
            for name in (
                "PlanePositionSequence",
                "PlaneOrientationSequence",
                "PixelMeasuresSequence",
                "PixelValueTransformationSequence",
            )
        }
        position, orientation, measures, rescale = found.values()
        hu = pixels * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)
        planes.append(
            (
                np.rint(hu).astype(np.int32),
                np.array(position.ImagePositionPatient, float),
                np.array(orientation.ImageOrientationPatient, float),
                [float(value) for value in measures.PixelSpacing],
            )
        )
    return planes


def analysed(series: Series) -> Case:
    """Load a series and take what is painted in it for the analysis of it."""
    volume = load(series, LoadingPolicy())
    labels = np.zeros(volume.hu.shape, np.uint8)
    for label, hu in PAINT.items():
        labels[volume.hu == hu] = label
    lesion_map = LesionMap(labels=labels, geometry=volume.geometry)
    presence = Presence(score=0.9 if lesion_map.lesion().any() else 0.1, operating_point=0.5)
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


def lungs(*, mirrored: bool = False) -> Labels:
    """Return two unlike lungs without lesion; the left one at high columns unless mirrored."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:21, 6:33, 19:31] = Label.LEFT_LUNG
    labels[2:22, 5:35, 3:16] = Label.RIGHT_LUNG
    return labels[:, :, ::-1].copy() if mirrored else labels


def with_lesion(labels: Labels) -> Labels:
    """Put one lesion in, of unlike extents, into the right lung."""
    box = labels[7:12, 10:18, :]
    box[(box == Label.RIGHT_LUNG) & _part(box.shape)] = Label.RIGHT_CONSOLIDATION
    return labels


def with_lesions(labels: Labels) -> Labels:
    """Put hundreds of lesions in: single voxels that do not touch."""
    dots = np.zeros(SHAPE, bool)
    dots[4:20:3, 8:32:3, ::3] = True
    labels[dots & (labels == Label.LEFT_LUNG)] = Label.LEFT_GROUND_GLASS
    labels[dots & (labels == Label.RIGHT_LUNG)] = Label.RIGHT_CONSOLIDATION
    return labels


def _part(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a slanted part of a box: a shape with no symmetry."""
    slices, rows, columns = np.indices(shape)
    return (columns + rows // 2 + slices) % 34 < 24


def _jpeg_lossless(path: Path) -> None:
    """Compress a file in place as JPEG Lossless SV1, which pydicom cannot write."""
    gdcmconv = Path(sys.executable).with_name("gdcmconv")
    packed = path.with_suffix(".jpeg")
    subprocess.run([gdcmconv, "--jpeg", path, packed], check=True, capture_output=True)
    packed.replace(path)
