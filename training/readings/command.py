"""``python -m training read``: the shipped models on every series in some folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from inference.networks.session import load_models
from inference.ports import ModelSet
from training.readings.reading import Call, Reading, read_series
from training.readings.series import FoundSeries, find_series
from training.readings.sheet import write_sheet

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=_folder)
@click.option("--models", type=_folder, help="Folder of models; default: shipped.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write a contact sheet of each series into this folder.",
)
@click.option(
    "--every",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    help="The sheets show every Nth slice.",
)
@click.option("--threads", default=0, help="Threads of ONNX Runtime; 0 takes all cores.")
def read(
    folders: tuple[Path, ...], models: Path | None, out: Path | None, every: int, threads: int
) -> None:
    """Read every CT series in FOLDERS; print one JSON object per series, each on one line.

    A refused series is a line too. Files that cannot be used are named on stderr. The keys are
    in docs/model/reading.md.

    Exit status 0: every file was used, and every series was read or refused. 1: a file could not
    be used, or the reading of a series failed.
    """
    loaded = load_models(models, providers=("CPU",), threads=threads)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    failed = False
    with find_series(folders) as files:
        for name, reason in files.unusable:
            click.echo(f"skipped {name}: {reason}", err=True)
        for found in files.series:
            reading = _read(found, loaded)
            plain = reading.to_dict()
            plain["notes"] = [*found.notes, *plain["notes"]]
            sheet = _write_sheet(out, found, reading, every) if out is not None else None
            _print_line(found, plain, sheet)
            failed = failed or reading.call is Call.FAILED
    if failed or files.unusable:
        raise SystemExit(1)


def _read(found: FoundSeries, models: ModelSet) -> Reading:
    with progress_of(found.folder.name) as progress:
        return read_series(found.series, models, progress)


@contextmanager
def progress_of(name: str) -> Iterator[Callable[[str, float], None]]:
    """Show the stage of a reading on stderr, on a terminal only."""
    with Console(stderr=True).status("") as status:
        yield lambda stage, part: status.update(Text(f"{name}: {stage} {part:.0%}"))


def _write_sheet(out: Path, found: FoundSeries, reading: Reading, every: int) -> str | None:
    """Write the sheet of a series that could be loaded; return its name."""
    if reading.volume is None:
        return None
    name = f"{found.folder.name}-{found.series.series_uid}.png"
    title = f"{found.folder.name}: {reading.call}"
    lesion_map = None
    if reading.analysis is not None:
        lesion_map, covered = reading.analysis.lesion_map, reading.analysis.findings.covered
        title += f", {covered.lesion_ml:.1f} ml of lesion, {covered.volume_ml:.0f} ml of lung"
    if reading.obstacle is not None:
        title += f": {reading.obstacle.message}"
    write_sheet(out / name, reading.volume, lesion_map, title, every=every)
    return name


def _print_line(found: FoundSeries, plain: dict[str, Any], sheet: str | None) -> None:
    line = {"folder": str(found.folder), "series_uid": str(found.series.series_uid), **plain}
    click.echo(json.dumps({**line, "sheet": sheet}, allow_nan=False))
