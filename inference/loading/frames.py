"""The images of a series one by one: single-frame instances and the frames of multi-frame ones."""

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
"""The one functional group in which an element counts."""
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
"""Anatomic regions that hold the lungs (CID 4030, SNOMED CT and its older SRT codes)."""
_NEARER_AXIAL = math.cos(math.radians(45))
_NOTHING_DONE = frozenset({"", "NONE"})
_WHOLE_VOXELS = frozenset({"", "VOLUME", "SAMPLED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image of a series.

    Attributes:
        dataset: The instance that it belongs to.
        instance: Index of that instance in the series.
        number: Counts from 1 in a multi-frame instance; None for a single-frame image.
        groups: What describes this image alone: its functional groups, flat, or ``dataset``.
    """

    dataset: Dataset
    instance: int
    number: int | None
    groups: Dataset

    @property
    def image_type(self) -> tuple[str, ...]:
        """Image Type or Frame Type, upper-cased, and what was computed of the voxels, if anything.

        Volumetric Properties and Volume Based Calculation Technique (PS3.3 C.8.16.2) stand
        behind the four values where they say more than that this is a plain slice.
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
        """Body Part Examined, else what the frame's Anatomic Region names; upper-cased.

        Codes for regions with lungs give CHEST: their meaning may be in any language.
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
        """Whether it is known to be nearer to sagittal or coronal than to axial."""
        cosines = cosines_of(self.groups)
        return cosines is not None and abs(cross(*cosines)[2]) < _NEARER_AXIAL

    @property
    def stack(self) -> tuple[str, str]:
        """The dimension organization and the Stack ID in it, which means nothing in another."""
        return _organization(self.dataset), text_of(self.groups, "StackID")

    @property
    def moment(self) -> int | None:
        """Temporal Position Index."""
        return integer(self.groups, "TemporalPositionIndex")

    @property
    def tube_voltage(self) -> float | None:
        """KVP, of the first source where there are several."""
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
    """Return the row and column direction cosines of an image, None without."""
    found = numbers_of(groups, "ImageOrientationPatient", 6)
    if found is None:
        return None
    return (found[0], found[1], found[2]), (found[3], found[4], found[5])


def _organization(dataset: Dataset) -> str:
    """Return within what Stack IDs are comparable (PS3.3 C.7.6.16.2.2)."""
    concatenation = text_of(dataset, "ConcatenationUID")
    if concatenation:
        return concatenation
    try:
        (first, *_) = dataset.DimensionOrganizationSequence
        named = text_of(first, "DimensionOrganizationUID")
    except UNPARSABLE:
        named = ""
    return named or text_of(dataset, "SOPInstanceUID")


def _functional_groups(dataset: Dataset) -> list[Dataset]:
    """Flatten shared and per-frame functional groups (PS3.3 A.38 and C.7.6.16).

    Raises:
        SeriesRejected: They cannot be read, or there is not one item for each frame: some
            would stay unread.
    """
    try:
        shared = value_of(dataset, "SharedFunctionalGroupsSequence") or [Dataset()]
        per_frame = dataset[PER_FRAME].value
        stated = integer(dataset, "NumberOfFrames")
        if not per_frame or stated != len(per_frame):
            raise SeriesRejected(
                RejectReason.BAD_GEOMETRY, f"{stated} frames, but {len(per_frame)} are described"
            )
        common = _items(shared[0])
        return [_flat(common | _items(own)) for own in per_frame]
    except UNPARSABLE as error:
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY, "the functional groups cannot be read"
        ) from error


def _items(groups: Dataset) -> dict[str, Dataset]:
    """Return the item of every functional group by the keyword of its sequence."""
    return {one.keyword: one.value[0] for one in groups if one.VR == "SQ" and one.value}


def _flat(items: dict[str, Dataset]) -> Dataset:
    """Lay the elements of functional groups over each other.

    What decides over the place and the value of a pixel counts in its own group alone. Of a
    legacy conversion's unassigned attributes only those count that no group gives.
    """
    flat = Dataset()
    for group, item in sorted(items.items(), key=lambda one: one[0] not in _UNASSIGNED):
        own = {tag: one for tag, one in item.items() if _HOMES.get(tag, group) == group}
        flat.update(own)
    return flat
