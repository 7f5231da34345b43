"""The command ``label-chest``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training.options import folder, new_folder
from training.real import read_volume
from training.real_labels.build import labels_of
from training.real_labels.recipe import known_recipes
from training.real_labels.split import known_parts


@click.command("label-chest")
@click.argument("series", nargs=-1, required=True, type=folder)
@click.option("--out", default=Path("runs/chests"), show_default=True, type=new_folder)
def label_chest(series: tuple[Path, ...], out: Path) -> None:
    """Label lungs and lesions of real chests, each in a folder SERIES, by committed recipes.

    Writes OUT/PART/NAME.npz (docs/model/data.md): PART is train, selection or test. Prints the
    volume of each label. A file that exists is left as it is: delete it to label the chest again.
    """
    recipes, parts = known_recipes(), known_parts()
    for place in series:
        volume = read_volume(place)
        recipe = recipes.get(volume.series_uid)
        if recipe is None:
            raise click.ClickException(
                f"{place}: no recipe for series {volume.series_uid}; "
                "write one in training/real_labels/recipes.json"
            )
        path = out / parts[volume.series_uid] / f"{recipe.name}.npz"
        if path.exists():
            click.echo(f"{path} exists", err=True)
            continue
        labels = labels_of(volume, recipe)
        path.parent.mkdir(parents=True, exist_ok=True)
        labels.save(path)
        click.echo(json.dumps({"name": recipe.name, **labels.summary()}))
