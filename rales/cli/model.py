"""``rales model check``: can this network be used, and does its manifest describe it?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from chestct.errors import RalesError
from rales.cli import logs
from rales.cli.speech import say

if TYPE_CHECKING:
    from inference.networks.modelcheck import Sample

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group("model")
def model_group() -> None:
    """Work with networks of your own; docs/models.md explains the manifest."""


@model_group.command("check")
@click.argument("file", type=_file)
@click.option("--manifest", required=True, type=_file, help="The TOML file that describes FILE.")
@click.option("--series", type=_folder, help="Try it on this chest CT series, not on a phantom.")
@click.option(
    "--provider",
    type=click.Choice(["CPU", "CUDA", "TensorRT"]),
    default="CPU",
    show_default=True,
    help="What runs the network.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def model_check(
    file: Path,
    manifest: Path,
    series: Path | None,
    provider: str,
    as_json: bool,  # noqa: FBT001 - click passes options by name
) -> None:
    """Check the ONNX network FILE against its manifest, and read a chest with it.

    \b
    A manifest of a network of slices with three channels (docs/models.md has all keys, and
    3D networks):
      name = "my-lesions"
      version = "1"
      task = "lesions"                 # or "lungs"
      file = "lesions.onnx"
      sha256 = "..."                   # this command says it
      licence = "..."
      classes = ["background", "ground-glass", "consolidation"]
      activation = "softmax"           # or "sigmoid", or "none": already probabilities
      [labels]
      lesion = ["ground-glass", "consolidation"]
      [input]
      rows = 512
      columns = 512
      context = 3
      context_mm = 3.0
      window = [-1000.0, 400.0]
      [presence]
      certainty = 0.98
      volume_ml = 2.5
      stride = 2

    To use it, put both files beside a lung network into one folder, as lesions.toml and
    lungs.toml, and name the folder in the configuration: [analysis] models_dir = "...".

    Exit status 0: it can be used. 1: it cannot, and the failed lines say why.
    """  # noqa: D301 - click wants the backspace character itself
    from inference.networks.modelcheck import check_model

    logs.configure("ERROR")
    console = Console(stderr=True)
    with console.status("checking"):
        report = check_model(file, manifest, provider, lambda: _sample(series))
    if as_json:
        steps = [asdict(step) for step in report.steps]
        click.echo(json.dumps({"passed": report.passed, "steps": steps}, indent=2))
    else:
        for step in report.steps:
            mark = "ok  " if step.passed else "FAIL"
            say(f"{mark}  {step.name + ':':<10} {step.message}")
    if not report.passed:
        raise click.exceptions.Exit(1)


def _sample(series: Path | None) -> Sample:
    return _series_sample(series) if series else _phantom_sample()


def _phantom_sample() -> Sample:
    from inference.networks.modelcheck import known_sample
    from phantom import make_thorax, sample_spec

    sample: Sample = known_sample(make_thorax(sample_spec()))
    return sample


def _series_sample(folder: Path) -> Sample:
    """Read the one series of a folder; the shipped network finds its lungs."""
    from inference.loading.loader import LoadingPolicy, load
    from inference.networks.modelcheck import found_sample
    from inference.networks.session import load_models
    from rales.cli.inputs import gathered, scanned

    with gathered([folder]) as files:
        found = scanned(files).series
        if len(found) != 1:
            raise RalesError(f"{folder} holds {len(found)} CT series; one is needed")
        volume = load(found[0], LoadingPolicy())
    return found_sample(volume, load_models(providers=("CPU",)).lungs)
