"""``rales demo``: the main job from end to end on this machine."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chestct.text import printable
from rales.cli.speech import LONGEST, say


@click.command()
@click.option(
    "--series",
    type=click.Path(exists=True, path_type=Path),
    help="A folder with one chest CT series; by default the sample series is made.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo/out"),
    show_default=True,
    help="Where the results go; what was there is replaced.",
)
def demo(series: Path | None, out: Path) -> None:
    """Start Rales and a PACS here, send a series, and show what comes back.

    The PACS is Orthanc where it is installed, else the storage SCP that ships with
    pynetdicom. Everything listens on this machine and ends with the command.
    """
    from rales.demo.run import run_demo

    console = Console()
    result = run_demo(series, out, lambda line: say(f"- {line}"))
    table = Table(box=None, header_style="bold")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for step, value in result.seconds.items():
        table.add_row(step, f"{value:.2f}")
    console.print(table)
    console.print((out / "sr.txt").read_text(encoding="utf-8"), highlight=False, markup=False)
    if result.overlap is not None:
        console.print(f"lesion overlap with the phantom's truth (Dice): {result.overlap:.3f}")
    for name, what in (
        ("overlay.png", "the pictures: open this first"),
        ("sr.txt", "the report as text"),
        ("seg.dcm", "the DICOM SEG, as the PACS stored it"),
        ("sr.dcm", "the DICOM SR, as the PACS stored it"),
        ("findings.json", "the numbers"),
    ):
        console.print(Text(printable(f"{out / name}  ", LONGEST)).append(what, "dim"))
