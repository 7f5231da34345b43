"""The part of the report on 8-bit slices with expert masks."""

from __future__ import annotations

from collections.abc import Sequence

from training.metrics import HIT_SHARE
from training.report.markup import (
    NOTHING,
    blocks,
    distance_cells,
    interval,
    limits,
    number,
    percent,
    picture,
    table,
)
from training.report.records import Evaluation, PatientRecord
from training.report.slices import SHOWN_PIXELS, SMALLEST_PIXELS
from training.report.summary import MirrorSummary, PatientsSummary, Summary


def patients_section(evaluation: Evaluation, whole: Summary, figures: Sequence[str]) -> str:
    """Return the section on the 8-bit slices."""
    summary = whole.patients
    if summary is None:
        return ""
    part = evaluation.provenance.slices_part
    return blocks(
        f"## Patients: 8-bit slices with expert masks ({part} part)",
        f"{len(evaluation.slices)} slices of {len(evaluation.patients)} patients.",
        "**It can say** how the outlines agree with experts on real disease. **It cannot say** "
        "anything of lesion-free slices (there are none) or of live CT (the slices are no HU), "
        f"and {len(evaluation.patients)} patients are few. Pixel size and slice distance are not "
        "known: all distances are in pixels of the 256 by 256 grid (some 1.4 mm in an adult), "
        "slice by slice, over slices in which both masks have something.",
        table(_PATIENT_HEAD, [*map(_patient_row, evaluation.patients), _patient_mean(summary)]),
        table(
            _PATIENT_LESION_HEAD,
            [*map(_patient_lesion_row, evaluation.patients), _patient_lesion_mean(summary)],
        ),
        f"Lesions are connected within a slice; below {SMALLEST_PIXELS} pixels they are not "
        f"counted; one is found when at least {HIT_SHARE:.0%} of it is marked, and a marked one "
        "is false when less than that of it is true. Involvement is that of these slices, not of "
        "the patient.",
        "The lesion area of a slice is off by "
        f"{interval(summary.slice_area_error)} points of the slice's lung area on average "
        f"(signed: {interval(summary.slice_area_bias)}; whole patients drawn). Bland and Altman "
        f"of the involvement by patient: bias {limits(summary.involved)} points.",
        _mirror(whole.mirror),
        *(picture(name, caption, figures) for name, caption in _PICTURES.items()),
    )


_PICTURES = {
    "involvement-patients": "Bland-Altman plot of the percent involved, by patient over slices",
    "worst-slices": "The slices with the lowest lesion Dice, at most two of a patient, of those "
    f"with {SHOWN_PIXELS} pixels of true lesion or more",
    "false-slices": "The slices with most area in false lesions, at most two of a patient",
}


def _mirror(found: MirrorSummary | None) -> str:
    if found is None:
        return ""
    return (
        f"Reading each slice a second time, mirrored, adds {interval(found.lesion_difference, 3)} "
        f"to the lesion Dice and {interval(found.lung_difference, 4)} to the lung Dice; the "
        f"{found.slices} slices take {found.mirrored:.0f} s instead of {found.once:.0f} s. The "
        "figures here are those of the way that the manifests say, without a reading in pixels of "
        "another size: the slices do not say how large theirs are."
    )


_PATIENT_HEAD = (
    "patient",
    "slices",
    "lung Dice",
    "lung distance, mean",
    "95 %",
    "lesion Dice",
    "sensitivity",
    "precision",
    "lesion distance, mean",
    "95 %",
)


def _patient_row(one: PatientRecord) -> list[str]:
    return [
        str(one.patient),
        str(one.slices),
        number(one.lung.dice, 3),
        *distance_cells(one.lung_distances),
        number(one.lesion.dice, 3),
        number(one.lesion.sensitivity),
        number(one.lesion.precision),
        *distance_cells(one.lesion_distances),
    ]


def _patient_mean(summary: PatientsSummary) -> list[str]:
    return [
        "**mean**",
        "",
        interval(summary.lung_dice, 3),
        interval(summary.lung_average),
        interval(summary.lung_most),
        interval(summary.lesion_dice, 3),
        interval(summary.sensitivity),
        interval(summary.precision),
        interval(summary.average),
        interval(summary.most),
    ]


_PATIENT_LESION_HEAD = (
    "patient",
    "lesions",
    "found",
    "false",
    "false per slice",
    "slices with only one mask",
    "involved %",
    "truth %",
    "error",
)


def _patient_lesion_row(one: PatientRecord) -> list[str]:
    count = one.lesions
    return [
        str(one.patient),
        str(count.true),
        f"{count.hit} ({count.hit / count.true:.0%})" if count.true else NOTHING,
        str(count.false),
        number(count.false / one.slices),
        str(one.unmatched),
        number(one.involved_percent),
        number(one.true_involved_percent),
        f"{one.involved_percent - one.true_involved_percent:+.2f}",
    ]


def _patient_lesion_mean(summary: PatientsSummary) -> list[str]:
    return [
        "**mean**",
        "",
        percent(summary.hits),
        "",
        interval(summary.false_per_slice),
        "",
        "",
        "",
        f"{interval(summary.involved_error)} (absolute)",
    ]
