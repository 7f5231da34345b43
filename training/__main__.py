"""``python -m training``: train, export and evaluate the networks."""

from __future__ import annotations

import click

from training.commands import choose_presence, evaluate, export, restorer, train
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
    The whole way, from the slices of docs/model/data.md (... is python -m training):
      ... label-chest FOLDER --out chest.npz
      ... restorer chest-hu/*
      ... train lungs --slices slices.npz --chest chest.npz --restorer runs/restorer.pt
      ... train lesions --slices slices.npz --chest chest.npz --restorer runs/restorer.pt
      ... export runs/lungs runs/lesions --version dev --out runs/models
      ... choose-presence --slices slices.npz --series chest-ct --models runs/models --write
      ... evaluate --slices slices.npz --split validation --models runs/models
      ... report --help
      ... read FOLDER
      ... robustness FOLDER
    make train SLICES=slices.npz SERIES=chest-ct runs all but the report.
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
