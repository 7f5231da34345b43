"""The parts of the report on true HU: with exact truth, with a changed front end, without truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training.metrics import HIT_SHARE
from training.report.frontend import MOST_SLICES
from training.report.markup import (
    NOTHING,
    blocks,
    distance_cells,
    interval,
    limits,
    number,
    percent,
    picture,
    signed,
    table,
)
from training.report.records import CaseRecord, Evaluation, SeriesRecord, SingleRecord
from training.report.summary import CasesSummary, Summary


def cases_section(evaluation: Evaluation, summary: Summary, figures: Sequence[str]) -> str:
    """Return the section on the live path."""
    if not evaluation.cases:
        return ""
    groups = list(summary.cases)
    if summary.not_trained_on and len(groups) > 1:
        groups.append(summary.not_trained_on)
    refused = [one for one in evaluation.cases if one.refused]
    return blocks(
        "## Live path: true HU, exact truth",
        "The whole analysis as the node runs it (lungs, presence, lesions, the smallest ones "
        "dropped), in 3D and mm. **It can say** whether the path from HU works, and how often "
        "lesion-free lungs come out clean. **It cannot say** how well disease is found: every "
        "lesion here is made. Plain chests are ellipsoids with hardly any anatomy, as test objects "
        "are. Scans of one real chest are not independent of each other, so "
        "their intervals are too narrow; their lung truth is what the lung network itself found "
        "before lesions were painted, so their lung Dice only says whether lesions disturb it.",
        table(
            ["", *(one.name for one in groups)],
            [[name, *(say(one) for one in groups)] for name, say in _CASE_LINES],
        ),
        f"A lesion is found when at least {HIT_SHARE:.0%} of it is marked; a marked one is false "
        "when less than that of it is true; both from the size on below which the product drops "
        "a lesion.",
        f"**{len(refused)} of the scans {'was' if len(refused) == 1 else 'were'} refused**, as "
        "good as nothing found: " + "; ".join(f"{one.name} ({one.refused})" for one in refused)
        if refused
        else "",
        picture(
            "involvement-cases",
            "Bland-Altman plot of the percent involved; limits of all but chests trained on",
            figures,
        ),
        picture("reliability", "Presence score: all cases but those of chests trained on", figures),
        picture("worst-cases", "The scans with the lowest lesion Dice, at their worst", figures),
        picture("false-cases", "The largest false lesions, one slice a scan", figures),
        "<details><summary>Every scan</summary>",
        table(_CASE_HEAD, map(_case_row, evaluation.cases)),
        "</details>",
    )


_CASE_LINES: tuple[tuple[str, Callable[[CasesSummary], str]], ...] = (
    ("scans, with lesions", lambda one: f"{one.scans}, {one.with_lesions}"),
    ("lung Dice", lambda one: interval(one.lung_dice, 3)),
    ("lesion Dice", lambda one: interval(one.lesion_dice)),
    ("lesion distance, mean mm", lambda one: interval(one.average, 1)),
    ("lesion distance, 95 %, mm", lambda one: interval(one.most, 1)),
    ("lesions found", lambda one: percent(one.hits)),
    ("false lesions per scan with lesions", lambda one: interval(one.false_with)),
    ("false lesions per scan without", lambda one: interval(one.false_without)),
    ("lesion volume, absolute error, ml", lambda one: interval(one.volume_error, 1)),
    ("involvement, absolute error, points", lambda one: interval(one.involved_error)),
    ("involvement, bias and limits, points", lambda one: limits(one.involved)),
    ("lesion-free scans: involved %", lambda one: interval(one.clean_involved)),
    ("lesion-free scans: the highest %", lambda one: number(one.clean_most)),
    ("lesion-free scans below 1 %", lambda one: percent(one.clean_below)),
    ("presence right", lambda one: percent(one.accuracy)),
    ("presence sensitivity", lambda one: percent(one.sensitivity)),
    ("presence specificity", lambda one: percent(one.specificity)),
    ("presence score: area under ROC curve", lambda one: interval(one.auc)),
    ("presence score: Brier", lambda one: number(one.brier, 3)),
)

_CASE_HEAD = (
    "scan",
    "lesions",
    "called",
    "score",
    "lung Dice",
    "lesion Dice",
    "mean mm",
    "95 % mm",
    "found",
    "false",
    "ml",
    "truth ml",
    "involved %",
    "truth %",
    "seconds",
)


def _case_row(one: CaseRecord) -> list[str]:
    return [
        one.name,
        "yes" if one.has_lesions else "no",
        "positive" if one.positive else "negative",
        number(one.score, 3),
        number(one.lung_dice, 3),
        number(one.lesion.dice) if one.has_lesions else NOTHING,
        *distance_cells(one.distances),
        f"{one.lesions.hit} of {one.lesions.true}",
        str(one.lesions.false),
        number(one.lesion_ml, 1),
        number(one.true_lesion_ml, 1),
        number(one.involved_percent),
        number(one.true_involved_percent),
        number(one.seconds, 1),
    ]


def front_end_section(evaluation: Evaluation, summary: Summary) -> str:
    """Return the section on changes before the networks."""
    if not summary.front_end:
        return ""
    cases = list(dict.fromkeys(one.case for one in evaluation.front_end))
    return blocks(
        "## What the steps before the networks are worth",
        "Live CT enters the networks through a fixed window. One thing at a time is changed, on "
        f"{len(cases)} scans ({', '.join(cases)}), up to {MOST_SLICES} slices with lesions of "
        "each; networks alone, lesions inside the true lungs. The second row leaves out the rule "
        "that what is less dense than the manifest says is no lesion.",
        table(
            ["change", "lesion Dice", "difference", "lung Dice", "difference"],
            [
                [
                    one.change,
                    interval(one.lesion_dice),
                    signed(one.lesion_difference),
                    interval(one.lung_dice, 3),
                    signed(one.lung_difference),
                ]
                for one in summary.front_end
            ],
        ),
    )


def real_section(evaluation: Evaluation, figures: Sequence[str]) -> str:
    """Return the section on real CT without truth."""
    if not evaluation.series and not evaluation.singles:
        return ""
    return blocks(
        "## Real CT without truth",
        "Whole series as they are stored; nobody outlined them on this grid. The numbers are what "
        "the product says, to be judged by the pictures.",
        table(_SERIES_HEAD, map(_series_row, evaluation.series)) if evaluation.series else "",
        *(
            picture(f"series-{place}", one.name, figures)
            for place, one in enumerate(evaluation.series, start=1)
        ),
        "Single slices: the networks alone, since one slice is too little for the cleaning that "
        "series get; raw lungs leak more. The two dates of a patient are not at one level, so "
        "their difference is no change of the disease."
        if evaluation.singles
        else "",
        table(_SINGLES_HEAD, map(_single_row, evaluation.singles)) if evaluation.singles else "",
        picture("singles", "COVID-19-NY-SBU, networks alone", figures),
    )


_SERIES_HEAD = (
    "series",
    "slices",
    "called",
    "score",
    "lungs ml",
    "lesion ml",
    "involved %",
    "lesions",
    "lung outside the body, ml",
    "remarks",
)
_SINGLES_HEAD = ("slice", "score", "lung cm²", "lesion cm²", "involved %")


def _series_row(series: SeriesRecord) -> list[str]:
    return [
        series.name,
        f"{series.slices} of {series.slice_spacing_mm:g} mm",
        f"{series.call}: {series.reason}" if series.reason else series.call,
        number(series.score, 3),
        number(series.lung_ml, 0),
        number(series.lesion_ml, 1),
        number(series.involved_percent),
        str(series.lesions),
        number(series.outside_body_ml, 1),
        "; ".join(series.quality_flags) or NOTHING,
    ]


def _single_row(single: SingleRecord) -> list[str]:
    return [
        single.name,
        number(single.score, 3),
        number(single.lung_cm2, 0),
        number(single.lesion_cm2, 1),
        number(single.involved_percent, 1),
    ]
