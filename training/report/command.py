"""``python -m training report``."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from inference.networks.session import OnnxModel
from training.defaults import SHIPPED_MODELS, SPLIT, TEST_PHANTOMS, load_pair
from training.options import chest_option, file, folder, models_option, slices_option

if TYPE_CHECKING:
    from phantom import PhantomSpec
    from training.chests import LabelledChest
    from training.data import SliceSet
    from training.report.records import ModelRecord, RunRecord
    from training.robustness.records import RobustnessRecord

_PACKAGES = ("rales", "onnxruntime", "numpy", "scipy", "opencv-python-headless")

_FEW = click.IntRange(min=0)


@click.command()
@slices_option
@click.option(
    "--split",
    default="validation",
    show_default=True,
    type=click.Choice(["validation", "train", "all"]),
    help="Which part of the slices.",
)
@chest_option
@click.option("--series", multiple=True, type=folder, help="A real series; may be repeated.")
@click.option("--covid-hu", type=folder, help="Folder of single DICOM slices.")
@click.option("--phantoms", type=_FEW, help="Only this many phantoms, and as many plain chests.")
@click.option(
    "--seeds",
    type=_FEW,
    help="Only this many synthetic scans of each real chest (and kind of opacity).",
)
@click.option(
    "--robustness",
    "table",
    type=file,
    help="The table of `robustness --json` for the same models.",
)
@models_option
@click.option("--threads", default=0, help="Threads of ONNX Runtime; 0 takes all cores.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def report(
    slices: Path,
    split: str,
    chests: tuple[Path, ...],
    series: tuple[Path, ...],
    covid_hu: Path | None,
    phantoms: int | None,
    seeds: int | None,
    table: Path | None,
    models: Path | None,
    threads: int,
    out: Path,
) -> None:
    """Measure the ONNX models on all given data; write report.md, report.json and figures.

    Everything takes half an hour or more; `--phantoms 0 --seeds 1` leaves a minute or two.
    """
    from training.report import measure as measuring  # noqa: PLC0415 - all of it is slow
    from training.report.painted import SCANS  # noqa: PLC0415
    from training.report.write import write_report  # noqa: PLC0415

    lungs, lesions = load_pair(models, threads)
    robustness = _robustness(table, (lungs, lesions)) if table else None
    scope = measuring.ReportScope(
        slices=_slices(slices, split),
        chests=_chests(chests),
        painted=SCANS if seeds is None else min(seeds, SCANS),
        phantoms=_phantoms(phantoms),
        plain=_seeds(phantoms),
        series=series,
        seeds={source: known[:seeds] for source, known in measuring.SEEDS.items()},
        singles=tuple(sorted(covid_hu.rglob("*.dcm"))) if covid_hu else (),
    )
    with _telling() as tell:
        measured = measuring.measure(scope, lungs, lesions, tell)
    provenance = _provenance(
        slices, split, (lungs, lesions), models or SHIPPED_MODELS, measured.seconds
    )
    click.echo(write_report(out, measured, provenance, robustness))


def _robustness(path: Path, models: tuple[OnnxModel, OnnxModel]) -> RobustnessRecord:
    from training.robustness.records import read_record  # noqa: PLC0415

    try:
        record = read_record(path)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if record.models != tuple(model.identity.digest for model in models):
        raise click.ClickException(f"{path.name} is a robustness table of other models")
    return record


def _slices(path: Path, split: str) -> SliceSet:
    from training.data import load_slices, load_split  # noqa: PLC0415

    data = load_slices(path)
    if split != "all":
        data = data.select(load_split(SPLIT)[split])
    if not len(data.volumes):
        raise click.ClickException(f"{path.name} has no slice of the {split} part")
    return data


def _chests(places: tuple[Path, ...]) -> tuple[LabelledChest, ...]:
    from training.chests import load_chests  # noqa: PLC0415
    from training.real_labels.split import known_chests  # noqa: PLC0415

    chests, known = tuple(load_chests(places)), known_chests()
    unknown = [chest.name for chest in chests if chest.name not in known]
    if unknown:
        raise click.ClickException(
            f"--chest: training/splits/chest-hu.json does not name {', '.join(unknown)}; "
            f"rename the file or add the series. It names {', '.join(known)}"
        )
    return chests


def _phantoms(most: int | None) -> tuple[PhantomSpec, ...]:
    from training.phantoms import random_spec  # noqa: PLC0415

    return tuple(random_spec(seed, lesions=seed % 3 != 0) for seed in _seeds(most))


def _seeds(most: int | None) -> tuple[int, ...]:
    return tuple(TEST_PHANTOMS[:most])


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Show the progress on stderr: a changing line on a terminal, else line by line."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: console.print(line, highlight=False)
        return
    with console.status("") as status:
        yield status.update


def _provenance(
    slices: Path,
    split: str,
    models: tuple[OnnxModel, OnnxModel],
    folder: Path,
    seconds: dict[str, float],
) -> RunRecord:
    from training.report.records import RunRecord  # noqa: PLC0415

    versions = {"Python": platform.python_version()}
    return RunRecord(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=_command(sys.argv[1:]),
        versions=versions | {name: version(name) for name in _PACKAGES},
        cores=os.cpu_count() or 1,
        models=tuple(_record(model, folder) for model in models),
        slices_part=split,
        slices_sha256=hashlib.sha256(slices.read_bytes()).hexdigest(),
        seconds=seconds,
    )


def _command(words: list[str]) -> str:
    """Return the command line with paths outside the working folder cut to their names."""
    away = (os.sep, os.pardir)
    shown = [Path(word).name if word.startswith(away) else word for word in words]
    return " ".join(["python -m training", *shown])


def _record(model: OnnxModel, folder: Path) -> ModelRecord:
    from training.report.records import ModelRecord  # noqa: PLC0415

    manifest = model.manifest
    return ModelRecord(
        task=manifest.task,
        name=manifest.name,
        version=manifest.version,
        sha256=manifest.sha256,
        megabytes=(folder / manifest.file).stat().st_size / 1e6,
    )
