"""``prepare`` and ``split``: public data sets for training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import click
import numpy as np
from rich.progress import track

from inference.networks.session import load_models
from training.sources.layouts import DATASETS, LayoutError

if TYPE_CHECKING:
    from training.sources.prepare import Prepared

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
    from training.sources.prepare import prepare as write  # noqa: PLC0415 - nibabel

    lungs = load_models(providers=("CPU",)).lungs
    try:
        scans = list(DATASETS[dataset](folder))
        shown = track(scans, description="reading")
        done = write(dataset, shown, out, lungs, lambda volume: click.echo(_line(volume)))
    except LayoutError as error:
        raise click.ClickException(str(error)) from error
    kept = [volume for volume in done if volume.refused is None]
    patients = len({volume.patient for volume in kept})
    slices, ill = sum(volume.slices for volume in kept), sum(volume.with_lesion for volume in kept)
    click.echo(
        f"{out}: {patients} patients, {len(kept)} volumes, {slices} slices with lung, "
        f"{ill} of them with lesion; {len(done) - len(kept)} volumes were left out"
    )


def _line(volume: Prepared) -> str:
    if volume.refused is not None:
        return f"{volume.name}: left out: {volume.refused}"
    return (
        f"{volume.name}: {volume.slices} slices, {volume.with_lesion} with lesion; "
        f"lungs: {volume.lung_source}"
    )


@click.command()
@click.argument("files", nargs=-1, required=True, type=_path)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Part of the patients of each file; at least one patient where it has two.",
)
@click.option("--seed", default=1, show_default=True)
def split(files: tuple[Path, ...], out: Path, validation: float, seed: int) -> None:
    """Split the patients of prepared FILES into training and validation, file by file.

    A patient who is in several files stays on one side.
    """
    random = np.random.default_rng(seed)
    parts: dict[str, list[str]] = {"train": [], "validation": []}
    sides: dict[str, str] = {}
    for file in files:
        names, patients = _who(file)
        new = [patient for patient in sorted(set(patients)) if patient not in sides]
        count = round(validation * len(new))
        if validation and len(new) > 1:
            count = max(1, count)
        chosen = set(random.permutation(new)[:count])
        sides |= {patient: "validation" if patient in chosen else "train" for patient in new}
        for name, patient in zip(names, patients, strict=True):
            parts[sides[patient]].append(name)
    text = {"rule": f"by patient; seed {seed}, {validation:g} for validation", "volumes": parts}
    partial = out.with_name(f"{out.name}.partial")
    partial.write_text(json.dumps(text, indent=2) + "\n")
    partial.replace(out)
    click.echo(f"{out}: {len(parts['train'])} to train on, {len(parts['validation'])} to watch")


def _who(file: Path) -> tuple[list[str], list[str]]:
    """Return the names of the volumes of a prepared file, and the patient of each."""
    try:
        with np.load(file) as content:
            return content["name"].tolist(), content["patient"].tolist()
    except (KeyError, OSError, ValueError, BadZipFile) as error:
        raise click.ClickException(f"{file} was not written by `prepare`: {error}") from error
