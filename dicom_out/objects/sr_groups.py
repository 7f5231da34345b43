"""The measurement groups of the report: TID 1411 with TID 1410 beside it.

Each segment has two groups with one tracking UID: a volumetric group (TID 1411) that references
the segment and states the volume of that segment, and a planar group (TID 1410) with its outline on
one slice. OHIF (3.13) merges the two. A finding without a segment (both lungs, each lung with its
opacities, all lesions, by default each lesion) is a volumetric group with the outlines of its parts
on one slice. It cannot be a group without an outline (TID 1501): OHIF loses the viewport of the
whole report when a tracked finding has no SCOORD. The same applies to a segment that no SEG of the
profile holds. Volumes of several segments together have concepts of their own.

Viewers print the numbers beside the outlines. Overlapping outlines therefore go to different
slices, as far as there are slices.
"""

from __future__ import annotations

from functools import partial

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from chestct.errors import ResultInvalid
from chestct.findings import (
    Coverage,
    Findings,
    Lesion,
    NotAssessable,
    Side,
)
from chestct.orientation import CanonicalView
from chestct.volume import Label, in_lung, is_lesion
from dicom_out.objects import codes
from dicom_out.objects.contours import beside, part_at
from dicom_out.objects.segments import SegmentPlan, laterality_of, lesion_role, lung_role
from dicom_out.objects.sr_content import ReportContent
from dicom_out.objects.sr_evolution import evolution_numbers
from dicom_out.objects.sr_numbers import (
    all_lesions_numbers,
    diameters,
    lesion_numbers,
    lung_numbers,
    opacity_numbers,
    rest_numbers,
    summary_numbers,
)

Volumetric = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
Planar = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
Group = Volumetric | Planar


def measurement_groups(report: ReportContent) -> list[Group]:
    """Return every group: both lungs, each segment, each lung, all lesions, each lesion."""
    # Slices that already show an outline.
    taken = {lesion.diameter.slice_index for lesion in report.measured}
    groups: list[Group] = []
    segments = report.tissues.segments
    for plan in segments.plans:
        index = segments.fullest(plan, set() if plan.is_lung else taken)
        taken.add(index)
        groups += _segment_groups(report, plan, index)
    for side in Side:
        groups += _lung_group(report, side, taken)
    if report.analysed.findings.lesions:
        groups.append(_all_lesions(report, taken))
    for lesion in report.measured:
        groups += _lesion_groups(report, lesion)
    return [_summary(report, taken), *groups]


_COVERED = {
    Coverage.BOTH: codes.BOTH,
    Coverage.LEFT: codes.LEFT,
    Coverage.RIGHT: codes.RIGHT,
}


def _site(laterality: Code) -> hd.sr.FindingSite:
    return hd.sr.FindingSite(codes.LUNG, laterality=laterality)


def _summary(report: ReportContent, taken: set[int]) -> Volumetric:
    """Return the group of both lungs together; the report has it even without findings.

    If one lung is not assessable, the group and its site cover the other lung only.
    """
    findings = report.analysed.findings
    lungs = report.analysed.lesion_map.labels
    index = _free_slice(report.tissues.segments.per_slice.sum(axis=1), taken)
    return Volumetric(
        tracking_identifier=report.tracking("summary", "Summary"),
        referenced_regions=report.regions(lungs[index] > Label.BACKGROUND, index),
        finding_type=codes.LUNG,
        algorithm_id=report.lesion_algorithm(),
        finding_sites=[_site(_COVERED[findings.covers])],
        measurements=[*summary_numbers(findings), *evolution_numbers(report.analysed.evolution)],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(codes.LESION_PRESENCE, codes.PRESENCES[findings.outcome])
        ],
    )


def _segment_groups(report: ReportContent, plan: SegmentPlan, index: int) -> list[Group]:
    """Return the two groups of a segment: the rest of a lung, or one kind of its opacity."""
    tracking = report.tracking(plan.role, plan.label)
    model = report.lung_algorithm() if plan.is_lung else report.lesion_algorithm()
    plane: NDArray[np.bool_] = report.tissues.segments.numbers[index] == plan.number
    region = report.region(plane, index)
    volumetric = partial(
        Volumetric,
        tracking_identifier=tracking,
        finding_type=plan.kind,
        algorithm_id=model,
        finding_sites=[_site(plan.laterality)],
        measurements=_numbers_of(plan, report.analysed.findings),
    )
    segment = report.tissues.reference(plan, report.analysed.volume.series_uid)
    if segment is None:
        return [volumetric(referenced_regions=[region])]
    return [
        volumetric(referenced_segment=segment),
        Planar(
            tracking_identifier=tracking,
            referenced_region=region,
            finding_type=plan.kind,
            algorithm_id=model,
            finding_sites=[_site(plan.laterality)],
        ),
    ]


def _numbers_of(plan: SegmentPlan, findings: Findings) -> list[hd.sr.Measurement]:
    lung = findings.left if plan.laterality == codes.LEFT else findings.right
    if isinstance(lung, NotAssessable):
        raise ResultInvalid(f"the segment {plan.label} has voxels in a lung that is not assessable")
    if plan.is_lung:
        return rest_numbers(lung)
    return opacity_numbers(
        lung.ground_glass if plan.kind == codes.GROUND_GLASS else lung.consolidation
    )


def _lung_group(report: ReportContent, side: Side, taken: set[int]) -> list[Group]:
    """Return the group of a lung with its opacities: its numbers sum up its segments."""
    findings, lesion_map = report.analysed.findings, report.analysed.lesion_map
    lung = findings.left if side is Side.LEFT else findings.right
    if isinstance(lung, NotAssessable):
        return [_not_assessable(report, side, lung, taken)]
    segments = report.tissues.segments
    own = [plan.number - 1 for plan in segments.plans if plan.laterality == laterality_of(side)]
    if not own:
        return []
    index = _free_slice(segments.per_slice[:, own].sum(axis=1), taken)
    return [
        Volumetric(
            tracking_identifier=report.tracking(lung_role(side), _name(side)),
            referenced_regions=report.regions(in_lung(lesion_map.labels[index], side), index),
            finding_type=codes.LUNG,
            algorithm_id=report.lung_algorithm(),
            finding_sites=[_site(laterality_of(side))],
            measurements=lung_numbers(lung, findings),
        )
    ]


def _name(side: Side) -> str:
    """Return the tracking identifier of a lung."""
    return f"{side.capitalize()} lung"


def _not_assessable(
    report: ReportContent, side: Side, lung: NotAssessable, taken: set[int]
) -> Volumetric:
    """Return the group that states that a lung is not assessable, and why.

    A group needs an outline (see above): here a box beside the other lung, as wide as that lung.
    """
    lungs = report.analysed.lesion_map.labels > Label.BACKGROUND
    index = _free_slice(lungs.sum(axis=(1, 2)), taken)
    view = CanonicalView.of(report.analysed.volume.geometry)  # its columns run to the left
    (upright,) = view.turn(lungs[index : index + 1])
    (box,) = view.turn_back(beside(upright, 1 if side is Side.LEFT else -1)[None])
    group = Volumetric(
        tracking_identifier=report.tracking(lung_role(side), _name(side)),
        referenced_regions=[report.region(box, index)],
        finding_type=codes.LUNG,
        algorithm_id=report.lung_algorithm(),
        finding_sites=[_site(laterality_of(side))],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(codes.LESION_PRESENCE, codes.UNDETERMINED)
        ],
    )
    group[0].ContentSequence.append(
        hd.sr.TextContentItem(
            name=codes.COMMENT,
            value=f"{_name(side)} not assessable: {lung.reason}",
            relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
        )
    )
    return group


def _all_lesions(report: ReportContent, taken: set[int]) -> Volumetric:
    """Return the group of all lesions together, outlined on the slice that shows most lesion."""
    segments = report.tissues.segments
    opacities = [plan for plan in segments.plans if not plan.is_lung]
    columns = [plan.number - 1 for plan in opacities]
    index = _free_slice(segments.per_slice[:, columns].sum(axis=1), taken)
    sides = {plan.laterality for plan in opacities}
    total = report.analysed.findings.covered
    return Volumetric(
        tracking_identifier=report.tracking("lesions", "Lung lesions (opacities)"),
        referenced_regions=report.regions(
            is_lesion(report.analysed.lesion_map.labels[index]), index
        ),
        finding_type=codes.LESION,
        algorithm_id=report.lesion_algorithm(),
        finding_sites=[_site(sides.pop() if len(sides) == 1 else codes.BOTH)],
        measurements=all_lesions_numbers(total),
    )


def _lesion_groups(report: ReportContent, lesion: Lesion) -> list[Group]:
    """Return the groups of one lesion, outlined on the slice of its axes."""
    role = lesion_role(lesion)
    tracking = report.tracking(role, f"Lesion {lesion.number}")
    model, sites = report.lesion_algorithm(), [_site(laterality_of(lesion.side))]
    volumetric = partial(
        Volumetric,
        tracking_identifier=tracking,
        finding_type=codes.LESION,
        algorithm_id=model,
        finding_sites=sites,
    )
    region = _lesion_region(report, lesion)
    numbers = lesion_numbers(lesion)
    axes = diameters(lesion.diameter)
    segment = report.lesion_segment(role)
    if segment is None:
        return [volumetric(referenced_regions=[region], measurements=[*numbers, *axes])]
    return [
        volumetric(referenced_segment=segment, measurements=numbers),
        Planar(
            tracking_identifier=tracking,
            referenced_region=region,
            finding_type=codes.LESION,
            algorithm_id=model,
            finding_sites=sites,
            measurements=axes,
        ),
    ]


def _lesion_region(report: ReportContent, lesion: Lesion) -> hd.sr.ImageRegion:
    """Return the outline of a lesion on the slice of its axes."""
    index = lesion.diameter.slice_index
    (row, column), _ = lesion.diameter.long_axis
    labels = report.analysed.lesion_map.labels[index]
    opaque = is_lesion(labels) & in_lung(labels, lesion.side)
    return report.region(part_at(opaque, int(row), int(column)), index)


def _free_slice(counts: NDArray[np.int64], taken: set[int]) -> int:
    """Return the slice with most voxels, if possible not one of ``taken``; add it to ``taken``."""
    free = counts.copy()
    free[list(taken)] = 0
    index = int((free if free.any() else counts).argmax())
    taken.add(index)
    return index
