"""``rales analyze``: analyse files without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chestct.results import Extra

if TYPE_CHECKING:
    from rales.analysis.settings import AnalysisSettings


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory for the results; created if missing.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Use the settings of [eligibility] and [analysis] in this file.",
)
@click.option(
    "--extra",
    "extras",
    multiple=True,
    type=click.Choice([str(extra) for extra in Extra]),
    help="Also write this object, for viewers that do not show SEG. Repeat the option for "
    "several objects.",
)
def analyze(
    inputs: tuple[Path, ...], out: Path, config_path: Path | None, extras: tuple[str, ...]
) -> None:
    """Analyse the chest CT series in INPUTS and write the results to OUT.

    INPUTS are directories, DICOM files, ZIP archives or text files with one path per line. Each
    series gives seg.dcm, sr.dcm, findings.json and overlay.png: in OUT if there is one series,
    in a subdirectory per series if there are several.

    \b
    Examples:
      rales analyze /path/to/dicom --out results
      rales analyze study.zip --out results --extra secondary-capture

    Exit status 0: at least one series was analysed. 1: none was, and the reasons are printed.
    """  # noqa: D301 - click wants the backspace character itself
    from rales.cli import logs
    from rales.cli.analysis_run import AnalysisRun
    from rales.cli.inputs import input_files, scan_inputs

    logs.configure("ERROR")
    settings = _settings(config_path, {Extra(extra) for extra in extras})
    with input_files(inputs) as files:
        run = AnalysisRun(settings, files, scan_inputs(files))
        run.print_skipped()
        analysed = run.analyse_all(out)
    if not analysed:
        raise click.ClickException("no series was analysed")


def _settings(config_path: Path | None, extras: set[Extra]) -> AnalysisSettings:
    """Return the settings of the configuration file, or the defaults, with more extras."""
    from dataclasses import replace

    from rales.analysis.settings import settings_of
    from rales.config import file as config
    from rales.config.sections import Config

    settings = settings_of(config.load(config_path) if config_path else Config())
    extras |= set(settings.extras)
    return replace(settings, extras=tuple(extra for extra in Extra if extra in extras))
