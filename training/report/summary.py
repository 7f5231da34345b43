"""The figures of the report, computed from its records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.metrics import Distances
from training.report.changes import AS_SHIPPED
from training.report.chest_summary import LabelledSummary, labelled_summary
from training.report.painted_summary import PaintedSummary, painted_summary
from training.report.records import (
    CaseRecord,
    Evaluation,
    FrontEndRecord,
    PatientRecord,
    SliceRecord,
    Source,
)
from training.report.statistics import (
    Agreement,
    Bin,
    Estimate,
    agreement,
    auc,
    bootstrap,
    bootstrap_clusters,
    brier,
    proportion,
    reliability,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientsSummary:
    """Means by patient; those with ``slice`` in their name over slices, drawn by patient.

    Attributes:
        hits: Of the true lesions of all patients, drawn by patient.
        false_per_slice: False lesions.
        involved_error: Absolute, in points.
        slice_area_bias, slice_area_error: Signed and absolute, points of the lung's area.
    """

    lung_dice: Estimate
    lung_average: Estimate
    lung_most: Estimate
    lesion_dice: Estimate
    sensitivity: Estimate
    precision: Estimate
    average: Estimate
    most: Estimate
    hits: Estimate
    false_per_slice: Estimate
    involved_error: Estimate
    involved: Agreement | None
    slice_area_bias: Estimate
    slice_area_error: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class CasesSummary:
    """Means over scans of one or several sources.

    Attributes:
        name: Of the source.
        hits: Of the true lesions of all scans, drawn by scan.
        false_with, false_without: False lesions per scan with and without true lesions.
        volume_error, involved_error: Absolute, ml and points, over scans with lesions.
        clean_involved: Percent involved of scans without lesions; ``clean_most`` the highest.
        clean_below: Part of those scans that stays below 1 %.
    """

    name: str
    scans: int
    with_lesions: int
    lung_dice: Estimate
    lesion_dice: Estimate
    average: Estimate
    most: Estimate
    hits: Estimate
    false_with: Estimate
    false_without: Estimate
    volume_error: Estimate
    involved_error: Estimate
    involved: Agreement | None
    clean_involved: Estimate
    clean_most: float | None
    clean_below: Estimate
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    auc: Estimate
    brier: float | None
    reliability: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSummary:
    """A change before the networks; differences from the shipped setting, by case."""

    change: str
    lesion_dice: Estimate
    lesion_difference: Estimate
    lung_dice: Estimate
    lung_difference: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSummary:
    """The gain of a second, mirrored reading by patient, and the time of each reading.

    ``once`` and ``mirrored`` are seconds of both networks for ``slices`` slices.
    """

    lesion_difference: Estimate
    lung_difference: Estimate
    slices: int
    once: float
    mirrored: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Everything that was computed.

    Attributes:
        patients: None where no slices were measured.
        labelled, painted: None where no labelled chests were measured.
        cases: By source.
        not_trained_on: Over all cases but those of chests that were trained on.
    """

    patients: PatientsSummary | None
    mirror: MirrorSummary | None
    labelled: LabelledSummary | None
    painted: PaintedSummary | None
    cases: tuple[CasesSummary, ...]
    not_trained_on: CasesSummary | None
    front_end: tuple[ChangeSummary, ...]


def summarise(evaluation: Evaluation) -> Summary:
    """Compute every figure."""
    aside = [one for one in evaluation.cases if one.source is not Source.SEEN]
    by_source = [
        (source, [one for one in evaluation.cases if one.source is source]) for source in Source
    ]
    return Summary(
        patients=_patients(evaluation.patients, evaluation.slices) if evaluation.patients else None,
        mirror=_mirror(evaluation),
        labelled=labelled_summary(evaluation.labelled) if evaluation.labelled else None,
        painted=painted_summary(evaluation.painted) if evaluation.painted else None,
        cases=tuple(_cases(str(source), own) for source, own in by_source if own),
        not_trained_on=_cases("all but chests trained on", aside) if aside else None,
        front_end=_front_end(evaluation.front_end),
    )


def _patients(patients: Sequence[PatientRecord], slices: Sequence[SliceRecord]) -> PatientsSummary:
    own = [[one for one in slices if one.patient == patient.patient] for patient in patients]
    return PatientsSummary(
        lung_dice=bootstrap([one.lung.dice for one in patients]),
        lung_average=bootstrap([_average(one.lung_distances) for one in patients]),
        lung_most=bootstrap([_most(one.lung_distances) for one in patients]),
        lesion_dice=bootstrap([one.lesion.dice for one in patients]),
        sensitivity=bootstrap([one.lesion.sensitivity for one in patients]),
        precision=bootstrap([one.lesion.precision for one in patients]),
        average=bootstrap([_average(one.lesion_distances) for one in patients]),
        most=bootstrap([_most(one.lesion_distances) for one in patients]),
        hits=bootstrap_clusters([_each(one.lesions.hit, one.lesions.true) for one in patients]),
        false_per_slice=bootstrap_clusters(
            [[float(one.lesions.false) for one in group] for group in own]
        ),
        involved_error=bootstrap(
            [abs(one.involved_percent - one.true_involved_percent) for one in patients]
        ),
        involved=agreement(
            [one.involved_percent for one in patients],
            [one.true_involved_percent for one in patients],
        ),
        slice_area_bias=bootstrap_clusters([[one.area_error for one in group] for group in own]),
        slice_area_error=bootstrap_clusters(
            [[abs(one.area_error) for one in group] for group in own]
        ),
    )


def _cases(name: str, cases: Sequence[CaseRecord]) -> CasesSummary:
    sick = [one for one in cases if one.has_lesions]
    clean = [one for one in cases if not one.has_lesions]
    scores, truth = [one.score for one in cases], [one.has_lesions for one in cases]
    return CasesSummary(
        name=name,
        scans=len(cases),
        with_lesions=len(sick),
        lung_dice=bootstrap([one.lung_dice for one in cases]),
        lesion_dice=bootstrap([one.lesion.dice for one in sick]),
        average=bootstrap([_average(one.distances) for one in sick]),
        most=bootstrap([_most(one.distances) for one in sick]),
        hits=bootstrap_clusters([_each(one.lesions.hit, one.lesions.true) for one in sick]),
        false_with=bootstrap([float(one.lesions.false) for one in sick]),
        false_without=bootstrap([float(one.lesions.false) for one in clean]),
        volume_error=bootstrap([abs(one.lesion_ml - one.true_lesion_ml) for one in sick]),
        involved_error=bootstrap(
            [abs(one.involved_percent - one.true_involved_percent) for one in sick]
        ),
        involved=agreement(
            [one.involved_percent for one in sick], [one.true_involved_percent for one in sick]
        ),
        clean_involved=bootstrap([one.involved_percent for one in clean]),
        clean_most=max((one.involved_percent for one in clean), default=None),
        clean_below=_share(clean, lambda one: one.involved_percent < 1),
        accuracy=_share(cases, lambda one: one.positive == one.has_lesions),
        sensitivity=_share(sick, lambda one: one.positive),
        specificity=_share(clean, lambda one: not one.positive),
        auc=auc(scores, truth),
        brier=brier(scores, truth),
        reliability=reliability(scores, truth),
    )


def _mirror(evaluation: Evaluation) -> MirrorSummary | None:
    once, mirrored = (
        [one for one in evaluation.mirror if one.mirrored is way] for way in (False, True)
    )
    if not once:
        return None
    pairs = list(zip(once, mirrored, strict=True))
    return MirrorSummary(
        lesion_difference=bootstrap([two.lesion_dice - one.lesion_dice for one, two in pairs]),
        lung_difference=bootstrap([two.lung_dice - one.lung_dice for one, two in pairs]),
        slices=len(evaluation.slices),
        once=once[0].seconds,
        mirrored=mirrored[0].seconds,
    )


def _front_end(records: Sequence[FrontEndRecord]) -> tuple[ChangeSummary, ...]:
    shipped = {one.case: one for one in records if one.change == AS_SHIPPED}
    found = []
    for change in dict.fromkeys(one.change for one in records):
        own = [one for one in records if one.change == change]
        found.append(
            ChangeSummary(
                change=change,
                lesion_dice=bootstrap([one.lesion_dice for one in own]),
                lesion_difference=bootstrap(
                    [one.lesion_dice - shipped[one.case].lesion_dice for one in own]
                ),
                lung_dice=bootstrap([one.lung_dice for one in own]),
                lung_difference=bootstrap(
                    [one.lung_dice - shipped[one.case].lung_dice for one in own]
                ),
            )
        )
    return tuple(found)


def _share(cases: Sequence[CaseRecord], is_so: Callable[[CaseRecord], bool]) -> Estimate:
    return proportion(sum(map(is_so, cases)), len(cases))


def _each(hits: int, count: int) -> list[float]:
    return [1.0] * hits + [0.0] * (count - hits)


def _average(distances: Distances | None) -> float | None:
    return distances.average if distances else None


def _most(distances: Distances | None) -> float | None:
    return distances.most if distances else None
