"""``rales conformance``: the DICOM Conformance Statement of this version."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the statement to this file instead of printing it.",
)
def conformance(out: Path | None) -> None:
    """Print the DICOM Conformance Statement (PS3.2) of this version as Markdown.

    Its tables of contexts, statuses, settings and attributes are made from the code and from
    results that are written for the purpose. It takes some seconds.
    """
    from rales.conformance.document import statement

    text = statement()
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
