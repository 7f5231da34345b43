"""The measurement groups of the report: TID 1411 with TID 1410 beside it.

Each segment has two groups under one tracking UID: a volumetric one (TID 1411) that
references the segment, and a planar one (TID 1410) with its outline on one slice. OHIF
(3.13) merges the two. What has no segment of its own (both lungs together, a lung that is all
lesion) is a volumetric group with outlines: OHIF loses the viewport of the whole report when
anything tracked has no SCOORD, so that TID 1501 groups are out of the question. Theirs stand
on slices of their own, since a viewer prints the numbers of equal outlines over each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from chestct.findings import Findings, Lesion, LungMeasurement, Severity, Side
from chestct.results import AnalysisKey, ModelIdentity
from chestct.volume import Label, LesionMap, Volume
from dicom_out import codes
from dicom_out.contours import fullest_slice, outline, part_at, surrounded
from dicom_out.identity import ascii_text
from dicom_out.seg import LEFT_LUNG, RIGHT_LUNG, SegmentPlan, planned_segments

Group = (
    hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
)

_SEVERITIES = {
    Severity.MILD: codes.MILD,
    Severity.MODERATE: codes.MODERATE,
    Severity.SEVERE: codes.SEVERE,
}


def measurement_groups(
    *,
    volume: Volume,
    lesion_map: LesionMap,
    findings: Findings,
    seg: Dataset,
    models: Sequence[ModelIdentity],
    key: AnalysisKey,
) -> list[Group]:
    """Return every group of the report: both lungs together, each lung, the lesions."""
    lungs_model, lesion_model = models
    plans = planned_segments(lesion_map)
    slices = {plan.role: _slice_of(plan, findings, lesion_map) for plan in plans}
    taken = set(slices.values())
    lungs = lesion_map.labels > Label.BACKGROUND
    index = _free_slice(lungs, taken)
    around = _region(surrounded(lungs[index]), volume, index)
    groups: list[Group] = [_summary(findings, around, lesion_model, key)]
    for plan in plans:
        lesion = plan.role == "lesion"
        model = lesion_model if lesion else lungs_model
        tracking = hd.sr.TrackingIdentifier(uid=key.uid(plan.role), identifier=plan.label)
        groups += [
            _volumetric(plan, findings, volume, lesion_map, seg, tracking, model),
            _planar(plan, findings, volume, lesion_map, slices[plan.role], tracking, model),
        ]
    drawn = {plan.role for plan in plans}
    return groups + [
        _unsegmented(plan, lung, _outlined(mask, volume, taken | {index}), lungs_model, key)
        for plan, lung, mask in (
            (LEFT_LUNG, findings.left, lesion_map.left_lung()),
            (RIGHT_LUNG, findings.right, lesion_map.right_lung()),
        )
        if plan.role not in drawn and mask.any()
    ]


def _algorithm(model: ModelIdentity) -> hd.sr.AlgorithmIdentification:
    return hd.sr.AlgorithmIdentification(
        name=ascii_text(model.name), version=ascii_text(model.version)
    )


def _site(laterality: Code) -> hd.sr.FindingSite:
    return hd.sr.FindingSite(codes.LUNG, laterality=laterality)


def _laterality(plan: SegmentPlan, lesion_map: LesionMap) -> Code:
    """Return the side of a lung, or the side or sides that the lesions are in."""
    if plan.laterality is not None:
        return plan.laterality
    left, right = (
        bool((lesion_map.labels == label).any())
        for label in (Label.LEFT_LESION, Label.RIGHT_LESION)
    )
    if left and right:
        return codes.BOTH
    return codes.LEFT if left else codes.RIGHT


def _number(
    name: Code,
    value: float,
    unit: Code,
    *,
    derivation: Code | None = None,
    method: Code | None = None,
    digits: int = 2,
) -> hd.sr.Measurement:
    return hd.sr.Measurement(
        name=name, value=round(value, digits), unit=unit, derivation=derivation, method=method
    )


def _summary(
    findings: Findings, region: hd.sr.ImageRegion, model: ModelIdentity, key: AnalysisKey
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the group that speaks of both lungs together, also when nothing was found."""
    total = findings.total
    evaluations = [
        hd.sr.QualitativeEvaluation(
            codes.LESION_PRESENCE, codes.PRESENT if findings.lesions else codes.ABSENT
        )
    ]
    if findings.severity in _SEVERITIES:
        severity = _SEVERITIES[findings.severity]
        evaluations.append(hd.sr.QualitativeEvaluation(codes.SEVERITY, severity))
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=key.uid("summary"), identifier="Summary"),
        referenced_regions=[region],
        finding_type=codes.LUNG,
        algorithm_id=_algorithm(model),
        finding_sites=[_site(codes.BOTH)],
        measurements=[
            *_lung_numbers(total),
            _number(codes.COUNT, len(findings.lesions), codes.LESIONS),
            _number(codes.PRESENCE_SCORE, findings.presence.score, codes.NO_UNITS, digits=4),
        ],
        qualitative_evaluations=evaluations,
    )


def _unsegmented(
    plan: SegmentPlan,
    lung: LungMeasurement,
    region: hd.sr.ImageRegion,
    model: ModelIdentity,
    key: AnalysisKey,
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the numbers of a lung that is all lesion, whose own segment would be empty."""
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=key.uid(plan.role), identifier=plan.label),
        referenced_regions=[region],
        finding_type=codes.LUNG,
        algorithm_id=_algorithm(model),
        finding_sites=[_site(plan.laterality or codes.BOTH)],
        measurements=_lung_numbers(lung),
    )


def _lung_numbers(lung: LungMeasurement) -> list[hd.sr.Measurement]:
    return [
        _number(codes.VOLUME, lung.volume_ml, codes.MILLILITRE, method=codes.VOXEL_SUM),
        _number(codes.LESION_VOLUME, lung.lesion_ml, codes.MILLILITRE, method=codes.VOXEL_SUM),
        _number(codes.INVOLVED, lung.involved_percent, codes.PERCENT),
    ]


def _lesion_numbers(findings: Findings) -> list[hd.sr.Measurement]:
    total = findings.total
    numbers = [
        _number(codes.VOLUME, total.lesion_ml, codes.MILLILITRE, method=codes.VOXEL_SUM),
        _number(codes.HIGH_OPACITY, total.high_opacity_percent, codes.PERCENT),
    ]
    if total.lesion_mean_hu is not None:
        numbers.append(
            _number(
                codes.ATTENUATION, total.lesion_mean_hu, codes.HOUNSFIELD, derivation=codes.MEAN
            )
        )
    return numbers


def _volumetric(
    plan: SegmentPlan,
    findings: Findings,
    volume: Volume,
    lesion_map: LesionMap,
    seg: Dataset,
    tracking: hd.sr.TrackingIdentifier,
    model: ModelIdentity,
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the TID 1411 group of a segment.

    The reference is built by hand: ``ReferencedSegment.from_segmentation`` raises on a SEG
    with one segment (highdicom 0.28.2).
    """
    if plan.role == "lesion":
        numbers = _lesion_numbers(findings)
    else:
        numbers = _lung_numbers(findings.left if plan.role == "left-lung" else findings.right)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=plan.number,
            source_series=hd.sr.SourceSeriesForSegmentation(volume.series_uid),
        ),
        finding_type=codes.LESION if plan.role == "lesion" else codes.LUNG,
        algorithm_id=_algorithm(model),
        finding_sites=[_site(_laterality(plan, lesion_map))],
        measurements=numbers,
    )


def _planar(
    plan: SegmentPlan,
    findings: Findings,
    volume: Volume,
    lesion_map: LesionMap,
    index: int,
    tracking: hd.sr.TrackingIdentifier,
    model: ModelIdentity,
) -> hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """Return the TID 1410 group: an outline on one slice.

    Of a lung where most of it shows; of the largest lesion, with its axes, where they lie.
    """
    plane: NDArray[np.bool_] = np.isin(lesion_map.labels[index], plan.members)
    numbers: list[hd.sr.Measurement] = []
    laterality = _laterality(plan, lesion_map)
    if plan.role == "lesion":
        largest = findings.lesions[0]
        row, column = largest.diameter.long_axis[0]
        plane = part_at(plane, int(row), int(column))
        numbers = _diameters(largest)
        laterality = codes.LEFT if largest.side is Side.LEFT else codes.RIGHT
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_region=_region(plane, volume, index),
        finding_type=codes.LESION if plan.role == "lesion" else codes.LUNG,
        algorithm_id=_algorithm(model),
        finding_sites=[_site(laterality)],
        measurements=numbers or None,
    )


def _diameters(lesion: Lesion) -> list[hd.sr.Measurement]:
    return [
        _number(codes.LONG_AXIS, lesion.diameter.long_axis_mm, codes.MILLIMETRE),
        _number(codes.SHORT_AXIS, lesion.diameter.short_axis_mm, codes.MILLIMETRE),
    ]


def _slice_of(plan: SegmentPlan, findings: Findings, lesion_map: LesionMap) -> int:
    """Return the slice on which a segment is outlined."""
    if plan.role == "lesion":
        return findings.lesions[0].diameter.slice_index
    return fullest_slice(np.isin(lesion_map.labels, plan.members))


def _free_slice(mask: NDArray[np.bool_], taken: set[int]) -> int:
    """Return the slice that shows most of a mask, if possible none of those ``taken``."""
    free = mask.copy()
    free[list(taken)] = False
    return fullest_slice(free if free.any() else mask)


def _outlined(mask: NDArray[np.bool_], volume: Volume, taken: set[int]) -> hd.sr.ImageRegion:
    """Return the outline of a mask (slice, row, column) on a slice of its own."""
    index = _free_slice(mask, taken)
    return _region(mask[index], volume, index)


def _region(plane: NDArray[np.bool_], volume: Volume, index: int) -> hd.sr.ImageRegion:
    source = volume.sources[index]
    return hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=outline(plane),
        source_image=hd.sr.SourceImageForRegion(
            referenced_sop_class_uid=source.sop_class_uid,
            referenced_sop_instance_uid=source.sop_instance_uid,
            referenced_frame_numbers=[source.frame_number] if source.frame_number else None,
        ),
    )
