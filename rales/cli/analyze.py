"""``rales analyze``: the main job on files, without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from chestct.errors import RalesError, SeriesRejected
from chestct.results import Extra
from chestct.text import printable
from rales import config, logs
from rales.clock import utc_now
from rales.sections import Config

if TYPE_CHECKING:
    from chestct.series import Series
    from rales.pipeline import AnalysisSettings
    from rales.results import AnalysisReport

_LONGEST = 500
"""Characters of a name or a reason; both may quote what came from outside."""
_STAGES = ("load", "lungs", "presence", "lesions", "measure", "write")


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the results go; made when missing.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Take eligibility and analysis settings from this file.",
)
@click.option(
    "--extra",
    "extras",
    multiple=True,
    type=click.Choice([str(extra) for extra in Extra]),
    help="Also make this one, for viewers that show no SEG; may be given several times.",
)
def analyze(
    inputs: tuple[Path, ...], out: Path, config_path: Path | None, extras: tuple[str, ...]
) -> None:
    """Analyse the chest CT series in INPUTS and write the results to OUT.

    INPUTS are folders, DICOM files, ZIP archives or text files that list paths. Each series
    gives seg.dcm, sr.dcm, findings.json and overlay.png: in OUT when there is one series,
    in a folder per series when there are several.

    Exit status 0: at least one series was analysed. 1: none was, and the reasons are shown.
    """
    from rales.inputs import gathered, scan  # noqa: PLC0415 - imports that --help need not wait for
    from rales.pipeline import settings_of  # noqa: PLC0415

    logs.configure("ERROR")
    settings = settings_of(config.load(config_path) if config_path else Config())
    wanted = {*settings.extras, *map(Extra, extras)}
    settings = replace(settings, extras=tuple(extra for extra in Extra if extra in wanted))
    console = Console(stderr=True)
    with gathered(inputs) as files:
        found = scan(files)
        for path, why in found.skipped:
            console.print(
                Text(f"skipped {printable(str(path), _LONGEST)}: {printable(why, _LONGEST)}", "dim")
            )
        analysed = [
            _one(series, settings, _folder(out, series, len(found.series)), console)
            for series in found.series
        ]
    if not any(analysed):
        raise click.ClickException("no series was analysed")


def _folder(out: Path, series: Series, count: int) -> Path:
    return out if count == 1 else out / series.series_uid


def _one(series: Series, settings: AnalysisSettings, folder: Path, console: Console) -> bool:
    """Analyse one series with a progress bar; tell whether there are results."""
    from rales.pipeline import AnalysisRequest, run  # noqa: PLC0415

    request = AnalysisRequest(
        series=series, settings=settings, folder=folder, predecessor=None, created=utc_now()
    )
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    console.print(Text(f"series {series.series_uid}: {len(series.instances)} images"))
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("load", total=len(_STAGES))
            report = run(
                request,
                lambda stage, part: bar.update(
                    task, description=stage, completed=_STAGES.index(stage) + part
                ),
            )
    except SeriesRejected as rejection:
        _say(console, "rejected", "yellow", f" ({rejection.reason}): {rejection}")
        return False
    except RalesError as error:
        _say(console, "failed", "red", f": {error}")
        return False
    _tell(report, folder, console)
    return True


def _tell(report: AnalysisReport, folder: Path, console: Console) -> None:
    findings = report.findings
    total = findings.total
    said = (
        f"opacities in {total.involved_percent:.1f} % of the lungs "
        f"({total.lesion_ml:.0f} ml, {len(findings.lesions)} lesions, {findings.severity})"
        if findings.lesions
        else "no lesion found"
    )
    console.print(Text(f"  {said}; lungs {total.volume_ml:.0f} ml"))
    for flag in findings.quality_flags:
        _say(console, "note", "yellow", f": {flag}")
    for extra in report.left_out:
        _say(console, "note", "yellow", f": the {extra} could not be made")
    times = ", ".join(f"{stage} {value:.2f} s" for stage, value in report.seconds.items())
    console.print(Text(f"  {times} on {report.provider}", "dim"))
    console.print(Text(f"  results in {printable(str(folder), _LONGEST)}"))


def _say(console: Console, what: str, colour: str, more: str) -> None:
    """Print a coloured word and what follows; markup in that is text like any other."""
    console.print(Text("  ").append(what, colour).append(printable(more, _LONGEST)))
