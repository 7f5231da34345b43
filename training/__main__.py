"""``python -m training``: train, export and evaluate the networks."""

from __future__ import annotations

import click

from training.commands import choose_presence, evaluate, export
from training.learn import restorer, train
from training.readings import read
from training.real_labels.command import label_chest
from training.report import report
from training.robustness.command import robustness
from training.sources.command import prepare, split
from training.variants import variants


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train the networks of Rales, export them to ONNX, and measure the shipped models.

    \b
    The whole way, from the data of docs/model/data.md (... is python -m training):
      ... label-chest chest-hu/* --out runs/chests
      ... restorer chest-hu/* --out runs/restorer.pt
      ... train lungs --slices slices.npz --chest runs/chests/train
            --watch runs/chests/selection --restorer runs/restorer.pt --start lungs.onnx
      ... train lesions --slices slices.npz (the same options, --start lesions.onnx)
      ... export runs/lungs runs/lesions --version dev --out runs/models
      ... choose-presence --slices slices.npz --chest runs/chests/selection
            --models runs/models --write
      ... evaluate --slices slices.npz --split validation --models runs/models
      ... report --help
    make train SLICES=slices.npz CHESTS="chest-hu/*" runs all but the report.
    ... read FOLDER and ... robustness FOLDER run the shipped models on series.
    """  # noqa: D301 - click wants the backspace character itself


for command in (
    restorer,
    train,
    export,
    choose_presence,
    evaluate,
    read,
    robustness,
    variants,
    report,
    prepare,
    split,
    label_chest,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
