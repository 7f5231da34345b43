"""The commands ``restorer`` and ``train``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from inference.networks.session import load_models
from inference.reading.lungs import lung_labels
from training.chests import chest_slices
from training.data import SliceSet, join, load_slices, load_split
from training.defaults import SPLIT, TRAINING_PHANTOMS, TRAINING_PLAIN, WATCHED
from training.options import (
    chest_option,
    file,
    folder,
    new_file,
    new_folder,
    slices_option,
    watch_option,
)
from training.phantoms import phantom_slices
from training.plain import plain_slices
from training.real import read_volume
from training.real_labels.split import TO_LEARN, TO_WATCH, chests_of, known_parts
from training.recipes import RECIPES


@click.command()
@click.argument("series", nargs=-1, required=True, type=folder)
@click.option("--out", default=Path("runs/restorer.pt"), show_default=True, type=new_file)
def restorer(series: tuple[Path, ...], out: Path) -> None:
    """Train the network that estimates HU from 8-bit slices, on true-HU SERIES (folders).

    A series of the selection or the test part of the committed split is left out.
    """
    import torch  # noqa: PLC0415 - only commands that train or export need torch

    from training.restoration import SCANS, pairs_of, train_restorer  # noqa: PLC0415

    lungs, parts = load_models(providers=("CPU",)).lungs, known_parts()
    pairs = []
    for place in series:
        volume = read_volume(place)
        part = parts.get(volume.series_uid, "train")
        if part != "train":
            click.echo(f"{place} left out: it is of the {part} part")
            continue
        pairs.append(pairs_of(volume, lung_labels(volume, lungs) > 0, range(SCANS)))
    if not pairs:
        raise click.ClickException("no series is of the train part: nothing to learn from")
    network = train_restorer(pairs, click.echo)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    torch.save(network.state_dict(), partial)
    partial.replace(out)


@click.command()
@click.argument("task", type=click.Choice(list(RECIPES)))
@slices_option
@chest_option
@watch_option
@click.option("--restorer", type=file, help="Weights of `restorer`: adds the slices in HU.")
@click.option("--start", type=file, help="ONNX file of the network to start from.")
@click.option(
    "--prepared",
    multiple=True,
    type=file,
    help="More slices, as `prepare` writes them; may be repeated. Needs --split.",
)
@click.option(
    "--split", "split_file", type=file, help="The split of the prepared files: see `split`."
)
@click.option("--runs", default=Path("runs"), show_default=True, type=new_folder)
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
    resumes after the last whole epoch. The log is runs/TASK/log.csv. Chests that the committed
    split keeps for selection or test are left out.
    """
    import torch  # noqa: PLC0415

    from training.engine import train as run  # noqa: PLC0415

    if threads:
        torch.set_num_threads(threads)
    recipe = RECIPES[task]
    known, watched = _patients(slices, prepared, split_file)
    if restorer is not None:
        known += [_in_hu(restorer, part) for part in known]
    click.echo("making phantoms, plain chests and scans of the chests")
    scans = range(1, recipe.scans + 1)
    known += _made(TRAINING_PHANTOMS, TRAINING_PLAIN, chests, scans, TO_LEARN)
    watched += _made(WATCHED, WATCHED, watch, WATCHED, TO_WATCH)
    with _progress() as tick:
        try:
            last = run(recipe, join(known), join(watched), runs / task, click.echo, tick, start)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"weights in {last}")


def _patients(
    slices: Path, prepared: Sequence[Path], split_file: Path | None
) -> tuple[list[SliceSet], list[SliceSet]]:
    """Return the labelled slices of patients to train on, and those to watch."""
    data, split = load_slices(slices), load_split(SPLIT)
    known, watched = [data.select(split["train"])], [data.select(split["validation"])]
    if prepared:
        if split_file is None:
            raise click.UsageError("--prepared needs --split: which patients are trained on?")
        names = json.loads(split_file.read_text())["volumes"]
        more = [load_slices(source) for source in prepared]
        known += [part.named(names["train"]) for part in more]
        watched += [part.named(names["validation"]) for part in more]
    return known, watched


def _in_hu(restorer: Path, data: SliceSet) -> SliceSet:
    """Return slices of patients with their HU estimated."""
    from training.restoration import load_restorer, restored_slices  # noqa: PLC0415

    return restored_slices(load_restorer(restorer), data)


def _made(
    phantoms: range, plain: range, chests: Sequence[Path], scans: range, parts: Sequence[str]
) -> list[SliceSet]:
    """Return the slices of phantoms and plain chests, and of scans of labelled chests, by seed.

    A chest is left out if the committed split has it in none of ``parts``: a network must not
    learn from a chest that judges it.
    """
    return [
        phantom_slices(phantoms),
        plain_slices(plain),
        chest_slices(chests_of(chests, parts, click.echo), scans),
    ]


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
