"""The change since the prior study of the same patient, if the two studies are comparable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf

from chestct.findings import Coverage, Findings
from chestct.results import Profile, ResultReference
from chestct.uids import Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionContext:
    """Whose images a study holds, and when and how they were acquired and measured.

    Attributes:
        study_uid: Two series of one study are never compared.
        acquired: Acquisition time, local to the scanner; midnight if ``has_time`` is false.
        has_time: Whether the header gives a time.
        patient: Digest of the patient's identity; empty without a Patient ID.
        birth_date, sex: Digests; each empty when the header lacks the value.
        models, settings: Digests of the models and thresholds behind the numbers.
        kernel: Convolution Kernel, or empty.
        slice_spacing_mm: Distance between neighbouring slice centres; None when unknown.
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
    """The numbers of an earlier result, and the SR that states them.

    Attributes:
        report: The SR for OHIF, or the SR that an archive has.
        other_reports: The SRs of other profiles, for destinations that have these instead.
        lesion_ml, involved_percent: Of the lungs in ``covers``.
        states_opacity: :attr:`chestct.findings.Findings.states_opacity`.
    """

    context: AcquisitionContext
    report: ResultReference
    lesion_ml: float
    involved_percent: float
    covers: Coverage = Coverage.BOTH
    states_opacity: bool = True
    other_reports: Mapping[Profile, ResultReference] = field(default_factory=dict)

    def report_for(self, profile: Profile) -> ResultReference:
        """Return the SR that a destination with ``profile`` has."""
        return self.other_reports.get(profile, self.report)


class Comparison(StrEnum):
    """Whether the numbers of two results may be subtracted."""

    COMPARABLE = "comparable"
    OTHER_MODEL = "made by other models"
    OTHER_SETTINGS = "made with other settings"
    OTHER_LUNGS = "made where not the same lungs were assessable"
    INDETERMINATE = "indeterminate, or this result is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """The present result compared with the prior result.

    Attributes:
        comparison: Only comparable results are subtracted.
        interval_days: Whole days from the prior acquisition to the present acquisition.
        lesion_ml, involved_percent: Of the lungs in ``covers``, in the present result.
        trend: (acquired, involved percent) of every comparable study and of the present study,
            in order of time; the present study alone when no study is comparable, and no study
            when the present result is indeterminate.
    """

    prior: PriorResult
    comparison: Comparison
    interval_days: int
    lesion_ml: float
    involved_percent: float
    covers: Coverage
    trend: tuple[tuple[datetime, float], ...]

    @property
    def is_comparable(self) -> bool:
        """Whether the changes below are meaningful."""
        return self.comparison is Comparison.COMPARABLE

    @property
    def lesion_ml_change(self) -> float:
        """Change of the lesion volume, ml."""
        return self.lesion_ml - self.prior.lesion_ml

    @property
    def involved_change(self) -> float:
        """Change of the involvement, in percentage points."""
        return self.involved_percent - self.prior.involved_percent


def compare(
    findings: Findings, present: AcquisitionContext, results: Iterable[PriorResult]
) -> Evolution | None:
    """Return the evolution since the nearest earlier study; None without an earlier study.

    A patient without an identifier has no priors. A different birth date or sex means a different
    patient. Of several results of the prior study, the one with the closest acquisition settings
    is used.
    """
    covers = findings.covers
    earlier = [result for result in results if _is_prior(result.context, present)]
    if not earlier:
        return None
    # The UID decides between studies of one time, so that every run chooses the same study.
    nearest = max(earlier, key=lambda result: (result.context.acquired, result.context.study_uid))
    same_study = [
        result for result in earlier if result.context.study_uid == nearest.context.study_uid
    ]
    prior = min(same_study, key=lambda result: _difference(result, present, covers))
    comparison = _comparison(prior, present, covers)
    comparable = _closest_of_each_study(earlier, present, covers)
    trend = (
        *sorted((result.context.acquired, result.involved_percent) for result in comparable),
        (present.acquired, findings.covered.involved_percent),
    )
    if not findings.states_opacity:
        comparison, trend = Comparison.INDETERMINATE, ()
    return Evolution(
        prior=prior,
        comparison=comparison,
        interval_days=(present.acquired.date() - prior.context.acquired.date()).days,
        lesion_ml=findings.covered.lesion_ml,
        involved_percent=findings.covered.involved_percent,
        covers=covers,
        trend=trend,
    )


def _is_prior(earlier: AcquisitionContext, present: AcquisitionContext) -> bool:
    return (
        bool(present.patient)
        and earlier.patient == present.patient
        and not _contradict(earlier.birth_date, present.birth_date)
        and not _contradict(earlier.sex, present.sex)
        and earlier.study_uid != present.study_uid
        and _is_earlier(earlier, present)
    )


def _contradict(a: str, b: str) -> bool:
    return bool(a and b) and a != b


def _is_earlier(earlier: AcquisitionContext, present: AcquisitionContext) -> bool:
    """Return whether a study is surely earlier: if a time is missing, by a day at least."""
    if earlier.has_time and present.has_time:
        return earlier.acquired < present.acquired
    return earlier.acquired.date() < present.acquired.date()


def _comparison(prior: PriorResult, present: AcquisitionContext, covers: Coverage) -> Comparison:
    if prior.context.models != present.models:
        return Comparison.OTHER_MODEL
    if prior.context.settings != present.settings:
        return Comparison.OTHER_SETTINGS
    if not prior.states_opacity:
        return Comparison.INDETERMINATE
    return Comparison.COMPARABLE if prior.covers is covers else Comparison.OTHER_LUNGS


def _difference(
    prior: PriorResult, present: AcquisitionContext, covers: Coverage
) -> tuple[bool, bool, float, timedelta]:
    """Return a sort key: the smaller, the closer are the acquisition settings."""
    context = prior.context
    if context.slice_spacing_mm is None or present.slice_spacing_mm is None:
        spacing_difference = inf
    else:
        spacing_difference = abs(context.slice_spacing_mm - present.slice_spacing_mm)
    return (
        _comparison(prior, present, covers) is not Comparison.COMPARABLE,
        context.kernel != present.kernel,
        spacing_difference,
        present.acquired - context.acquired,
    )


def _closest_of_each_study(
    results: Iterable[PriorResult], present: AcquisitionContext, covers: Coverage
) -> list[PriorResult]:
    """Return of each study the comparable result with the closest acquisition settings."""
    closest: dict[Uid, PriorResult] = {}
    for result in results:
        if _comparison(result, present, covers) is not Comparison.COMPARABLE:
            continue
        other = closest.setdefault(result.context.study_uid, result)
        if _difference(result, present, covers) < _difference(other, present, covers):
            closest[result.context.study_uid] = result
    return list(closest.values())
