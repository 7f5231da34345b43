"""``prepare`` and ``split``: public data sets for training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.progress import track

from chestct.errors import SeriesRejected
from inference.session import load_models
from inference.training.sources.layouts import DATASETS, LayoutError

if TYPE_CHECKING:
    from inference.training.sources.prepare import Prepared

_path = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("dataset", type=click.Choice(sorted(DATASETS)))
@click.argument("folder", type=_path)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
def prepare(dataset: str, folder: Path, out: Path) -> None:
    """Bring a public DATASET from its published FOLDER into the form that training reads.

    Nothing is downloaded; docs/model/datasets.md says where each comes from, under which
    licence, and how its folder has to look.
    """
    from inference.training.sources.prepare import prepare as write  # noqa: PLC0415 - nibabel

    lungs = load_models(providers=("CPU",)).lungs
    try:
        scans = list(DATASETS[dataset](folder))
        shown = track(scans, description="reading")
        done = write(dataset, shown, out, lungs, lambda one: click.echo(_line(one)))
    except (LayoutError, SeriesRejected) as error:
        raise click.ClickException(str(error)) from error
    patients = len({one.patient for one in done})
    slices, ill = sum(one.slices for one in done), sum(one.with_lesion for one in done)
    click.echo(
        f"{out}: {patients} patients, {len(done)} volumes, {slices} slices with lung, "
        f"{ill} of them with lesion"
    )


def _line(one: Prepared) -> str:
    return (
        f"{one.name}: {one.slices} slices, {one.with_lesion} with lesion; lungs: {one.lung_source}"
    )


@click.command()
@click.argument("files", nargs=-1, required=True, type=_path)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--validation", default=0.2, show_default=True, help="Part of the patients.")
@click.option("--seed", default=1, show_default=True)
def split(files: tuple[Path, ...], out: Path, validation: float, seed: int) -> None:
    """Split the patients of prepared FILES into training and validation, file by file."""
    random = np.random.default_rng(seed)
    parts: dict[str, list[str]] = {"train": [], "validation": []}
    for file in files:
        with np.load(file) as content:
            names, patients = content["name"], content["patient"]
        unique = np.unique(patients)
        chosen = random.permutation(unique)[: round(validation * len(unique))]
        for name, patient in zip(names, patients, strict=True):
            parts["validation" if patient in chosen else "train"].append(str(name))
    text = {"rule": f"by patient; seed {seed}, {validation:g} for validation", "volumes": parts}
    out.write_text(json.dumps(text, indent=2) + "\n")
    click.echo(f"{out}: {len(parts['train'])} to train on, {len(parts['validation'])} to watch")
