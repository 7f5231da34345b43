"""The commands ``export``, ``choose-presence`` and ``evaluate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click
import numpy as np

from inference.networks.session import load_models
from inference.ports import PresenceRule
from training import operating
from training.data import load_slices, load_split
from training.defaults import SHIPPED_MODELS, SPLIT, VALIDATION_SEEDS, load_pair
from training.evaluate import PatientScore, score_slices
from training.options import chest_option, existing, models_option, new_folder, slices_option
from training.real_labels.split import TO_WATCH, chests_of


@click.command()
@click.argument("folders", nargs=-1, required=True, type=existing)
@click.option("--version", "number", required=True, help="Version to write into the manifests.")
@click.option("--out", default=SHIPPED_MODELS, show_default=True, type=new_folder)
@click.option("--certainty", default=0.98, show_default=True, help="See choose-presence.")
@click.option("--volume-ml", default=2.5, show_default=True, help="See choose-presence.")
def export(
    folders: tuple[Path, ...], number: str, out: Path, certainty: float, volume_ml: float
) -> None:
    """Write ONNX files and manifests of the runs in FOLDERS, and check their parity.

    The presence rule of a new lesion model comes from choose-presence: export once, choose,
    and export again with the chosen rule.
    """
    from training.export import export as write  # noqa: PLC0415
    from training.export import load_checkpoint  # noqa: PLC0415

    presence = PresenceRule(certainty=certainty, volume_ml=volume_ml, stride=operating.STRIDE)
    for folder in folders:
        recipe, _ = load_checkpoint(folder / "last.pt")
        rule = presence if recipe.task == "lesions" else None
        difference = write(folder / "last.pt", out, number, rule)
        click.echo(f"{recipe.task}: largest difference of torch and ONNX logits {difference:.2e}")


@click.command()
@slices_option
@click.option("--split", type=click.Choice(["train", "validation"]), help="Only this part.")
@models_option
@click.option("--json", "as_json", is_flag=True)
def evaluate(slices: Path, split: str | None, models: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Print Dice by patient on a file of the slices.npz format."""
    data = load_slices(slices)
    if split:
        data = data.select(load_split(SPLIT)[split])
    scores = score_slices(*load_pair(models), data)
    if as_json:
        click.echo(json.dumps({"patients": [asdict(score) for score in scores]}, indent=2))
    else:
        _print_scores(scores)


def _print_scores(scores: Sequence[PatientScore]) -> None:
    click.echo("patient  slices  lung Dice  lesion Dice")
    for score in scores:
        click.echo(
            f"{score.patient:7}  {score.slices:6}  {score.lung_dice:9.3f}"
            f"  {score.lesion_dice:11.3f}"
        )
    lung = np.array([score.lung_dice for score in scores])
    lesion = np.array([score.lesion_dice for score in scores])
    click.echo(f"   mean          {lung.mean():9.3f}  {lesion.mean():11.3f}")
    click.echo(f"     SD          {lung.std():9.3f}  {lesion.std():11.3f}")


@click.command("choose-presence")
@slices_option
@chest_option
@models_option
@click.option("--write", is_flag=True, help="Put the best rule into the manifest.")
def choose_presence(
    slices: Path,
    chests: tuple[Path, ...],
    models: Path | None,
    write: bool,  # noqa: FBT001
) -> None:
    """Compare presence rules on validation patients, phantoms, and labelled chests.

    The best rule stands first. Give chests that were not trained on; those of the test part
    are left out.
    """
    scans = _validation_scans(slices, chests, models)
    outcomes = operating.outcomes(scans)
    _print_outcomes(scans, outcomes)
    if write:
        operating.write_rule((models or SHIPPED_MODELS) / "lesions.toml", outcomes[0].rule)


def _validation_scans(
    slices: Path, chests: Sequence[Path], models: Path | None
) -> list[operating.KnownScan]:
    _, lesions = load_pair(models)
    loaded = load_models(models, providers=("CPU",))
    data = load_slices(slices).select(load_split(SPLIT)["validation"])
    volumes = chain(
        operating.validation_phantoms(VALIDATION_SEEDS),
        operating.validation_chests(chests_of(chests, TO_WATCH, click.echo), VALIDATION_SEEDS),
    )
    return [
        *operating.known_volumes(lesions, data),
        *operating.known_scans(loaded, volumes, lambda line: click.echo(line, err=True)),
    ]


def _print_outcomes(
    scans: Sequence[operating.KnownScan], outcomes: Sequence[operating.RuleScore]
) -> None:
    sick = sum(scan.has_lesions for scan in scans)
    click.echo(f"{sick} scans with lesions, {len(scans) - sick} without")
    click.echo("certainty  volume  sensitivity  specificity  separation")
    for outcome in outcomes:
        rule = outcome.rule
        click.echo(
            f"{rule.certainty:9.3f}  {rule.volume_ml:3.1f} ml  {outcome.sensitivity:11.2f}"
            f"  {outcome.specificity:11.2f}  {outcome.separation:10.2f}"
        )
    click.echo("wrong with the first rule:")
    for name, score in operating.wrong(scans, outcomes[0].rule):
        click.echo(f"  {name}: {score:.3f}")
