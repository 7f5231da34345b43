"""``rales model``: checks a network against its manifest, writes its self-test, times it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rales.cli.options import json_option
from rales.cli.output import say

if TYPE_CHECKING:
    from inference.networks.modelcheck import ModelReport, TrialScan

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_MANIFEST_HELP = """\b
A manifest of a 2D network with three input slices (docs/models.md explains all keys,
and 3D networks):
  name = "my-lesions"
  version = "1"
  task = "lesions"                 # or "lungs"
  file = "lesions.onnx"
  sha256 = "..."                   # if it is wrong, this command prints the right one
  licence = "..."
  classes = ["background", "ground-glass", "consolidation"]
  activation = "softmax"           # or "sigmoid"; "none": the output is probabilities
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

To use the network, put lesions.onnx and lesions.toml into one directory with lungs.onnx and
lungs.toml, and name the directory in the configuration file: [analysis] models_dir = "...".
"""
_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group("model")
def model_group() -> None:
    """Check a network of your own, write its self-test; docs/models.md explains the manifest."""


@model_group.command("check", epilog=_MANIFEST_HELP)
@click.argument("file", type=_FILE)
@click.option("--manifest", required=True, type=_FILE, help="The TOML file that describes FILE.")
@click.option(
    "--series",
    type=_DIRECTORY,
    help="Run the network on the chest CT series in this directory. Default: a thorax phantom.",
)
@click.option(
    "--provider",
    type=click.Choice(["CPU", "CUDA", "TensorRT"]),
    default="CPU",
    show_default=True,
    help="The ONNX Runtime execution provider.",
)
@json_option
def model_check(
    *, file: Path, manifest: Path, series: Path | None, provider: str, as_json: bool
) -> None:
    """Check the ONNX network FILE against its manifest, and run it on a chest CT series.

    \b
    Example:
      rales model check lesions.onnx --manifest lesions.toml --series /path/to/dicom

    Exit status 0: the network is usable. 1: it is not, and the failed lines say why.
    """  # noqa: D301 - click wants the backspace character itself
    from rich.console import Console

    from inference.networks.modelcheck import check_model
    from rales.cli import logs

    logs.configure("ERROR")
    with Console(stderr=True).status("checking"):
        report = check_model(file, manifest, provider, lambda: _sample(series))
    _print(report, as_json=as_json)
    if not report.passed:
        raise click.exceptions.Exit(1)


@model_group.command("reference")
@click.argument("manifest", type=_FILE)
def model_reference(manifest: Path) -> None:
    """Write the self-test of the networks that MANIFEST names into it.

    Runs each variant on the CPU of this machine. Whenever the networks are loaded, on any
    provider, their outputs are compared with these. Look at the result of rales model check
    first: a wrong output becomes the reference too.

    \b
    Example:
      rales model reference lesions.toml
    """  # noqa: D301 - click wants the backspace character itself
    from inference.networks.references import write_references
    from rales.cli import logs

    logs.configure("ERROR")
    for reference in write_references(manifest):
        say(
            f"{reference.variant:<9} {100 * reference.marked:.1f} % of the compared probabilities "
            f"are 0.5 or more; largest difference from the original "
            f"{reference.from_original:.3f}, tolerance {reference.tolerance:g}"
        )


@model_group.command("bench")
@click.argument("manifest", type=_FILE)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Threads of a network; 0: one for each core.",
)
def model_bench(manifest: Path, threads: int) -> None:
    """Time the networks that MANIFEST names on this machine's CPU; print a Markdown table.

    Compares ONNX Runtime with OpenVINO where the latter is installed (pip install openvino).
    Rales itself runs networks in ONNX Runtime.

    \b
    Example:
      rales model bench lesions.toml --threads 2
    """  # noqa: D301 - click wants the backspace character itself
    from inference.networks.bench import bench
    from rales.cli import logs

    logs.configure("ERROR")
    say("| Network | Engine | s / 100 images | CPU s / 100 images | largest difference |")
    say("|---|---|---|---|---|")
    for row in bench(manifest, threads):
        say(
            f"| {row.network} | {row.engine} | {row.seconds:.2f} | {row.cpu_seconds:.2f} "
            f"| {row.difference:.3f} |"
        )


def _print(report: ModelReport, *, as_json: bool) -> None:
    if as_json:
        steps = [asdict(step) for step in report.steps]
        click.echo(json.dumps({"passed": report.passed, "steps": steps}, indent=2))
        return
    for step in report.steps:
        mark = "ok  " if step.passed else "FAIL"
        say(f"{mark}  {step.name + ':':<10} {step.message}")


def _sample(series: Path | None) -> TrialScan:
    """Return the series to run the network on."""
    if series is not None:
        return _series_sample(series)
    from inference.networks.modelcheck import phantom_scan
    from phantom import make_thorax, sample_spec

    return phantom_scan(make_thorax(sample_spec()))


def _series_sample(directory: Path) -> TrialScan:
    """Load the series in a directory; the shipped network segments its lungs.

    Raises:
        RalesError: The directory does not hold exactly one CT series.
    """
    from chestct.errors import RalesError
    from chestct.orientation import canonical
    from inference.loading.loader import LoadingPolicy, load
    from inference.networks.modelcheck import real_scan
    from inference.networks.session import load_models
    from rales.cli.inputs import input_files, scan_inputs

    with input_files([directory]) as files:
        series = scan_inputs(files).series
        if len(series) != 1:
            raise RalesError(f"{directory} holds {len(series)} CT series, but must hold exactly 1")
        volume = canonical(load(series[0], LoadingPolicy()))
    return real_scan(volume, load_models(providers=("CPU",)).lungs)
