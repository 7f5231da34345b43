"""``python -m training``: train, export and evaluate the networks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from inference.networks.session import OnnxModel, load_model, load_models
from training.report import report
from training.sources.command import prepare, split
from training.variants import variants

_MODELS = Path(__file__).parent.parent / "models"
_SPLIT = "covid-ct-seg"
TRAINING_PHANTOMS = range(1, 49)
"""Seeds of the phantoms that are trained on."""
TRAINING_PLAIN = range(1, 25)
"""Seeds of the plain chests that are trained on."""
WATCHED = range(1001, 1004)
"""Seeds of what the log shows a score of beside the patients; none is trained on."""
VALIDATION_SEEDS = range(1001, 1022)
"""Seeds of what the presence rule is chosen on; every third has no lesion."""
TEST_PHANTOMS = range(12001, 12019)
"""Seeds of the phantoms that are measured on: neither trained on nor chosen on."""

_TASKS = ("lungs", "lesions", "lesions-refined", "lesions-varied", "lesions-as-live")

_models_option = click.option(
    "--models", type=click.Path(exists=True, path_type=Path), help="Not the shipped ones."
)

_series_option = click.option(
    "--series",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a true-HU series for synthetic opacities; may be repeated.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train the networks of Rales, export them to ONNX, and measure what is shipped.

    \b
    The whole way, from the slices of docs/model/data.md (... is python -m training):
      ... train lungs --slices slices.npz --series chest-ct
      ... train lesions --slices slices.npz --series chest-ct
      ... train lesions-refined --slices slices.npz --series chest-ct
      ... export runs/lungs runs/lesions-refined --version dev --out runs/models
      ... choose-presence --slices slices.npz --series chest-ct --models runs/models --write
      ... evaluate --slices slices.npz --split validation --models runs/models
      ... report --help
    make train SLICES=slices.npz SERIES=chest-ct does the first four.
    """  # noqa: D301 - click wants the backspace character itself


@main.command()
@click.argument("task", type=click.Choice(_TASKS))
@click.option("--slices", required=True, type=click.Path(exists=True, path_type=Path))
@_series_option
@click.option(
    "--prepared",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="More slices, as `prepare` wrote them; may be repeated. Needs --split.",
)
@click.option(
    "--split",
    "split_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `split` wrote of the prepared files.",
)
@click.option("--runs", default=Path("runs"), show_default=True, type=click.Path(path_type=Path))
@click.option("--threads", default=0, help="Threads of torch; 0 takes all cores.")
def train(
    task: str,
    slices: Path,
    series: tuple[Path, ...],
    prepared: tuple[Path, ...],
    split_file: Path | None,
    runs: Path,
    threads: int,
) -> None:
    """Train TASK on the training part of the slices, on phantoms and on synthetic opacities.

    Each epoch is a checkpoint: stop it at any time, run the same command again, and it goes
    on where it was. The log is runs/TASK/log.csv. lesions-refined goes on from the weights of
    lesions; lesions-varied and lesions-as-live are short runs that ask whether window and
    equalisation must vary (docs/model/data.md).
    """
    import torch  # noqa: PLC0415 - only training needs it

    from training.data import join, load_slices, load_split  # noqa: PLC0415
    from training.engine import train as run  # noqa: PLC0415
    from training.phantoms import FRONT_ENDS, phantom_slices  # noqa: PLC0415
    from training.plain import plain_slices  # noqa: PLC0415
    from training.recipes import RECIPES  # noqa: PLC0415
    from training.synthetic import synthetic_slices  # noqa: PLC0415

    if threads:
        torch.set_num_threads(threads)
    data, split = load_slices(slices), load_split(_SPLIT)
    lungs = load_models(providers=("CPU",)).lungs if series else None
    parts = {"train": [data.select(split["train"])], "watched": [data.select(split["validation"])]}
    if prepared:
        if split_file is None:
            raise click.UsageError("--prepared needs --split: who is trained on, who is watched?")
        of = json.loads(split_file.read_text())["volumes"]
        more = [load_slices(file) for file in prepared]
        parts["train"] += [one.named(of["train"]) for one in more]
        parts["watched"] += [one.named(of["validation"]) for one in more]
    recipe = RECIPES[task]
    shown = FRONT_ENDS[recipe.front_end]
    click.echo("making phantoms, plain chests and opacities")
    for name, phantoms, plain, opacities in (
        ("train", TRAINING_PHANTOMS, TRAINING_PLAIN, range(1, recipe.opacities + 1)),
        ("watched", WATCHED, WATCHED, WATCHED),
    ):
        parts[name] += [phantom_slices(phantoms, shown), plain_slices(plain, shown)]
        if lungs is not None:
            parts[name] += [synthetic_slices(one, opacities, lungs, shown) for one in series]
    start = runs / recipe.after / "last.pt" if recipe.after else None
    if start is not None and not start.exists():
        raise click.ClickException(f"{start} does not exist: train {recipe.after} first")
    with _progress() as tick:
        try:
            last = run(
                recipe,
                join(parts["train"]),
                join(parts["watched"]),
                runs / task,
                click.echo,
                tick,
                start,
            )
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"weights in {last}")


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


@main.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--version", "number", required=True, help="Version that the manifests state.")
@click.option("--out", default=_MODELS, show_default=True, type=click.Path(path_type=Path))
@click.option("--certainty", default=0.98, show_default=True, help="See choose-presence.")
@click.option("--volume-ml", default=2.5, show_default=True, help="See choose-presence.")
def export(
    folders: tuple[Path, ...], number: str, out: Path, certainty: float, volume_ml: float
) -> None:
    """Write ONNX files and manifests of the runs in FOLDERS, and check their parity.

    The presence rule of a new lesion model comes from choose-presence: export once, choose,
    and export again with what it says.
    """
    from training.export import PresenceChoice, load_checkpoint  # noqa: PLC0415
    from training.export import export as write  # noqa: PLC0415

    presence = PresenceChoice(certainty=certainty, volume_ml=volume_ml, stride=2)
    for folder in folders:
        recipe, _ = load_checkpoint(folder / "last.pt")
        rule = presence if recipe.task == "lesions" else None
        difference = write(folder / "last.pt", out, number, rule)
        click.echo(f"{recipe.task}: largest difference of torch and ONNX logits {difference:.2e}")


@main.command()
@click.option("--slices", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--split", type=click.Choice(["train", "validation"]), help="Only this part.")
@_models_option
@click.option("--json", "as_json", is_flag=True)
def evaluate(slices: Path, split: str | None, models: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Print Dice by patient on a file of the slices.npz format."""
    from training.data import load_slices, load_split  # noqa: PLC0415
    from training.evaluate import score_slices  # noqa: PLC0415

    data = load_slices(slices)
    if split:
        data = data.select(load_split(_SPLIT)[split])
    lungs, lesions = _loaded(models)
    scores = score_slices(lungs, lesions, data)
    if as_json:
        click.echo(json.dumps({"patients": [asdict(score) for score in scores]}, indent=2))
        return
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


@main.command()
@_models_option
def phantoms(models: Path | None) -> None:
    """Measure the whole live path on phantoms on which nothing was trained or chosen."""
    from training.evaluate import score_phantoms  # noqa: PLC0415
    from training.phantoms import random_spec  # noqa: PLC0415

    specs = [random_spec(seed, lesions=seed % 3 != 0) for seed in TEST_PHANTOMS]
    scores = score_phantoms(specs, load_models(models))
    click.echo("  seed  lesions  positive  score  lung Dice  lesion Dice  involved %  truth %")
    for one in scores:
        click.echo(
            f"{one.seed:6}  {one.has_lesions!s:>7}  {one.positive!s:>8}  {one.presence_score:.3f}"
            f"  {one.lung_dice:9.3f}  {one.lesion_dice:11.3f}"
            f"  {one.involved_percent:10.2f}  {one.true_involved_percent:7.2f}"
        )
    right = np.mean([one.has_lesions == one.positive for one in scores])
    sick = [one for one in scores if one.has_lesions]
    error = np.mean([abs(one.involved_percent - one.true_involved_percent) for one in sick])
    click.echo(
        f"presence right in {100 * right:.0f} %; with lesions: mean Dice "
        f"{np.mean([one.lesion_dice for one in sick]):.3f}, mean error of the percent involved "
        f"{error:.2f} points; lungs: mean Dice {np.mean([one.lung_dice for one in scores]):.3f}"
    )


@main.command("choose-presence")
@click.option("--slices", required=True, type=click.Path(exists=True, path_type=Path))
@_series_option
@_models_option
@click.option("--write", is_flag=True, help="Put the best rule into the manifest.")
def choose_presence(
    slices: Path,
    series: tuple[Path, ...],
    models: Path | None,
    write: bool,  # noqa: FBT001
) -> None:
    """Compare presence rules on the validation patients, phantoms, and opacities in real lungs.

    The best rule stands first. No seed and no patient was trained on, but the real chest
    around the opacities was.
    """
    from training import operating  # noqa: PLC0415
    from training.data import load_slices, load_split  # noqa: PLC0415

    _, lesions = _loaded(models)
    loaded = load_models(models, providers=("CPU",))
    data = load_slices(slices).select(load_split(_SPLIT)["validation"])
    made = [
        operating.validation_phantoms(VALIDATION_SEEDS),
        *(operating.validation_opacities(one, VALIDATION_SEEDS, loaded.lungs) for one in series),
        *(operating.validation_breaths(one, VALIDATION_SEEDS, loaded.lungs) for one in series),
    ]
    scans = [
        *operating.known_volumes(lesions, data),
        *operating.known_scans(
            loaded, chain.from_iterable(made), lambda line: click.echo(line, err=True)
        ),
    ]
    sick = sum(scan.has_lesions for scan in scans)
    click.echo(f"{sick} scans with lesions, {len(scans) - sick} without")
    click.echo("certainty  volume  sensitivity  specificity  separation")
    found = operating.outcomes(scans)
    for one in found:
        rule = one.rule
        click.echo(
            f"{rule.certainty:9.3f}  {rule.volume_ml:3.1f} ml"
            f"  {one.sensitivity:11.2f}  {one.specificity:11.2f}  {one.separation:10.2f}"
        )
    click.echo("wrong with the first rule:")
    for name, score in operating.wrong(scans, found[0].rule):
        click.echo(f"  {name}: {score:.3f}")
    if write:
        operating.write_rule((models or _MODELS) / "lesions.toml", found[0].rule)


def _loaded(models: Path | None) -> tuple[OnnxModel, OnnxModel]:
    folder = models or _MODELS
    lungs, lesions = (
        load_model(folder / f"{task}.toml", provider="CPU", threads=0)
        for task in ("lungs", "lesions")
    )
    return lungs, lesions


for command in (report, prepare, split, variants):
    main.add_command(command)


if __name__ == "__main__":
    main()
