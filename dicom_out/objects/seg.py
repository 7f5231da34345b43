"""The segmentation object (PS3.3 A.51): segments on the grid of the CT."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset

from chestct.analysed import AnalysedSeries
from chestct.findings import Coverage, Findings
from chestct.results import AnalysisKey, Profile
from chestct.uids import Uid
from chestct.volume import SliceSource
from dicom_out.objects import codes
from dicom_out.objects.finish import finish
from dicom_out.objects.identity import (
    MANUFACTURER,
    contributing_equipment,
    segment_algorithm,
    serial_number,
)
from dicom_out.objects.seg_frames import add_frames, draft_pixels, draft_sources
from dicom_out.objects.segments import SegmentPlan, Segments
from dicom_out.objects.series_names import ResultKind, series_number
from dicom_out.objects.sources import Sources
from dicom_out.reference import sop_reference


@dataclass(frozen=True, slots=True, kw_only=True)
class SegDocument:
    """The texts and numbers of a SEG as a whole.

    Attributes:
        role: Derives the UID of the series.
        part: Number of the part, counted from 1, if the SEG is split; None if it is whole.
    """

    role: str
    result: ResultKind
    series: str
    label: str
    description: str
    part: int | None = None

    @property
    def object_role(self) -> str:
        """The role of the object; derives its UID."""
        return self.role if self.part is None else f"{self.role}-{self.part}"

    @property
    def instance_number(self) -> int:
        """Instance Number: the parts of a SEG are the instances of one series."""
        return self.part or 1


TISSUES = SegDocument(
    role="seg",
    result=ResultKind.SEG,
    series="Lungs and opacities",
    label="LUNG_OPACITIES",
    description="Lungs, ground-glass and consolidation",
)
LESIONS = SegDocument(
    role="seg-lesions",
    result=ResultKind.LESIONS,
    series="Largest lesions one by one",
    label="LUNG_LESIONS",
    description="The largest lung lesions, one by one",
)


def tissues_document(findings: Findings) -> SegDocument:
    """Return the SEG of lungs and opacities; its texts name no opacities that it does not hold."""
    held = TISSUES if findings.lesions else replace(TISSUES, series="Lungs", description="Lungs")
    if findings.covers is Coverage.BOTH:
        return held
    missing = f"{'right' if findings.covers is Coverage.LEFT else 'left'} not assessable"
    return replace(held, series=f"Lungs, {missing}", description=f"{held.description}; {missing}")


def build_seg(
    analysed: AnalysedSeries,
    sources: Sources,
    *,
    document: SegDocument,
    profile: Profile,
    segments: Segments,
) -> Dataset:
    """Build a SEG on the grid of the CT, without empty frames.

    Each frame names its source image (DerivationImageSequence), and the SEG references the series:
    without either, viewers show nothing or the wrong slice.
    """
    key, software = analysed.key, analysed.software
    is_label_map = profile is Profile.LABELMAP
    seg = hd.seg.Segmentation(
        **(_whole if is_label_map else _draft)(sources, segments),
        segment_descriptions=_descriptions(analysed, segments),
        series_instance_uid=key.uid(profile.role(f"{document.role}-series")),
        series_number=series_number(sources.original, document.result),
        sop_instance_uid=key.uid(profile.role(document.object_role)),
        instance_number=document.instance_number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=software.name,
        software_versions=software.version,
        device_serial_number=serial_number(analysed.models, software),
        content_label=document.label,
        content_description=document.description,
        omit_empty_frames=True,
        contributing_equipment=contributing_equipment(analysed.models, software),
    )
    _derive_dimension_uid(seg, key)
    if is_label_map:
        _code_background(seg)
        _reference_received_frames(seg, sources)
    else:
        slices = _slices_of_frames(seg, sources)
        _reference_received_frames(seg, sources)
        add_frames(seg, segments, slices)
    return finish(seg, analysed, sources, described=document.series)


def _whole(sources: Sources, segments: Segments) -> dict[str, Any]:
    """Return the arguments with which highdicom builds a whole label map."""
    return {
        "source_images": list(sources.stack),
        "pixel_array": segments.numbers,
        "segmentation_type": hd.seg.SegmentationTypeValues.LABELMAP,
    }


def _draft(sources: Sources, segments: Segments) -> dict[str, Any]:
    """Return the arguments with which highdicom builds the draft of a binary SEG."""
    return {
        "source_images": draft_sources(sources.stack, segments),
        "pixel_array": draft_pixels(segments),
        "segmentation_type": hd.seg.SegmentationTypeValues.BINARY,
    }


def _slices_of_frames(seg: Dataset, sources: Sources) -> list[int]:
    """Return the slice that each frame shows, before it references the received images."""
    images = [
        groups.DerivationImageSequence[0].SourceImageSequence[0]
        for groups in seg.PerFrameFunctionalGroupsSequence
    ]
    if sources.multi_frame:
        return [int(image.ReferencedFrameNumber) - 1 for image in images]
    places = {source.sop_instance_uid: index for index, source in enumerate(sources.slices)}
    return [places[image.ReferencedSOPInstanceUID] for image in images]


def _reference_received_frames(seg: Dataset, sources: Sources) -> None:
    """Reference received multi-frame images instead of the image that joins their frames."""
    if not sources.multi_frame:
        return
    seg.SourceImageSequence = [
        sop_reference(image.SOPClassUID, image.SOPInstanceUID, sources.frames_used(image))
        for image in sources.images
    ]
    (series,) = seg.ReferencedSeriesSequence
    series.ReferencedInstanceSequence = [
        sop_reference(image.SOPClassUID, image.SOPInstanceUID) for image in sources.images
    ]
    items: dict[int, Dataset] = {}
    for groups in seg.PerFrameFunctionalGroupsSequence:
        derivation = groups.DerivationImageSequence[0]
        (joint,) = derivation.SourceImageSequence  # shared by all segments of a slice
        index = int(joint.ReferencedFrameNumber) - 1
        if index not in items:
            items[index] = _referenced_frame(joint, sources.slices[index])
        derivation.SourceImageSequence = [items[index]]


def _referenced_frame(joint: Dataset, source: SliceSource) -> Dataset:
    item = deepcopy(joint)
    item.ReferencedSOPClassUID = source.sop_class_uid
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    item.ReferencedFrameNumber = source.frame_number
    return item


def _code_background(seg: Dataset) -> None:
    """Code the category of the background, segment 0, as DCMTK and dcmqi do.

    PS3.3 section C.8.20.2.3.3 requires an item for every pixel value, also for 0. highdicom adds
    the item with a Pixel Padding Value of 0, but its category is not one of CID 7150.
    """
    background = next(item for item in seg.SegmentSequence if item.SegmentNumber == 0)
    background.SegmentedPropertyCategoryCodeSequence = [
        hd.sr.CodedConcept.from_code(codes.SPATIAL_CONCEPT)
    ]


def _derive_dimension_uid(seg: Dataset, key: AnalysisKey) -> None:
    """Replace the random UID of highdicom, so that the same analysis writes the same bytes."""
    uid = key.uid("dimensions")
    for item in [*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence]:
        item.DimensionOrganizationUID = uid


def _descriptions(analysed: AnalysedSeries, segments: Segments) -> list[hd.seg.SegmentDescription]:
    lungs_model, lesion_model = analysed.models
    return [
        _description(
            plan,
            segment_algorithm(lungs_model, {})
            if plan.is_lung
            else segment_algorithm(lesion_model, analysed.algorithm_parameters),
            analysed.key.uid(plan.role),
        )
        for plan in segments.plans
    ]


def _description(
    plan: SegmentPlan, algorithm: hd.AlgorithmIdentificationSequence, tracking_uid: Uid
) -> hd.seg.SegmentDescription:
    description = hd.seg.SegmentDescription(
        segment_number=plan.number,
        segment_label=plan.label,
        segmented_property_category=(
            codes.ANATOMICAL_STRUCTURE if plan.is_lung else codes.ABNORMAL_STRUCTURE
        ),
        segmented_property_type=plan.kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid,
        tracking_id=plan.label,
        anatomic_regions=None if plan.is_lung else [codes.LUNG],
        display_color=hd.color.CIELabColor.from_rgb(*plan.colour),
    )
    description.SegmentDescription = plan.description
    side = hd.sr.CodedConcept.from_code(plan.laterality)
    if plan.is_lung:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [side]
    else:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [side]
    return description
