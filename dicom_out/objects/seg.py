"""The segmentation object (PS3.3 A.51): segments on the grid of the CT."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime

import highdicom as hd
from pydicom.dataset import Dataset

from chestct.findings import Coverage
from chestct.results import AnalysisKey, ModelIdentity, SegKind
from chestct.volume import SliceSource
from dicom_out.objects import codes
from dicom_out.objects.identity import (
    MANUFACTURER,
    RESEARCH,
    SoftwareIdentity,
    algorithm,
    contributing_equipment,
)
from dicom_out.objects.segments import SegmentPlan, Segments
from dicom_out.objects.sources import Sources, raw_value, take_over


@dataclass(frozen=True, slots=True, kw_only=True)
class SegDocument:
    """What a SEG as a whole is called; ``role`` derives its UIDs."""

    role: str
    series_number: int
    series: str
    label: str
    description: str


TISSUES = SegDocument(
    role="seg",
    series_number=9701,
    series="Rales lungs and opacities",
    label="LUNG_OPACITIES",
    description="Lungs, ground-glass and consolidation",
)
LESIONS = SegDocument(
    role="seg-lesions",
    series_number=9703,
    series="Rales largest lesions one by one",
    label="LUNG_LESIONS",
    description="The largest lung lesions, one by one",
)


def tissues_of(covers: Coverage) -> SegDocument:
    """Return what the SEG of lungs and opacities says of itself."""
    if covers is Coverage.BOTH:
        return TISSUES
    missing = f"{'right' if covers is Coverage.LEFT else 'left'} not assessable"
    return replace(
        TISSUES,
        series=f"Rales lungs, {missing}",
        description=f"{TISSUES.description}; {missing}",
    )


def build_seg(
    *,
    document: SegDocument,
    kind: SegKind,
    sources: Sources,
    segments: Segments,
    models: Sequence[ModelIdentity],
    parameters: dict[str, str],
    key: AnalysisKey,
    created: datetime,
    software: SoftwareIdentity,
) -> Dataset:
    """Build a SEG on the grid of the CT, without frames that hold nothing.

    Each frame names its source image (DerivationImageSequence) and the series is referenced:
    without either, viewers show nothing or the wrong slice. ``parameters`` are those of the
    lesion model, the second of ``models``.
    """
    lungs_model, lesion_model = models
    seg = hd.seg.Segmentation(
        source_images=list(sources.stack),
        pixel_array=segments.numbers,
        segmentation_type=hd.seg.SegmentationTypeValues(kind.name),
        segment_descriptions=[
            _describe(plan, lungs_model, {}, key)
            if plan.is_lung
            else _describe(plan, lesion_model, parameters, key)
            for plan in segments.plans
        ],
        series_instance_uid=key.uid(kind.role(f"{document.role}-series")),
        series_number=document.series_number,
        sop_instance_uid=key.uid(kind.role(document.role)),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=software.name,
        software_versions=software.version,
        device_serial_number=software.station_name,
        content_label=document.label,
        content_description=document.description,
        omit_empty_frames=True,
        contributing_equipment=contributing_equipment(models, software),
    )
    if kind is SegKind.LABELMAP:
        _drop_background(seg)
    _name_dimensions(seg, key)
    if sources.multi_frame:
        _refer(seg, sources)
    seg.SeriesDescription = f"{document.series} ({RESEARCH})"
    seg.ContentQualification = "RESEARCH"
    stamp(seg, created, sources.original)
    take_over(sources.original, seg)
    return seg


def _refer(seg: Dataset, sources: Sources) -> None:
    """Name the received images and frames in the place of the one that joins them."""
    seg.SourceImageSequence = [
        _reference(image.SOPClassUID, image.SOPInstanceUID, sources.frames_used(image))
        for image in sources.images
    ]
    (series,) = seg.ReferencedSeriesSequence
    series.ReferencedInstanceSequence = [
        _reference(image.SOPClassUID, image.SOPInstanceUID, None) for image in sources.images
    ]
    items: dict[int, Dataset] = {}
    for groups in seg.PerFrameFunctionalGroupsSequence:
        derivation = groups.DerivationImageSequence[0]
        (joint,) = derivation.SourceImageSequence  # one for all segments of a slice
        index = int(joint.ReferencedFrameNumber) - 1
        if index not in items:
            items[index] = _placed(joint, sources.slices[index])
        derivation.SourceImageSequence = [items[index]]


def _placed(joint: Dataset, place: SliceSource) -> Dataset:
    item = deepcopy(joint)
    item.ReferencedSOPClassUID = place.sop_class_uid
    item.ReferencedSOPInstanceUID = place.sop_instance_uid
    item.ReferencedFrameNumber = place.frame_number
    return item


def _reference(sop_class: str, instance: str, frames: list[int] | None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    if frames is not None:
        item.ReferencedFrameNumber = frames
    return item


def _drop_background(seg: Dataset) -> None:
    """Leave out the segment 0 that highdicom adds: OHIF 3.13 shifts the colours by one over it.

    Pixel Padding Value says that 0 is none.
    """
    seg.SegmentSequence = [item for item in seg.SegmentSequence if item.SegmentNumber]


def _name_dimensions(seg: Dataset, key: AnalysisKey) -> None:
    """Derive the UID that highdicom draws at random: the same analysis gives the same bytes."""
    uid = key.uid("dimensions")
    for item in [*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence]:
        item.DimensionOrganizationUID = uid


def _describe(
    plan: SegmentPlan, model: ModelIdentity, parameters: dict[str, str], key: AnalysisKey
) -> hd.seg.SegmentDescription:
    description = hd.seg.SegmentDescription(
        segment_number=plan.number,
        segment_label=plan.label,
        segmented_property_category=(
            codes.ANATOMICAL_STRUCTURE if plan.is_lung else codes.ABNORMAL_STRUCTURE
        ),
        segmented_property_type=plan.kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm(model, parameters),
        tracking_uid=key.uid(plan.role),
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


def stamp(dataset: Dataset, created: datetime, original: Dataset) -> None:
    """Date a result by the time of its analysis, so that writing it again changes nothing.

    Timezone Offset From UTC speaks of every time in the object, also of the Study Time that
    is taken over. So the times are those of the source's zone; where it names none, the
    machine's own, and none is claimed.
    """
    offset = (raw_value(original, "TimezoneOffsetFromUTC") or b"").decode("ascii", "replace")
    offset = offset.strip(" \0")
    try:
        zone = datetime.strptime(offset, "%z").tzinfo
    except ValueError:
        zone = None
    local = created.astimezone(zone)
    date, time = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    for kind in ("Content", "InstanceCreation", "Series"):
        setattr(dataset, f"{kind}Date", date)
        setattr(dataset, f"{kind}Time", time)
    for item in dataset.ContributingEquipmentSequence:
        item.ContributionDateTime = f"{date}{time}"
    if zone is not None:
        dataset.TimezoneOffsetFromUTC = offset
