"""Multi-frame CT made of the slices of a single-frame series, laid out in every way allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import highdicom as hd
import numpy as np
from ct_series import item
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, EnhancedCTImageStorage, ExplicitVRLittleEndian

from chestct.uids import derive_uid

_OF_SLICES = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ImageType", "PixelData"),
    *("ConvolutionKernel", "InstanceNumber", "SOPInstanceUID", "SOPClassUID"),
)
PLAIN_TYPE = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOf:
    """One frame to be: the slice that it shows, and what it says of itself.

    Attributes:
        content: Elements of its Frame Content Sequence.
        position, cosines: In the place of those of the slice.
        kvp: Of its X-ray details, where stated.
        properties: More elements of its CT Image Frame Type.
    """

    slice: Dataset
    content: dict[str, Any]
    frame_type: Sequence[str] = tuple(PLAIN_TYPE)
    position: Sequence[float] | None = None
    cosines: Sequence[float] | None = None
    kvp: float | None = None
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How slices become multi-frame images.

    Attributes:
        sizes: Frames of each image; one image of all where empty.
        seed: Shuffles the frames; None leaves them in the order of the slices.
        own_groups: Pixel measures, orientation and type stand with every frame, not shared.
        rescales: Every frame has a rescale of its own.
        concatenated: The images are parts of a concatenation (PS3.3 C.7.6.16.2.2.4).
        legacy: Leave the conversion to highdicom: Legacy Converted Enhanced CT.
        fragments: Fragments for each frame of compressed pixels.
        extended: Compressed pixels have an Extended Offset Table.
        frames: Changes the frames before they are laid out.
    """

    sizes: tuple[int, ...] = ()
    seed: int | None = None
    own_groups: bool = False
    rescales: bool = False
    concatenated: bool = False
    legacy: bool = False
    fragments: int = 1
    extended: bool = False
    frames: Callable[[list[FrameOf]], list[FrameOf]] = lambda frames: frames

    def apply(self, slices: Sequence[Dataset]) -> list[Dataset]:
        """Return the multi-frame images, uncompressed."""
        if self.legacy:
            return [_converted(slices)]
        frames = self.frames([FrameOf(slice=one, content={}) for one in slices])
        if self.seed is not None:
            frames = [
                frames[index] for index in np.random.default_rng(self.seed).permutation(len(frames))
            ]
        bounds = list(accumulate(self.sizes or (len(frames),), initial=0))
        assert bounds[-1] == len(frames)
        return [
            self._image(frames[begin:end], number, begin)
            for number, (begin, end) in enumerate(pairwise(bounds), start=1)
        ]

    def _image(self, frames: Sequence[FrameOf], number: int, begin: int) -> Dataset:
        first = frames[0].slice
        image = Dataset()
        image.file_meta = FileMetaDataset()
        for element in first:
            if element.keyword not in _OF_SLICES:
                image[element.tag] = element
        image.SOPClassUID = EnhancedCTImageStorage
        image.SOPInstanceUID = derive_uid("part", first.SeriesInstanceUID, str(number))
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.ImageType, image.InstanceNumber = PLAIN_TYPE, number
        image.BitsStored, image.HighBit = 16, 15
        image.NumberOfFrames = len(frames)
        if self.concatenated:
            image.ConcatenationUID = derive_uid("concatenation")
            image.InConcatenationNumber = number
            image.InConcatenationTotalNumber = len(self.sizes)
            image.ConcatenationFrameOffsetNumber = begin
        organization = derive_uid("organization", first.SeriesInstanceUID)
        image.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
        image.DimensionIndexSequence = [
            item(
                DimensionOrganizationUID=organization,
                DimensionIndexPointer=0x00200032,
                FunctionalGroupPointer=0x00209113,
            )
        ]
        groups = [self._groups(frame, place) for place, frame in enumerate(frames, begin)]
        image.SharedFunctionalGroupsSequence = [item(**groups[0][0])]
        image.PerFrameFunctionalGroupsSequence = [item(**own) for _, own in groups]
        image.PixelData = b"".join(
            self._stored(frame.slice, place) for place, frame in enumerate(frames, begin)
        )
        image["PixelData"].VR = "OW"
        return image

    def _groups(self, frame: FrameOf, place: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the groups of a frame that may be shared, and those that are its own."""
        one = frame.slice
        common: dict[str, Any] = {
            "PixelMeasuresSequence": [
                item(PixelSpacing=one.PixelSpacing, SliceThickness=one.SliceThickness)
            ],
            "PlaneOrientationSequence": [
                item(ImageOrientationPatient=list(frame.cosines or one.ImageOrientationPatient))
            ],
            "CTImageFrameTypeSequence": [
                item(FrameType=list(frame.frame_type), **dict(frame.properties))
            ],
        }
        slope, intercept = self._rescale(one, place)
        own = {
            "FrameContentSequence": [item(DimensionIndexValues=[place + 1], **frame.content)],
            "PlanePositionSequence": [
                item(ImagePositionPatient=list(frame.position or one.ImagePositionPatient))
            ],
            "PixelValueTransformationSequence": [
                item(RescaleSlope=str(slope), RescaleIntercept=str(intercept), RescaleType="HU")
            ],
        }
        if frame.kvp is not None:
            own["CTXRayDetailsSequence"] = [item(KVP=frame.kvp)]
        return ({}, common | own) if self.own_groups else (common, own)

    def _rescale(self, one: Dataset, place: int) -> tuple[float, float]:
        """Return slope and intercept of a frame."""
        if not self.rescales:
            return float(one.RescaleSlope), float(one.RescaleIntercept)
        return (0.5, 1.0)[place % 2], -1024 - place

    def _stored(self, one: Dataset, place: int) -> bytes:
        kind = "<i2" if one.PixelRepresentation else "<u2"
        stored = np.frombuffer(one.PixelData, kind)
        if self.rescales:
            hu = stored * float(one.RescaleSlope) + float(one.RescaleIntercept)
            slope, intercept = self._rescale(one, place)
            stored = np.rint((hu - intercept) / slope)
        return stored.astype(kind).tobytes()

    def compress(self, image: Dataset, syntax: UID) -> None:
        """Compress an image in place, with the fragments and tables asked for."""
        image.compress(syntax, encapsulate_ext=self.extended)
        if self.fragments > 1:
            frames = list(generate_frames(image.PixelData, number_of_frames=image.NumberOfFrames))
            image.PixelData = encapsulate(frames, fragments_per_frame=self.fragments)


def _converted(slices: Sequence[Dataset]) -> Dataset:
    for one in slices:
        one.Manufacturer = one.get("Manufacturer") or "Maker"
        for keyword in ("PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"):
            setattr(one, keyword, one.get(keyword) or "")
    return hd.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=slices,
        series_instance_uid=slices[0].SeriesInstanceUID,
        series_number=1,
        sop_instance_uid=derive_uid("converted", slices[0].SeriesInstanceUID),
        instance_number=1,
    )
