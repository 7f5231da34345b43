"""Writes the report: report.md, report.json and the figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from training.report.document import document
from training.report.figures import (
    bland_altman_cases,
    bland_altman_patients,
    operating_curves,
    reliability_curve,
)
from training.report.gallery import Tile, worst, write_sheet
from training.report.measure import Measured
from training.report.records import UNTOUCHED, Evaluation, RunRecord, Source
from training.report.summary import Summary, summarise
from training.robustness.records import RobustnessRecord

_TILES = 8


def evaluation_of(
    measured: Measured, provenance: RunRecord, robustness: RobustnessRecord | None
) -> Evaluation:
    """Return the records without the pictures."""
    return Evaluation(
        provenance=provenance,
        patients=measured.patients,
        slices=measured.slices,
        mirror=measured.mirror,
        labelled=tuple(chest.record for chest in measured.labelled),
        painted=tuple(scan.record for scan in measured.painted),
        cases=tuple(one.record for one in measured.cases),
        front_end=measured.front_end,
        series=tuple(one.record for one in measured.series),
        singles=tuple(one.record for one in measured.singles),
        robustness=robustness,
    )


def write_report(
    folder: Path,
    measured: Measured,
    provenance: RunRecord,
    robustness: RobustnessRecord | None = None,
) -> Path:
    """Write everything into ``folder``; return the path of the document."""
    evaluation = evaluation_of(measured, provenance, robustness)
    summary = summarise(evaluation)
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    names = [*_write_plots(figures, evaluation, summary), *_write_gallery(figures, measured)]
    content = {"summary": asdict(summary), **asdict(evaluation)}
    text = json.dumps(content, indent=1, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    path = folder / "report.md"
    path.write_text(document(evaluation, summary, names), encoding="utf-8")
    return path


def _write_plots(folder: Path, evaluation: Evaluation, summary: Summary) -> list[str]:
    names = []
    if summary.patients:
        names.append("involvement-patients")
        bland_altman_patients(
            folder / "involvement-patients.png",
            evaluation.patients,
            evaluation.slices,
            summary.patients.involved,
        )
    aside = summary.not_trained_on
    if aside:
        names += ["involvement-cases", "reliability"]
        bland_altman_cases(folder / "involvement-cases.png", evaluation.cases, aside.involved)
        point = evaluation.cases[0].operating_point
        reliability_curve(folder / "reliability.png", aside.reliability, point)
    if evaluation.painted:
        names.append("painted-curves")
        operating_curves(folder / "painted-curves.png", evaluation.painted)
    return names


def _write_gallery(folder: Path, measured: Measured) -> list[str]:
    aside = [one for one in measured.cases if one.record.source is not Source.SEEN]
    sheets = {
        "worst-slices": worst(measured.worst_slices, _TILES, 2),
        "false-slices": worst(measured.false_slices, _TILES, 2),
        "worst-cases": worst((tile for one in aside for tile in one.worst), _TILES, 1),
        "false-cases": worst((tile for one in aside for tile in one.false), _TILES, 1),
        "painted-missed": worst(_painted(measured, untouched=False), _TILES, 2),
        "painted-false": worst(_painted(measured, untouched=True), _TILES, 2),
        "singles": [one.tile for one in measured.singles],
    }
    for place, one in enumerate(measured.series, start=1):
        sheets[f"series-{place}"] = list(one.tiles)
    for chest in measured.labelled:
        for place in range(0, len(chest.tiles), _TILES):
            name = f"labelled-{chest.record.name}-{place // _TILES + 1}"
            sheets[name] = list(chest.tiles[place : place + _TILES])
    shown = {name: tiles for name, tiles in sheets.items() if tiles}
    for name, tiles in shown.items():
        write_sheet(folder / f"{name}.png", tiles)
    return list(shown)


def _painted(measured: Measured, *, untouched: bool) -> Iterator[Tile]:
    for scan in measured.painted:
        if (scan.record.kind == UNTOUCHED) is untouched:
            yield from scan.tiles
