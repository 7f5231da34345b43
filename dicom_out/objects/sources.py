"""The source images in the form that highdicom and the result objects need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from chestct.errors import InputUnavailable, ResultInvalid
from chestct.series import Series
from chestct.uids import derive_uid
from chestct.volume import SliceSource, Volume
from dicom_out.objects.copied_attributes import TYPE_2
from dicom_out.objects.identity import ascii_text
from dicom_out.objects.patient_study import lossy_history, valid_text

_POSITION_REFERENCE = "PositionReferenceIndicator"
DECIMALS = 6
"""Decimals of a position in mm; the digits beyond are rounding errors of float arithmetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The source images of a result.

    Attributes:
        images: One data set per source instance, in slice order. Each holds only the UIDs that
            references name, and the geometry of the volume: no other part of the received header,
            however odd, can make a result fail.
        stack: The same images in the form that highdicom accepts: ``images`` for single-frame
            images; otherwise one multi-frame image that joins the frames of all images in slice
            order, under a derived UID.
        slices: The source of each slice of the volume.
        original: The untouched header of one source instance.
    """

    images: tuple[Dataset, ...]
    stack: tuple[Dataset, ...]
    slices: tuple[SliceSource, ...]
    original: Dataset

    @property
    def multi_frame(self) -> bool:
        """Whether slices are frames of multi-frame images."""
        return self.slices[0].frame_number is not None

    def slices_of(self, sop_instance_uid: str) -> list[tuple[int, int]]:
        """Return (slice, frame number) of every analysed frame of a multi-frame image."""
        return [
            (index, source.frame_number)
            for index, source in enumerate(self.slices)
            if source.sop_instance_uid == sop_instance_uid and source.frame_number is not None
        ]

    def frames_used(self, image: Dataset) -> list[int] | None:
        """Return the analysed frames of an image; None when all of its frames were analysed.

        This is the value of Referenced Frame Number (PS3.3 table 10-3).
        """
        if not self.multi_frame:
            return None
        used = [frame for _, frame in self.slices_of(str(image.SOPInstanceUID))]
        return None if len(used) == image.NumberOfFrames else sorted(used)


def read_sources(series: Series, volume: Volume) -> Sources:
    """Return the source images of a volume; reads one header.

    Raises:
        InputUnavailable: A source image is gone or cannot be read now.
        ResultInvalid: The volume mixes single-frame and multi-frame images.
    """
    if len({source.frame_number is None for source in volume.sources}) > 1:
        raise ResultInvalid("the volume mixes single-frame and multi-frame images")
    paths = {instance.sop_instance_uid: instance.path for instance in series.instances}
    first = volume.sources[0]
    try:
        original = pydicom.dcmread(paths[first.sop_instance_uid], stop_before_pixels=True)
    except OSError as error:
        raise InputUnavailable.because_of(error, first.sop_instance_uid) from error
    common = _common(series, volume, original)
    if first.frame_number is None:
        common.update(_pixel_measures(volume))
        common.update(_orientation(volume))
        images = tuple(_single_frame(common, volume, index) for index in range(len(volume.sources)))
        stack = images
    else:
        images = tuple(_multi_frame(common, frames) for frames in _frames_by_instance(volume))
        stack = (_joined(common, volume),)
    return Sources(images=images, stack=stack, slices=volume.sources, original=original)


def _common(series: Series, volume: Volume, original: Dataset) -> Dataset:
    """Return the attributes that all images share.

    The patient stays empty: highdicom (0.28) raises without Patient's Birth Date and on many
    Specific Character Sets. :func:`copy_patient_and_study` fills it in later.
    """
    image = Dataset()
    for keyword in TYPE_2:
        setattr(image, keyword, "")
    image.StudyInstanceUID = series.instances[0].study_uid
    image.SeriesInstanceUID = volume.series_uid
    image.FrameOfReferenceUID = volume.frame_of_reference_uid
    image.PositionReferenceIndicator = ascii_text(valid_text(original, _POSITION_REFERENCE))
    image.Modality = "CT"
    image.Rows, image.Columns = volume.geometry.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    for keyword, values in lossy_history(original).items():
        setattr(image, keyword, values)
    return image


def _single_frame(common: Dataset, volume: Volume, index: int) -> Dataset:
    """Return the single-frame image of one slice."""
    source = volume.sources[index]
    image = Dataset()
    image.update(common)
    image.SOPClassUID = source.sop_class_uid
    image.SOPInstanceUID = source.sop_instance_uid
    image.update(_position(volume, index))
    image.update(_rescale([source]))
    return image


def _frames_by_instance(volume: Volume) -> list[list[SliceSource]]:
    """Return the analysed frames of each multi-frame instance, in slice order."""
    frames: dict[str, list[SliceSource]] = {}
    for source in volume.sources:
        frames.setdefault(source.sop_instance_uid, []).append(source)
    return list(frames.values())


def _multi_frame(common: Dataset, frames: Sequence[SliceSource]) -> Dataset:
    """Return a received multi-frame image with the UIDs to reference and its rescale."""
    first = frames[0]
    image = Dataset()
    image.update(common)
    image.SOPClassUID = first.sop_class_uid
    image.SOPInstanceUID = first.sop_instance_uid
    image.NumberOfFrames = first.frame_count or max(frame.frame_number or 1 for frame in frames)
    shared = Dataset()
    rescale = _rescale(frames)
    if len(rescale):
        shared.PixelValueTransformationSequence = [rescale]
    image.SharedFunctionalGroupsSequence = [shared]
    return image


def _joined(common: Dataset, volume: Volume) -> Dataset:
    """Return one image that joins the frames of all multi-frame images, in slice order.

    highdicom (0.28) accepts at most one multi-frame image, segments every frame of it, and
    needs shared pixel measures and orientation.
    """
    joint = Dataset()
    joint.update(common)
    uids = dict.fromkeys(source.sop_instance_uid for source in volume.sources)
    joint.SOPClassUID = volume.sources[0].sop_class_uid
    joint.SOPInstanceUID = derive_uid("joined", *uids)
    joint.NumberOfFrames = len(volume.sources)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_pixel_measures(volume)]
    shared.PlaneOrientationSequence = [_orientation(volume)]
    joint.SharedFunctionalGroupsSequence = [shared]
    joint.PerFrameFunctionalGroupsSequence = []
    for index in range(len(volume.sources)):
        groups = Dataset()
        groups.PlanePositionSequence = [_position(volume, index)]
        joint.PerFrameFunctionalGroupsSequence.append(groups)
    return joint


def _pixel_measures(volume: Volume) -> Dataset:
    item = Dataset()
    item.PixelSpacing = [decimal(spacing) for spacing in volume.geometry.pixel_spacing]
    item.SliceThickness = decimal(volume.thickness_mm or volume.geometry.slice_spacing)
    return item


def _orientation(volume: Volume) -> Dataset:
    item = Dataset()
    geometry = volume.geometry
    cosines = (*geometry.row_cosines, *geometry.column_cosines)
    item.ImageOrientationPatient = [decimal(cosine) for cosine in cosines]
    return item


def _position(volume: Volume, index: int) -> Dataset:
    item = Dataset()
    position = volume.geometry.slice_position(index)
    item.ImagePositionPatient = [decimal(round(mm, DECIMALS)) for mm in position]
    return item


def _rescale(frames: Sequence[SliceSource]) -> Dataset:
    """Return the rescale to HU; empty when it is unknown or differs between the frames."""
    item = Dataset()
    rescales = {frame.rescale for frame in frames}
    (rescale,) = rescales if len(rescales) == 1 else (None,)
    if rescale is not None:
        item.RescaleSlope, item.RescaleIntercept = map(decimal, rescale)
        item.RescaleType = "HU"
    return item


def decimal(value: float) -> str:
    """Return a number as a Decimal String: 16 characters at most, no negative zero."""
    return format_number_as_ds(float(value) + 0.0)
