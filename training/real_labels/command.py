"""The command ``label-chest``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training.real import read_volume
from training.real_labels.build import labels_of
from training.real_labels.recipe import known_recipes


@click.command("label-chest")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The NPZ file: hu, body, lungs, lesion, spacing (docs/model/data.md).",
)
def label_chest(folder: Path, out: Path) -> None:
    """Label lungs and lesions of the real chest in FOLDER by its committed recipe.

    The same series and recipe always give the same labels. Prints the volume of each label.
    """
    volume = read_volume(folder)
    recipe = known_recipes().get(volume.series_uid)
    if recipe is None:
        raise click.ClickException(
            f"{folder}: no recipe for series {volume.series_uid}; "
            "write one in training/real_labels/recipes.json"
        )
    labels = labels_of(volume, recipe)
    labels.save(out)
    click.echo(json.dumps({"name": recipe.name, **labels.summary()}))
