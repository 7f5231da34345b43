"""Writes the report as Markdown; every number comes from a record."""

from __future__ import annotations

from collections.abc import Sequence

from training.report.live import cases_section, front_end_section, real_section
from training.report.markup import blocks, interval, number, table
from training.report.patients import patients_section
from training.report.records import Evaluation, Source
from training.report.robustness import robustness_section
from training.report.statistics import DRAWS, Estimate
from training.report.summary import Summary


def document(evaluation: Evaluation, summary: Summary, figures: Sequence[str]) -> str:
    """Return the report; ``figures`` are the names of the existing PNGs."""
    parts = [
        _head(evaluation),
        _goals(summary),
        patients_section(evaluation, summary, figures),
        cases_section(evaluation, summary, figures),
        front_end_section(evaluation, summary),
        real_section(evaluation, figures),
        robustness_section(evaluation.robustness),
        _made(evaluation),
        _SOURCES,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(evaluation: Evaluation) -> str:
    run = evaluation.provenance
    models = table(
        ["network", "version", "MB", "SHA-256"],
        [[one.name, one.version, f"{one.megabytes:.1f}", f"`{one.sha256}`"] for one in run.models],
    )
    return blocks(
        "# Evaluation report",
        f"Made {run.date} by `{run.command}` from the ONNX files and their manifests. No number "
        "here was typed: [report.json](report.json) holds every record and figure. **Research use "
        "only; no radiologist has checked any of it.**",
        models,
        "In brackets: 95 % intervals, from "
        f"{DRAWS} bootstrap draws of whole patients or scans; of proportions, Wilson's. Of few "
        "patients they are too narrow.",
    )


def _goals(summary: Summary) -> str:
    patients, aside = summary.patients, summary.not_trained_on
    held_out = next((one for one in summary.cases if one.name == str(Source.HELD_OUT)), None)
    rows: list[list[str]] = []

    def goal(name: str, found: Estimate | None, least: float, digits: int = 3) -> None:
        if found is not None and found.mean is not None:
            reached = "yes" if found.mean >= least else "no"
            rows.append([name, f"≥ {least:g}", interval(found, digits), reached])

    def limit(name: str, value: float | None, shown: str, most: float, unit: str) -> None:
        if value is not None:
            rows.append([name, f"{most:g} {unit}", shown, "yes" if value <= most else "no"])

    if patients:
        goal("lesion Dice, mean by patient (8-bit slices)", patients.lesion_dice, 0.75)
        goal("lung Dice, mean by patient (8-bit slices)", patients.lung_dice, 0.97)
    if held_out:
        goal("lesion Dice, synthetic lesions in a real chest", held_out.lesion_dice, 0.75)
    if aside:
        goal("presence right, chests not trained on", aside.accuracy, 0.97, 2)
        limit(
            "involvement of lesion-free scans, the highest",
            aside.clean_most,
            f"{number(aside.clean_most)} %",
            1,
            "%",
        )
        error = aside.involved_error
        limit("involvement, mean absolute error", error.mean, interval(error), 3, "points")
    return blocks(
        "## Goals",
        "Goals for Dice by patient are meant for patients that are kept aside from everything.",
        table(["what", "goal", "measured", "reached"], rows),
    )


def _made(evaluation: Evaluation) -> str:
    run = evaluation.provenance
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in run.seconds.items())
    return blocks(
        "## How this was made",
        f"`{run.command}`",
        f"- {versions}; {run.cores} CPU cores; ONNX Runtime on the CPU.\n"
        f"- Wall time {sum(run.seconds.values()):.0f} s: {seconds}.\n"
        f"- Slices file: SHA-256 `{run.slices_sha256}`.",
    )


_SOURCES = """## Sources of the pictures

- 8-bit slices: Ma J. et al., COVID-19 CT Lung and Infection Segmentation Dataset, Zenodo 2020,
  doi:10.5281/zenodo.3757476 (as redistributed: CC BY-NC-SA 4.0; these pictures too).
- CPTAC-LSCC C3N-00247: National Cancer Institute Clinical Proteomic Tumor Analysis Consortium,
  The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2018.6EMUB5L2 (CC BY 3.0).
- Lung-PET-CT-Dx A0001: Li P. et al., The Cancer Imaging Archive 2020,
  doi:10.7937/TCIA.2020.NNC2-0461 (CC BY 4.0).
- COVID-19-NY-SBU: Saltz J. et al., Stony Brook University COVID-19 Positive Cases, The Cancer
  Imaging Archive 2021, doi:10.7937/TCIA.BBAG-2923 (CC BY 4.0).
- Outlines are drawn in; series are shown in the lung window and cut to the lungs, their slices
  numbered from the feet, the patient's right on the left."""
