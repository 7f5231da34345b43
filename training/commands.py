"""The commands ``train``, ``export``, ``choose-presence`` and ``evaluate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from inference.networks.session import load_models
from inference.ports import PresenceRule
from inference.reading.lungs import lung_labels
from training import operating
from training.chests import chest_slices, load_chest
from training.data import SliceSet, join, load_slices, load_split
from training.defaults import (
    SHIPPED_MODELS,
    SPLIT,
    TRAINING_PHANTOMS,
    TRAINING_PLAIN,
    VALIDATION_SEEDS,
    WATCHED,
    load_pair,
)
from training.evaluate import PatientScore, score_slices
from training.phantoms import phantom_slices
from training.plain import plain_slices
from training.real import read_volume
from training.recipes import RECIPES

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_new_file = click.Path(dir_okay=False, path_type=Path)
_new_folder = click.Path(file_okay=False, path_type=Path)

_slices_option = click.option(
    "--slices", required=True, type=_file, help="8-bit slices with masks: docs/model/data.md."
)
_models_option = click.option("--models", type=_folder, help="Folder of models; default: shipped.")
_chest_option = click.option(
    "--chest", "chests", multiple=True, type=_file, help="Labelled chest (label-chest); repeatable."
)


@click.command()
@click.argument("task", type=click.Choice(list(RECIPES)))
@_slices_option
@_chest_option
@click.option("--watch", multiple=True, type=_file, help="Labelled chest to watch; repeatable.")
@click.option("--restorer", type=_file, help="Weights of `restorer`: adds the slices in HU.")
@click.option("--start", type=_file, help="ONNX file of the network to start from.")
@click.option(
    "--prepared",
    multiple=True,
    type=_file,
    help="More slices, as `prepare` writes them; may be repeated. Needs --split.",
)
@click.option(
    "--split", "split_file", type=_file, help="The split of the prepared files: see `split`."
)
@click.option("--runs", default=Path("runs"), show_default=True, type=_new_folder)
@click.option("--threads", default=0, help="Threads of torch; 0 takes all cores.")
def train(
    task: str,
    slices: Path,
    chests: tuple[Path, ...],
    watch: tuple[Path, ...],
    restorer: Path | None,
    start: Path | None,
    prepared: tuple[Path, ...],
    split_file: Path | None,
    runs: Path,
    threads: int,
) -> None:
    """Train TASK on slices of patients, labelled chests (`label-chest`) and phantoms.

    Each epoch is a checkpoint: stop it at any time, run the same command again, and it
    resumes after the last whole epoch. The log is runs/TASK/log.csv.
    """
    import torch  # noqa: PLC0415 - only `train` and `export` need torch

    from training.engine import train as run  # noqa: PLC0415

    if threads:
        torch.set_num_threads(threads)
    recipe = RECIPES[task]
    known, watched = _labelled(slices, prepared, split_file)
    if restorer is not None:
        known += [_in_hu(restorer, part) for part in known]
    click.echo("making phantoms, plain chests and scans of the chests")
    known += [
        phantom_slices(TRAINING_PHANTOMS),
        plain_slices(TRAINING_PLAIN),
        chest_slices(map(load_chest, chests), range(1, recipe.scans + 1)),
    ]
    watched += [
        phantom_slices(WATCHED),
        plain_slices(WATCHED),
        chest_slices(map(load_chest, watch), WATCHED),
    ]
    with _progress() as tick:
        try:
            last = run(recipe, join(known), join(watched), runs / task, click.echo, tick, start)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"weights in {last}")


def _in_hu(restorer: Path, data: SliceSet) -> SliceSet:
    """Return slices of patients with their HU estimated."""
    from training.restoration import load_restorer, restored_slices  # noqa: PLC0415 - needs torch

    return restored_slices(load_restorer(restorer), data)


def _labelled(
    slices: Path, prepared: Sequence[Path], split_file: Path | None
) -> tuple[list[SliceSet], list[SliceSet]]:
    """Return the labelled slices to train on, and those to watch."""
    data, split = load_slices(slices), load_split(SPLIT)
    known, watched = [data.select(split["train"])], [data.select(split["validation"])]
    if prepared:
        if split_file is None:
            raise click.UsageError("--prepared needs --split: which patients are trained on?")
        names = json.loads(split_file.read_text())["volumes"]
        more = [load_slices(file) for file in prepared]
        known += [part.named(names["train"]) for part in more]
        watched += [part.named(names["validation"]) for part in more]
    return known, watched


@click.command()
@click.argument("series", nargs=-1, required=True, type=_folder)
@click.option("--out", default=Path("runs/restorer.pt"), show_default=True, type=_new_file)
def restorer(series: tuple[Path, ...], out: Path) -> None:
    """Train the network that estimates HU from 8-bit slices, on true-HU SERIES (folders)."""
    import torch  # noqa: PLC0415

    from training.restoration import SCANS, pairs_of, train_restorer  # noqa: PLC0415

    lungs = load_models(providers=("CPU",)).lungs
    pairs = []
    for folder in series:
        volume = read_volume(folder)
        pairs.append(pairs_of(volume, lung_labels(volume, lungs) > 0, range(SCANS)))
    network = train_restorer(pairs, click.echo)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), out)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time that is left, on a terminal only."""
    with Progress(
        *Progress.get_default_columns(),
        TimeElapsedColumn(),
        transient=True,
        disable=not sys.stderr.isatty(),
        console=Console(stderr=True),
    ) as progress:
        bar = progress.add_task("training", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--version", "number", required=True, help="Version to write into the manifests.")
@click.option("--out", default=SHIPPED_MODELS, show_default=True, type=_new_folder)
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
@_slices_option
@click.option("--split", type=click.Choice(["train", "validation"]), help="Only this part.")
@_models_option
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
@_slices_option
@_chest_option
@_models_option
@click.option("--write", is_flag=True, help="Put the best rule into the manifest.")
def choose_presence(
    slices: Path,
    chests: tuple[Path, ...],
    models: Path | None,
    write: bool,  # noqa: FBT001
) -> None:
    """Compare presence rules on validation patients, phantoms, and labelled chests.

    The best rule stands first. Give chests that were not trained on.
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
        operating.validation_chests(map(load_chest, chests), VALIDATION_SEEDS),
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
