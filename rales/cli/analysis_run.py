"""Analyse the series in a set of files, with progress and results on the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from chestct.errors import RalesError, SeriesRejected
from chestct.series import Series, contested_uids
from chestct.text import printable
from chestct.uids import Uid
from chestct.verdict import scope, verdict
from rales.analysis.pipeline import AnalysisRequest, run
from rales.analysis.settings import AnalysisSettings
from rales.cli.inputs import InputFiles
from rales.cli.output import LONGEST
from rales.cli.scanning import ScanResult
from rales.runtime.clock import utc_now
from rales.state.results import AnalysisReport

_STAGES = ("load", "lungs", "presence", "lesions", "measure", "write")


class AnalysisRun:
    """Analyses each series that was found in the input files.

    Args:
        settings: How to analyse.
        files: The input files.
        found: The series in these files.
    """

    def __init__(self, settings: AnalysisSettings, files: InputFiles, found: ScanResult) -> None:
        self._settings = settings
        self._files = files
        self._found = found
        self._console = Console(stderr=True)

    def print_skipped(self) -> None:
        """Print each input that was skipped, with the reason."""
        unusable = ((self._files.name_of(path), reason) for path, reason in self._found.skipped)
        for name, reason in (*self._files.skipped, *unusable):
            self._print("skipped", "dim", f" {name}: {reason}", indent="")

    def analyse_all(self, out: Path) -> int:
        """Analyse every series and write the results below ``out``; return how many succeeded."""
        series = self._found.series
        single = len(series) == 1
        return sum(self._analyse(each, out if single else out / each.series_uid) for each in series)

    def _analyse(self, series: Series, directory: Path) -> bool:
        """Analyse one series; return whether it has results."""
        self._console.print(Text(f"series {series.series_uid}: {len(series.instances)} images"))
        if contested := self._contested(series):
            self._print("note", "yellow", f": {contested}")
        request = AnalysisRequest(
            series=series,
            settings=self._settings,
            folder=directory,
            created=utc_now(),
        )
        try:
            with self._progress() as on_progress:
                report = run(request, on_progress)
        except SeriesRejected as rejection:
            self._print("rejected", "yellow", f" ({rejection.reason}): {rejection}")
            self._print_files_named_in(str(rejection))
            return False
        except RalesError as error:
            self._print("failed", "red", f": {error}")
            return False
        except Exception as error:  # noqa: BLE001 - go on with the next series
            self._print("failed", "red", f": {type(error).__name__}: {error}")
            return False
        self._print_report(report, directory)
        return True

    @contextmanager
    def _progress(self) -> Iterator[Callable[[str, float], None]]:
        """Show a progress bar; yield the function that moves it."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("load", total=len(_STAGES))
            yield lambda stage, part: bar.update(
                task, description=stage, completed=_STAGES.index(stage) + part
            )

    def _contested(self, series: Series) -> str:
        """Return a note on images with different content under one SOP Instance UID."""
        uids = {instance.sop_instance_uid for instance in series.instances}
        contested = self._found.contested.items()
        return contested_uids({uid: count for uid, count in contested if uid in uids})

    def _print_files_named_in(self, message: str) -> None:
        """Print the file of each image whose SOP Instance UID is in the message."""
        for uid in dict.fromkeys(map(Uid, re.findall(r"[0-9.]{3,}[0-9]", message))):
            if uid in self._found.files:
                name = self._files.name_of(self._found.files[uid])
                self._console.print(Text(printable(f"    {uid} is {name}", LONGEST)))

    def _print_report(self, report: AnalysisReport, directory: Path) -> None:
        findings = report.findings
        conclusion, lungs = verdict(findings), findings.covers.words.removeprefix("the ")
        if findings.lesions:
            count = len(findings.lesions)
            conclusion += f" ({findings.covered.lesion_ml:.0f} ml, {count} lesions)"
        self._console.print(Text(f"  {conclusion}; {lungs} {findings.covered.volume_ml:.0f} ml"))
        self._console.print(Text(f"  {scope(findings)}"))
        for flag in findings.quality_flags:
            self._print("note", "yellow", f": {flag}")
        for extra in report.left_out:
            self._print("note", "yellow", f": could not write {extra}")
        times = ", ".join(f"{stage} {value:.2f} s" for stage, value in report.seconds.items())
        self._console.print(Text(f"  {times} on {report.provider}", "dim"))
        self._console.print(Text(f"  results in {printable(str(directory), LONGEST)}"))

    def _print(self, word: str, colour: str, rest: str, *, indent: str = "  ") -> None:
        """Print a coloured word and plain text; markup in the text is shown as it is."""
        self._console.print(Text(indent).append(word, colour).append(printable(rest, LONGEST)))
