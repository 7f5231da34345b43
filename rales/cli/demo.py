"""``rales demo``: the whole path from C-STORE to PACS on this machine."""

from __future__ import annotations

from pathlib import Path

import click

_FILES = (
    ("overlay.png", "lungs and lesions drawn into the images: open this first"),
    ("sr.txt", "the report as text"),
    ("seg.dcm", "the DICOM SEG as the PACS stored it"),
    ("sr.dcm", "the DICOM SR as the PACS stored it"),
    ("findings.json", "the measurements"),
)


@click.command()
@click.option(
    "--series",
    type=click.Path(exists=True, path_type=Path),
    help="A directory with one chest CT series. Default: a generated thorax phantom.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo/out"),
    show_default=True,
    help="The directory for the results. Its previous content is replaced.",
)
def demo(series: Path | None, out: Path) -> None:
    """Start the node and a PACS on this machine, send a series, and show the results.

    The PACS is Orthanc if it is installed, otherwise the storage SCP of pynetdicom. Both listen
    on this machine only and stop when the command ends.

    \b
    Examples:
      rales demo
      rales demo --series /path/to/dicom --out results
    """  # noqa: D301 - click wants the backspace character itself
    from rich.console import Console
    from rich.text import Text

    from rales.cli.output import say, table
    from rales.demo.run import run_demo

    console = Console()
    result = run_demo(series, out, lambda line: say(f"- {line}"))
    shown = table("step", "seconds")
    shown.columns[1].justify = "right"
    for step, seconds in result.seconds.items():
        shown.add_row(step, f"{seconds:.2f}")
    console.print(shown)
    console.print((out / "sr.txt").read_text(encoding="utf-8"), highlight=False, markup=False)
    if result.overlap is not None:
        console.print(f"lesion overlap with the phantom's truth (Dice): {result.overlap:.3f}")
    for name, meaning in _FILES:
        console.print(Text(f"{out / name}  ").append(meaning, "dim"))
