"""The images of a series: single-frame instances and the frames of multi-frame instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import Vector, cross
from inference.loading.elements import UNPARSABLE, integer, number_of, numbers_of, text_of, value_of

PER_FRAME = "PerFrameFunctionalGroupsSequence"
_UNASSIGNED = frozenset(
    {
        "UnassignedSharedConvertedAttributesSequence",
        "UnassignedPerFrameConvertedAttributesSequence",
    }
)
_HOMES = {
    tag_for_keyword(keyword): group
    for group, keywords in {
        "PlanePositionSequence": ("ImagePositionPatient",),
        "PlaneOrientationSequence": ("ImageOrientationPatient",),
        "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
        "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
        "CTImageFrameTypeSequence": ("FrameType",),
    }.items()
    for keyword in keywords
}
"""The functional group that decides over an element; copies elsewhere do not count."""
_CHEST_CODES = frozenset(
    {
        "816094009",  # chest; 51185008 and T-D3000 in older editions
        "51185008",
        "T-D3000",
        "39607008",  # lung
        "T-28000",
        "416550000",  # chest and abdomen
        "416775004",  # chest, abdomen and pelvis
        "417437006",  # neck and chest
        "416152001",  # neck, chest and abdomen
        "416319003",  # neck, chest, abdomen and pelvis
    }
)
"""Anatomic regions that contain the lungs (CID 4030, SNOMED CT and its older SRT codes)."""
_NEARER_AXIAL = math.cos(math.radians(45))
_NOTHING_DONE = frozenset({"", "NONE"})
_WHOLE_VOXELS = frozenset({"", "VOLUME", "SAMPLED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """An image of a series.

    Attributes:
        dataset: The instance that holds the image.
        instance: Index of that instance in the series.
        number: Counts from 1 in a multi-frame instance; None for a single-frame image.
        groups: The attributes of this image alone: its functional groups, flat, or ``dataset``.
    """

    dataset: Dataset
    instance: int
    number: int | None
    groups: Dataset

    @property
    def image_type(self) -> tuple[str, ...]:
        """Image Type or Frame Type, upper-cased.

        Volumetric Properties and Volume Based Calculation Technique (PS3.3 C.8.16.2) follow the
        four values where they describe more than a plain slice.
        """
        stated = text_of(self.groups, "FrameType") if self.number is not None else ""
        values = (stated or text_of(self.dataset, "ImageType")).split("\\")
        if self.number is not None:
            properties = text_of(self.groups, "VolumetricProperties")
            technique = text_of(self.groups, "VolumeBasedCalculationTechnique")
            values += [properties] if properties not in _WHOLE_VOXELS else []
            values += [technique] if technique not in _NOTHING_DONE else []
        return tuple(values)

    @property
    def body_part(self) -> str:
        """Body Part Examined, else the frame's Anatomic Region; upper-cased.

        Codes of regions with lungs give CHEST: Code Meaning may be in any language.
        """
        examined = text_of(self.dataset, "BodyPartExamined")
        if examined or self.number is None:
            return examined
        regions = value_of(self.groups, "AnatomicRegionSequence")
        if not regions:
            return ""
        if text_of(regions[0], "CodeValue") in _CHEST_CODES:
            return "CHEST"
        return text_of(regions[0], "CodeMeaning")

    @property
    def leans(self) -> bool:
        """Whether the image is nearer to sagittal or coronal than to axial; False if unknown."""
        cosines = cosines_of(self.groups)
        return cosines is not None and abs(cross(*cosines)[2]) < _NEARER_AXIAL

    @property
    def stack(self) -> tuple[str, str]:
        """The dimension organization and the Stack ID, which is unique only within it."""
        return _organization(self.dataset), text_of(self.groups, "StackID")

    @property
    def moment(self) -> int | None:
        """Temporal Position Index."""
        return integer(self.groups, "TemporalPositionIndex")

    @property
    def tube_voltage(self) -> float | None:
        """KVP, of the first X-ray source where there are several."""
        return number_of(self.groups, "KVP")


def frames_of(datasets: Sequence[Dataset]) -> list[Frame]:
    """Return every image of a series.

    Raises:
        SeriesRejected: A multi-frame image does not describe each of its frames.
    """
    frames: list[Frame] = []
    for index, dataset in enumerate(datasets):
        if PER_FRAME in dataset:
            frames += [
                Frame(dataset=dataset, instance=index, number=number, groups=groups)
                for number, groups in enumerate(_functional_groups(dataset), start=1)
            ]
        else:
            frames.append(Frame(dataset=dataset, instance=index, number=None, groups=dataset))
    return frames


def cosines_of(groups: Dataset) -> tuple[Vector, Vector] | None:
    """Return the row and column direction cosines of an image; None where they are missing."""
    cosines = numbers_of(groups, "ImageOrientationPatient", 6)
    if cosines is None:
        return None
    return (cosines[0], cosines[1], cosines[2]), (cosines[3], cosines[4], cosines[5])


def _organization(dataset: Dataset) -> str:
    """Return the scope within which Stack IDs are comparable (PS3.3 C.7.6.16.2.2)."""
    concatenation = text_of(dataset, "ConcatenationUID")
    if concatenation:
        return concatenation
    try:
        (first, *_) = dataset.DimensionOrganizationSequence
        uid = text_of(first, "DimensionOrganizationUID")
    except UNPARSABLE:
        uid = ""
    return uid or text_of(dataset, "SOPInstanceUID")


def _functional_groups(dataset: Dataset) -> list[Dataset]:
    """Flatten shared and per-frame functional groups (PS3.3 A.38 and C.7.6.16).

    Raises:
        SeriesRejected: The functional groups cannot be read, or do not have an item for each
            frame.
    """
    try:
        shared = value_of(dataset, "SharedFunctionalGroupsSequence") or [Dataset()]
        per_frame = dataset[PER_FRAME].value
        stated = integer(dataset, "NumberOfFrames")
        if not per_frame or stated != len(per_frame):
            raise SeriesRejected(
                RejectReason.BAD_GEOMETRY,
                f"Number of Frames is {stated}, but the functional groups describe "
                f"{len(per_frame)} frames",
            )
        common = _items(shared[0])
        return [_flat(common | _items(own)) for own in per_frame]
    except UNPARSABLE as error:
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY, "the functional groups cannot be read"
        ) from error


def _items(groups: Dataset) -> dict[str, Dataset]:
    """Return the item of every functional group by the keyword of its sequence."""
    return {
        element.keyword: element.value[0]
        for element in groups
        if element.VR == "SQ" and element.value
    }


def _flat(items: dict[str, Dataset]) -> Dataset:
    """Merge the elements of all functional groups.

    An element that decides over the position or the value of a pixel counts in its own group
    alone. The unassigned attributes of a legacy conversion count only where no group has them.
    """
    flat = Dataset()
    for group, item in sorted(items.items(), key=lambda pair: pair[0] not in _UNASSIGNED):
        own = {tag: element for tag, element in item.items() if _HOMES.get(tag, group) == group}
        flat.update(own)
    return flat
