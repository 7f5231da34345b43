"""What changed since the prior study of the same patient, where the two may be compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf

from chestct.findings import Coverage, Findings, Severity
from chestct.results import ResultReference
from chestct.uids import Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionContext:
    """What has to be known of a study beside its numbers to compare it with another.

    Attributes:
        study_uid: Of the study; two series of one study are no evolution.
        acquired: When the images were taken, in the scanner's local time.
        has_time: Whether the header gives a time; without, ``acquired`` is midnight.
        patient: A digest of who the patient is; empty when the header does not say it.
        birth_date, sex: Digests; each empty when the header lacks it.
        models, settings: Digests of what the numbers were made with.
        kernel: Convolution Kernel, or empty.
        slice_spacing_mm: Between the centres of neighbouring slices; None when it is not known.
    """

    study_uid: Uid
    acquired: datetime
    has_time: bool
    patient: str
    birth_date: str
    sex: str
    models: str
    settings: str
    kernel: str
    slice_spacing_mm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorResult:
    """The numbers of an earlier result, and the report that states them.

    Attributes:
        lesion_ml, involved_percent: Of the lungs that ``covers`` names.
        severity: Of both lungs; None where one was not assessable.
    """

    context: AcquisitionContext
    report: ResultReference
    lesion_ml: float
    involved_percent: float
    severity: Severity | None
    covers: Coverage = Coverage.BOTH


class Comparison(StrEnum):
    """Whether the numbers of two results may be subtracted."""

    COMPARABLE = "comparable"
    OTHER_MODEL = "made by other models"
    OTHER_SETTINGS = "made with other settings"
    OTHER_LUNGS = "made where not the same lungs were assessable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """The present result beside the one before it.

    Attributes:
        comparison: Only what is comparable is subtracted.
        interval_days: Whole days from the prior acquisition to this one.
        covers: The lungs that the numbers speak of.
        trend: (acquired, percent of these lungs involved) of every comparable study and of this
            one, in the order of time; this one alone when nothing is comparable.
    """

    prior: PriorResult
    comparison: Comparison
    interval_days: int
    lesion_ml: float
    involved_percent: float
    severity: Severity | None
    covers: Coverage
    trend: tuple[tuple[datetime, float], ...]

    @property
    def is_comparable(self) -> bool:
        """Whether the changes below mean anything."""
        return self.comparison is Comparison.COMPARABLE

    @property
    def lesion_ml_change(self) -> float:
        """Change of the lesion volume, ml."""
        return self.lesion_ml - self.prior.lesion_ml

    @property
    def involved_change(self) -> float:
        """Change of the percent involved, in points."""
        return self.involved_percent - self.prior.involved_percent


def compare(
    findings: Findings, present: AcquisitionContext, results: Iterable[PriorResult]
) -> Evolution | None:
    """Return the evolution since the nearest earlier study; None: there is none to speak of.

    A patient without an identifier has no priors, and one whose birth date or sex differs is
    another. Of several results of the prior study, the one that was made most alike counts.
    """
    earlier = [one for one in results if _is_prior(one.context, present)]
    if not earlier:
        return None
    # Of two studies at the same time, which no scanner makes, always the same one.
    study = max(earlier, key=lambda one: (one.context.acquired, one.context.study_uid))
    study_uid = study.context.study_uid
    same_study = [one for one in earlier if one.context.study_uid == study_uid]
    prior = min(same_study, key=lambda one: _unlikeness(one, present, findings.covers))
    alike = _most_alike_of_each_study(earlier, present, findings.covers)
    return Evolution(
        prior=prior,
        comparison=_comparison(prior, present, findings.covers),
        interval_days=(present.acquired.date() - prior.context.acquired.date()).days,
        lesion_ml=findings.covered.lesion_ml,
        involved_percent=findings.covered.involved_percent,
        severity=findings.severity,
        covers=findings.covers,
        trend=(
            *sorted((one.context.acquired, one.involved_percent) for one in alike),
            (present.acquired, findings.covered.involved_percent),
        ),
    )


def _is_prior(one: AcquisitionContext, present: AcquisitionContext) -> bool:
    return (
        bool(present.patient)
        and one.patient == present.patient
        and not _contradict(one.birth_date, present.birth_date)
        and not _contradict(one.sex, present.sex)
        and one.study_uid != present.study_uid
        and _is_earlier(one, present)
    )


def _contradict(one: str, other: str) -> bool:
    return bool(one and other) and one != other


def _is_earlier(one: AcquisitionContext, present: AcquisitionContext) -> bool:
    """Tell whether one was surely taken before: on an earlier day where a time is missing."""
    if one.has_time and present.has_time:
        return one.acquired < present.acquired
    return one.acquired.date() < present.acquired.date()


def _comparison(one: PriorResult, present: AcquisitionContext, covers: Coverage) -> Comparison:
    made = one.context
    if made.models != present.models:
        return Comparison.OTHER_MODEL
    if made.settings != present.settings:
        return Comparison.OTHER_SETTINGS
    return Comparison.COMPARABLE if one.covers is covers else Comparison.OTHER_LUNGS


def _unlikeness(
    one: PriorResult, present: AcquisitionContext, covers: Coverage
) -> tuple[bool, bool, float, timedelta]:
    made = one.context
    return (
        _comparison(one, present, covers) is not Comparison.COMPARABLE,
        made.kernel != present.kernel,
        _apart(made.slice_spacing_mm, present.slice_spacing_mm),
        present.acquired - made.acquired,
    )


def _apart(one: float | None, other: float | None) -> float:
    return inf if one is None or other is None else abs(one - other)


def _most_alike_of_each_study(
    results: Iterable[PriorResult], present: AcquisitionContext, covers: Coverage
) -> list[PriorResult]:
    best: dict[Uid, PriorResult] = {}
    for one in results:
        if _comparison(one, present, covers) is not Comparison.COMPARABLE:
            continue
        study_uid = one.context.study_uid
        other = best.get(study_uid)
        if other is None or _unlikeness(one, present, covers) < _unlikeness(other, present, covers):
            best[study_uid] = one
    return list(best.values())
