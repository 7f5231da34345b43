"""The segmentation object (PS3.3 A.51): lungs and lesions on the grid of the CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from chestct.results import AnalysisKey, ModelIdentity
from chestct.volume import Label, LesionMap
from dicom_out import codes
from dicom_out.identity import (
    MANUFACTURER,
    RESEARCH,
    SoftwareIdentity,
    algorithm,
    contributing_equipment,
)
from dicom_out.sources import Sources, take_over

SERIES_NUMBER = 9701


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlan:
    """One segment: what it is called, what it is, and which labels it holds.

    ``role`` derives its tracking UID, which the SR repeats.
    """

    number: int
    role: str
    label: str
    description: str
    members: tuple[Label, ...]
    laterality: Code | None
    colour: tuple[int, int, int]


LEFT_LUNG = SegmentPlan(
    number=1,
    role="left-lung",
    label="Left lung",
    description="Left lung without the lesions, which are a segment of their own",
    members=(Label.LEFT_LUNG,),
    laterality=codes.LEFT,
    colour=(80, 170, 255),
)
RIGHT_LUNG = SegmentPlan(
    number=2,
    role="right-lung",
    label="Right lung",
    description="Right lung without the lesions, which are a segment of their own",
    members=(Label.RIGHT_LUNG,),
    laterality=codes.RIGHT,
    colour=(70, 220, 160),
)
_LESION = SegmentPlan(
    number=3,
    role="lesion",
    label="Lung lesions (opacities)",
    description="Opacities inside the lungs: ground-glass and consolidation together",
    members=(Label.LEFT_LESION, Label.RIGHT_LESION),
    laterality=None,
    colour=(255, 80, 60),
)


def planned_segments(lesion_map: LesionMap) -> tuple[SegmentPlan, ...]:
    """Return the segments that the map has voxels for, numbered without gaps.

    Segments do not overlap: viewers compute wrong volumes when they do.
    """
    present = set(np.unique(lesion_map.labels).tolist())
    plans = [plan for plan in (LEFT_LUNG, RIGHT_LUNG, _LESION) if present & set(plan.members)]
    return tuple(
        SegmentPlan(
            number=number,
            role=plan.role,
            label=plan.label,
            description=plan.description,
            members=plan.members,
            laterality=plan.laterality,
            colour=plan.colour,
        )
        for number, plan in enumerate(plans, start=1)
    )


def segment_numbers(lesion_map: LesionMap, plans: Sequence[SegmentPlan]) -> NDArray[np.uint8]:
    """Return the segment number of each voxel, uint8 (slice, row, column), 0 for none."""
    table = np.zeros(max(Label) + 1, dtype=np.uint8)
    for plan in plans:
        table[list(plan.members)] = plan.number
    numbers: NDArray[np.uint8] = table[lesion_map.labels]
    return numbers


def build_seg(
    *,
    sources: Sources,
    lesion_map: LesionMap,
    models: Sequence[ModelIdentity],
    parameters: dict[str, str],
    key: AnalysisKey,
    created: datetime,
    software: SoftwareIdentity,
) -> Dataset:
    """Build the SEG: BINARY, since that is what viewers and archives take today.

    Each frame names its source image (DerivationImageSequence) and the series is referenced:
    without either, viewers show nothing or the wrong slice.
    """
    plans = planned_segments(lesion_map)
    numbers = segment_numbers(lesion_map, plans)
    frames = np.zeros_like(numbers)
    frames[list(sources.frames)] = numbers
    lungs_model, lesion_model = models
    seg = hd.seg.Segmentation(
        source_images=list(sources.images),
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(plan, lesion_model if plan.role == "lesion" else lungs_model, parameters, key)
            for plan in plans
        ],
        series_instance_uid=key.uid("seg-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=key.uid("seg"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=software.name,
        software_versions=software.version,
        device_serial_number=software.station_name,
        content_label="LUNG_LESIONS",
        content_description="Lungs and lung lesions",
        omit_empty_frames=True,
        contributing_equipment=contributing_equipment(models, software),
    )
    _name_dimensions(seg, key)
    seg.SeriesDescription = f"Rales lungs and lesions ({RESEARCH})"
    seg.ContentQualification = "RESEARCH"
    stamp(seg, created, sources.original)
    take_over(sources.original, seg)
    return seg


def _name_dimensions(seg: Dataset, key: AnalysisKey) -> None:
    """Derive the UID that highdicom draws at random: the same analysis gives the same bytes."""
    uid = key.uid("dimensions")
    for item in [*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence]:
        item.DimensionOrganizationUID = uid


def _describe(
    plan: SegmentPlan, model: ModelIdentity, parameters: dict[str, str], key: AnalysisKey
) -> hd.seg.SegmentDescription:
    lesion = plan.role == "lesion"
    description = hd.seg.SegmentDescription(
        segment_number=plan.number,
        segment_label=plan.label,
        segmented_property_category=(
            codes.ABNORMAL_STRUCTURE if lesion else codes.ANATOMICAL_STRUCTURE
        ),
        segmented_property_type=codes.LESION if lesion else codes.LUNG,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm(model, parameters),
        tracking_uid=key.uid(plan.role),
        tracking_id=plan.label,
        anatomic_regions=[codes.LUNG] if lesion else None,
        display_color=hd.color.CIELabColor.from_rgb(*plan.colour),
    )
    description.SegmentDescription = plan.description
    if plan.laterality is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        modifier = hd.sr.CodedConcept.from_code(plan.laterality)
        kind.SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return description


def stamp(dataset: Dataset, created: datetime, original: Dataset) -> None:
    """Date a result by the time of its analysis, so that writing it again changes nothing.

    Timezone Offset From UTC speaks of every time in the object, also of the Study Time that
    is taken over. So the times are those of the source's zone; where it names none, the
    machine's own, and none is claimed.
    """
    offset = str(original.get("TimezoneOffsetFromUTC") or "")
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
