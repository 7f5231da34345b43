"""Reads a chest under a perturbation and judges whether the reading stayed the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from chestct.volume import Label, is_lesion
from inference.ports import ModelSet
from inference.reading.analysis import Analysis
from training.readings.reading import Call, Progress, Reading, call_of, read_volume
from training.robustness.perturbations import Labels, Perturbation
from training.robustness.records import ReadNumbers, RowRecord, Verdict

CLEAN_PERCENT = 1.0
"""A chest without lesions stays below this involvement."""


def numbers_of(analysis: Analysis) -> ReadNumbers:
    """Return the numbers that the table compares."""
    lesion_ml, lung_ml = _volumes(analysis.lesion_map.labels, analysis)
    return ReadNumbers(
        call=call_of(analysis.findings),
        score=analysis.findings.presence.score,
        lesion_ml=lesion_ml,
        lung_ml=lung_ml,
        involved_percent=analysis.findings.covered.involved_percent,
    )


def judge(
    perturbation: Perturbation, reference: Reading, models: ModelSet, progress: Progress
) -> RowRecord:
    """Read the perturbed volume of a reading, and compare the two readings."""
    assert reference.volume is not None
    assert reference.analysis is not None
    name = perturbation.name
    changed = perturbation.change(reference.volume)
    if changed is None:
        return RowRecord(perturbation=name, verdict=Verdict.NOT_APPLICABLE)
    reading = read_volume(changed, models, progress)
    seconds = sum(reading.seconds.values())
    if reading.analysis is None:
        assert reading.obstacle is not None
        refused = reading.call is Call.REFUSED
        return RowRecord(
            perturbation=name,
            verdict=Verdict.REFUSED if refused else Verdict.CHANGED,
            reason=f"{reading.obstacle.code}: {reading.obstacle.message}",
            seconds=seconds,
        )
    numbers, before = numbers_of(reading.analysis), numbers_of(reference.analysis)
    visible = perturbation.visible(reference.analysis.lesion_map.labels, reference.volume.geometry)
    lesion_ml, lung_ml = _volumes(visible, reference.analysis)
    row = RowRecord(
        perturbation=name,
        verdict=Verdict.PASSED,
        numbers=numbers,
        lesion_ratio=_ratio(numbers.lesion_ml, lesion_ml),
        lung_ratio=_ratio(numbers.lung_ml, lung_ml),
        seconds=seconds,
    )
    reasons = "; ".join(_differences(perturbation, before, row))
    return replace(row, verdict=Verdict.CHANGED, reason=reasons) if reasons else row


def _volumes(labels: Labels, analysis: Analysis) -> tuple[float, float]:
    """Return the volume of lesion and that of lung, in ml."""
    voxel_ml = analysis.lesion_map.geometry.voxel_ml
    lesion, lung = is_lesion(labels), labels > Label.BACKGROUND
    return int(lesion.sum()) * voxel_ml, int(lung.sum()) * voxel_ml


def _ratio(after: float, before: float) -> float | None:
    return after / before if before else None


def _differences(perturbation: Perturbation, before: ReadNumbers, row: RowRecord) -> Iterator[str]:
    """Yield what is no longer as it was in the unperturbed reading."""
    assert row.numbers is not None
    after = row.numbers
    if after.call is not before.call:
        yield f"called {after.call}, not {before.call}"
    elif after.call is Call.POSITIVE and not _close(row.lesion_ratio, perturbation.lesion_change):
        yield f"lesion volume {_times(row.lesion_ratio)}"
    elif after.call is not Call.POSITIVE and after.involved_percent >= CLEAN_PERCENT:
        yield f"{after.involved_percent:.1f} % involved"
    if not _close(row.lung_ratio, perturbation.lung_change):
        yield f"lung volume {_times(row.lung_ratio)}"


def _close(ratio: float | None, allowed: float) -> bool:
    return ratio is not None and abs(ratio - 1) <= allowed


def _times(ratio: float | None) -> str:
    return "of nothing before" if ratio is None else f"{ratio:.3f} of before"
