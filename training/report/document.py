"""Writes the report as Markdown; every number comes from a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.report.labelled_section import labelled_section
from training.report.live import cases_section, front_end_section, real_section
from training.report.markup import blocks, interval, table
from training.report.painted_section import painted_section
from training.report.patients import patients_section
from training.report.records import Evaluation, Source
from training.report.robustness import robustness_section
from training.report.statistics import DRAWS, Estimate
from training.report.summary import Summary


def document(evaluation: Evaluation, summary: Summary, figures: Sequence[str]) -> str:
    """Return the report; ``figures`` are the names of the existing PNGs."""
    parts = [
        _head(evaluation),
        _goals(evaluation, summary),
        patients_section(evaluation, summary, figures),
        labelled_section(evaluation, figures),
        painted_section(summary.painted, figures),
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


def _goals(evaluation: Evaluation, summary: Summary) -> str:
    rows = [
        *_patient_goals(summary),
        *_labelled_goals(evaluation, summary),
        *_painted_goals(summary),
        *_case_goals(summary),
    ]
    return blocks(
        "## Goals",
        "Goals for Dice by patient are meant for patients that are kept aside from everything.",
        table(["what", "goal", "measured", "reached"], rows),
    )


def _patient_goals(summary: Summary) -> Iterator[list[str]]:
    patients = summary.patients
    if patients:
        yield _least("lesion Dice, mean by patient (8-bit slices)", patients.lesion_dice, 0.75)
        yield _least("lung Dice, mean by patient (8-bit slices)", patients.lung_dice, 0.97)


def _labelled_goals(evaluation: Evaluation, summary: Summary) -> Iterator[list[str]]:
    labelled = summary.labelled
    if not labelled:
        return
    if labelled.negative.count:
        yield _least("labelled chests without lesions: called negative", labelled.negative, 0.9)
    if labelled.involved_most is not None:
        involved = labelled.involved_most
        name = "labelled chests without lesions: involvement, the highest"
        yield _most(name, involved, f"{involved:.2f} %", 1, "%")
    if labelled.positive.count:
        yield _least("labelled chests with lesions: called positive", labelled.positive, 0.9)
    if labelled.lung_dice.count:
        yield _least("labelled chests not trained on: lung Dice", labelled.lung_dice, 0.97)
    series = (one.outside_body_ml for one in evaluation.series)
    outside = max(labelled.outside_most_ml, *series, 0.0)
    name = "lung outside the body, the highest of labelled chests and series"
    yield _most(name, outside, f"{outside:.1f} ml", 0, "ml")


def _painted_goals(summary: Summary) -> Iterator[list[str]]:
    painted = summary.painted
    if not painted:
        return
    if painted.found_from_5_ml.count:
        yield _least("painted opacities from 5 ml: found", painted.found_from_5_ml, 1)
    if painted.dice_from_10_ml.count:
        yield _least("painted opacities from 10 ml: lesion Dice", painted.dice_from_10_ml, 0.75)


def _case_goals(summary: Summary) -> Iterator[list[str]]:
    held_out = next((one for one in summary.cases if one.name == str(Source.HELD_OUT)), None)
    if held_out and held_out.lesion_dice.count:
        yield _least("lesion Dice, synthetic lesions in a real chest", held_out.lesion_dice, 0.75)
    aside = summary.not_trained_on
    if not aside:
        return
    yield _least("presence right, chests not trained on", aside.accuracy, 0.97, 2)
    if aside.clean_most is not None:
        clean = f"{aside.clean_most:.2f} %"
        yield _most(
            "involvement of lesion-free scans, the highest", aside.clean_most, clean, 1, "%"
        )
    error = aside.involved_error
    if error.mean is not None:
        name = "involvement, mean absolute error"
        yield _most(name, error.mean, interval(error), 3, "points")


def _least(name: str, found: Estimate, least: float, digits: int = 3) -> list[str]:
    """Return the row of a goal that a mean is at least this high."""
    reached = found.mean is not None and found.mean >= least
    return [name, f"≥ {least:g}", interval(found, digits), "yes" if reached else "no"]


def _most(name: str, value: float, shown: str, most: float, unit: str) -> list[str]:
    """Return the row of a goal that a value is at most this high."""
    return [name, f"≤ {most:g} {unit}", shown, "yes" if value <= most else "no"]


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
- Labelled chests: COVID-CT-MD (normal-2mm, covid-4mm; CC BY 4.0), RICORD (covid-basal-4mm; CC
  BY-NC 4.0), LIDC-IDRI (collapsed-lobe-3mm; CC BY 3.0), ACRIN-FLT-Breast (wide-fov-5mm,
  head-to-chest-5mm; CC BY 3.0), and the two patients above.
- COVID-CT-MD (normal-2mm, covid-4mm): Afshar P. et al., Sci Data 2021,
  doi:10.1038/s41597-021-00900-3 (CC BY 4.0).
- COVID-19-NY-SBU: Saltz J. et al., Stony Brook University COVID-19 Positive Cases, The Cancer
  Imaging Archive 2021, doi:10.7937/TCIA.BBAG-2923 (CC BY 4.0).
- Outlines are drawn in; series are shown in the lung window and cut to the lungs, their slices
  numbered from the feet, the patient's right on the left."""
