"""The options that several commands of the training share."""

from __future__ import annotations

from pathlib import Path

import click

existing = click.Path(exists=True, path_type=Path)
file = click.Path(exists=True, dir_okay=False, path_type=Path)
folder = click.Path(exists=True, file_okay=False, path_type=Path)
new_file = click.Path(dir_okay=False, path_type=Path)
new_folder = click.Path(file_okay=False, path_type=Path)

slices_option = click.option(
    "--slices", required=True, type=file, help="8-bit slices with masks: docs/model/data.md."
)
models_option = click.option("--models", type=folder, help="Folder of models; default: shipped.")
chest_option = click.option(
    "--chest",
    "chests",
    multiple=True,
    type=existing,
    help="Labelled chest, or a folder of them: see `label-chest`; repeatable.",
)
watch_option = click.option(
    "--watch",
    multiple=True,
    type=existing,
    help="Labelled chest, or a folder of them, to measure on; repeatable.",
)
