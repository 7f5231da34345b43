"""``rales analyze``: the main job on files, without a network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from chestct.errors import RalesError, SeriesRejected
from chestct.results import Extra
from chestct.series import contested_uids
from chestct.text import printable
from chestct.uids import Uid
from chestct.verdict import verdict
from rales.cli import logs
from rales.config import file as config
from rales.config.sections import Config
from rales.runtime.clock import utc_now

if TYPE_CHECKING:
    from chestct.series import Series
    from rales.analysis.pipeline import AnalysisSettings
    from rales.state.results import AnalysisReport

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
    from rales.analysis.pipeline import settings_of
    from rales.cli.inputs import gathered, scanned

    logs.configure("ERROR")
    settings = settings_of(config.load(config_path) if config_path else Config())
    wanted = {*settings.extras, *map(Extra, extras)}
    settings = replace(settings, extras=tuple(extra for extra in Extra if extra in wanted))
    console = Console(stderr=True)
    with gathered(inputs) as files:
        found = scanned(files)
        left_out = [*files.skipped, *((files.name_of(path), why) for path, why in found.skipped)]
        for name, why in left_out:
            console.print(
                Text(f"skipped {printable(name, _LONGEST)}: {printable(why, _LONGEST)}", "dim")
            )
        names = {uid: files.name_of(path) for uid, path in found.files.items()}
        analysed = [
            _one(
                series,
                settings,
                _folder(out, series, len(found.series)),
                console,
                _Images(names, found.contested),
            )
            for series in found.series
        ]
    if not any(analysed):
        raise click.ClickException("no series was analysed")


def _folder(out: Path, series: Series, count: int) -> Path:
    return out if count == 1 else out / series.series_uid


@dataclass(frozen=True, slots=True)
class _Images:
    """Which file an image came from, and how many came under one SOP Instance UID."""

    names: Mapping[Uid, str]
    contested: Mapping[Uid, int]

    def contested_in(self, series: Series) -> str:
        uids = {one.sop_instance_uid for one in series.instances}
        return contested_uids({uid: n for uid, n in self.contested.items() if uid in uids})

    def named_in(self, message: str) -> list[str]:
        """Name the files of the images that a message names by their UIDs."""
        uids = dict.fromkeys(re.findall(r"[0-9.]{3,}[0-9]", message))
        return [f"{uid} is {self.names[Uid(uid)]}" for uid in uids if uid in self.names]


def _one(
    series: Series, settings: AnalysisSettings, folder: Path, console: Console, images: _Images
) -> bool:
    """Analyse one series with a progress bar; tell whether there are results."""
    from rales.analysis.pipeline import AnalysisRequest, run

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
    if contested := images.contested_in(series):
        _say(console, "note", "yellow", f": {contested}")
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
        for line in images.named_in(str(rejection)):
            console.print(Text(f"    {printable(line, _LONGEST)}"))
        return False
    except RalesError as error:
        _say(console, "failed", "red", f": {error}")
        return False
    except Exception as error:  # noqa: BLE001 - one series must not end the others
        _say(console, "failed", "red", f": {type(error).__name__}: {error}")
        return False
    _tell(report, folder, console)
    return True


def _tell(report: AnalysisReport, folder: Path, console: Console) -> None:
    findings = report.findings
    said, lungs = verdict(findings), findings.covers.words.removeprefix("the ")
    if findings.lesions:
        severity = f", {findings.severity}" if findings.severity else ""
        count = len(findings.lesions)
        said += f" ({findings.covered.lesion_ml:.0f} ml, {count} lesions{severity})"
    console.print(Text(f"  {said}; {lungs} {findings.covered.volume_ml:.0f} ml"))
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
