"""``python -m phantom --out DIR``: write a phantom series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from phantom import healthy_spec, make_thorax, sample_spec, write_series


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--healthy", is_flag=True, help="Without lesions.")
@click.option("--seed", default=1, show_default=True, help="Another seed is another patient.")
def main(out: Path, healthy: bool, seed: int) -> None:  # noqa: FBT001 - click's way
    """Write the sample series, a thorax phantom of 100 CT slices, to OUT."""
    spec = replace(healthy_spec() if healthy else sample_spec(), seed=seed)
    thorax = make_thorax(spec)
    paths = write_series(thorax, out)
    lungs = thorax.volume_ml(thorax.left_lung | thorax.right_lung)
    lesions = thorax.volume_ml(thorax.lesion > 0)
    click.echo(f"{len(paths)} slices in {out}: lungs {lungs:.0f} ml, lesions {lesions:.1f} ml")


if __name__ == "__main__":
    main()
