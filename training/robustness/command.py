"""``python -m training robustness``: is the reading of a chest the same under perturbations?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from inference.networks.session import load_models
from inference.ports import ModelSet
from training.readings.command import progress_of
from training.readings.reading import Reading, read_series
from training.readings.series import FoundSeries, find_series
from training.robustness.judge import judge, numbers_of
from training.robustness.perturbations import PERTURBATIONS, Perturbation
from training.robustness.records import ChestRecord, ReadNumbers, RowRecord, Verdict, passed
from training.robustness.table import Table

_NAMES = [perturbation.name for perturbation in PERTURBATIONS]
_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=_folder)
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the table here after each row; an existing table of the same models is continued.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(_NAMES),
    help="Only this perturbation; may be repeated.",
)
@click.option("--models", type=_folder, help="Folder of models; default: shipped.")
@click.option("--threads", default=0, help="Threads of ONNX Runtime; 0 takes all cores.")
def robustness(
    folders: tuple[Path, ...],
    path: Path | None,
    only: tuple[str, ...],
    models: Path | None,
    threads: int,
) -> None:
    """Read every CT series in FOLDERS under perturbations and print what changes.

    A row passes if the call is the same, the lungs are within 5 %, and the lesions within 15 %
    (25 % for another kernel); a chest without lesions stays below 1 % involved. Delete the file of
    --json to measure again. docs/model/reading.md describes the perturbations.
    """
    loaded = load_models(models, providers=("CPU",), threads=threads)
    digests = (loaded.lungs.identity.digest, loaded.lesions.identity.digest)
    try:
        table = Table(digests, path)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    wanted = [each for each in PERTURBATIONS if not only or each.name in only]
    with find_series(folders) as files:
        for name, reason in files.unusable:
            click.echo(f"skipped {name}: {reason}", err=True)
        for found in files.series:
            _measure(found, wanted, loaded, table)
    _print_summary(table.record.chests)


def _measure(
    found: FoundSeries, wanted: Sequence[Perturbation], models: ModelSet, table: Table
) -> None:
    """Read a chest under each perturbation that its table lacks."""
    uid, name = str(found.series.series_uid), found.folder.name
    known = table.chest(uid)
    rows = known.rows if known else ()
    for row in rows:
        click.echo(f"{name}: {_line(row)} (of the table)")
    missing = [each for each in wanted if each.name not in {row.perturbation for row in rows}]
    if not missing:
        return
    with progress_of(name) as progress:
        reading = read_series(found.series, models, progress)
    chest = _chest(name, uid, reading, rows)
    table.put(chest)
    click.echo(f"{name}: {_reference(chest)}")
    if reading.analysis is None:
        return
    for perturbation in missing:
        with progress_of(f"{name} {perturbation.name}") as progress:
            row = judge(perturbation, reading, models, progress)
        chest = _with_row(chest, row)
        table.put(chest)
        click.echo(f"{name}: {_line(row)}")


def _chest(name: str, uid: str, reading: Reading, rows: tuple[RowRecord, ...]) -> ChestRecord:
    obstacle = reading.obstacle
    return ChestRecord(
        name=name,
        series_uid=uid,
        reference=numbers_of(reading.analysis) if reading.analysis else None,
        refusal=f"{obstacle.code}: {obstacle.message}" if obstacle else "",
        rows=rows,
    )


def _with_row(chest: ChestRecord, row: RowRecord) -> ChestRecord:
    rows = sorted((*chest.rows, row), key=lambda each: _NAMES.index(each.perturbation))
    return replace(chest, rows=tuple(rows))


def _reference(chest: ChestRecord) -> str:
    if chest.reference is None:
        return f"not read: {chest.refusal}"
    return f"unperturbed    {_numbers(chest.reference, None, None)}"


def _line(row: RowRecord) -> str:
    numbers = _numbers(row.numbers, row.lesion_ratio, row.lung_ratio) if row.numbers else ""
    return f"{row.perturbation:14} {numbers:75} {row.verdict:8} {row.reason}".rstrip()


def _numbers(numbers: ReadNumbers, lesion_ratio: float | None, lung_ratio: float | None) -> str:
    lesion, lung = (
        "       " if ratio is None else f"({ratio:5.2f})" for ratio in (lesion_ratio, lung_ratio)
    )
    return (
        f"{numbers.call:14} {numbers.score:.3f}  {numbers.lesion_ml:7.1f} ml of lesion {lesion}"
        f"  {numbers.lung_ml:5.0f} ml of lung {lung}"
    )


def _print_summary(chests: Sequence[ChestRecord]) -> None:
    for chest in chests:
        done, of = passed(chest.rows)
        click.echo(f"{chest.name}: {done} of {of} rows passed")
    rows = [row for chest in chests for row in chest.rows]
    refused = sum(row.verdict is Verdict.REFUSED for row in rows)
    done, of = passed(rows)
    click.echo(f"all chests: {done} of {of} rows passed, {refused} were refused")
