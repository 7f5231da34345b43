"""Makes and measures 16-bit float variants for GPUs and 8-bit integer variants for CPUs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click
import numpy as np
from numpy.typing import NDArray

from chestct.errors import ModelError
from inference.networks.manifest import PatchContract, read_manifest
from inference.networks.references import write_references
from inference.networks.session import OnnxModel, load_model
from training.chests import chest_slices
from training.data import SliceSet, join, load_slices, load_split
from training.defaults import SPLIT
from training.evaluate import predict_slices
from training.metrics import dice
from training.options import chest_option, folder, slices_option, watch_option
from training.phantoms import phantom_slices
from training.real_labels.split import TO_LEARN, TO_WATCH, chests_of

MOST_LOSS = 0.005
"""A variant that loses more Dice than this is not accepted."""
MOST_TIME = 0.95
"""An 8-bit network must take less than this part of the time."""
CALIBRATION = 96
"""Slices that calibrate the range of each tensor."""
_PHANTOMS = range(1, 4)
_SCANS = range(1, 5)
_WATCHED_SCANS = range(1001, 1003)
_ROUNDS = 7
_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantScore:
    """One network in one arithmetic.

    Attributes:
        dice: Mean over the patients.
        loss: Of the Dice, against 32-bit floats.
        milliseconds: Median for a batch of eight slices on the CPU, one thread.
        ratio: Of the milliseconds, to 32-bit floats in the same run, in turns with them.
    """

    task: str
    variant: str
    megabytes: float
    dice: float
    loss: float
    milliseconds: float
    ratio: float

    @property
    def accepted(self) -> bool:
        """Whether the variant loses little Dice and, with 8 bits, is faster on the CPU.

        The gain of 16 bits on a GPU is not measured here.
        """
        return self.loss <= MOST_LOSS and (self.variant != "int8" or self.ratio < MOST_TIME)


def calibration_images(
    model: OnnxModel, data: SliceSet, random: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Return inputs of single slices, with their neighbours.

    Raises:
        ModelError: It is a 3D network, which needs a volume with known slice spacing.
    """
    contract = model.manifest.input
    if isinstance(contract, PatchContract):
        raise ModelError(
            f"{model.manifest.name} is a 3D network: it cannot read slices of unknown spacing"
        )
    count = min(CALIBRATION, len(data.volumes))
    chosen = np.sort(random.choice(len(data.volumes), count, replace=False))
    reach = contract.context // 2
    planes = [data.images[data.neighbour(chosen, step)] for step in range(-reach, reach + 1)]
    stacked = np.stack(planes, axis=1).astype(np.float32) / np.float32(255)
    return [image[None] for image in stacked]


def add_to_manifest(manifest: Path, files: dict[str, Path]) -> None:
    """Write the variants, whose files lie beside the manifest, into it; drop other variants.

    References of the self-test are dropped too.

    Raises:
        ModelError: The manifest is missing or breaks its contract.
    """
    read_manifest(manifest)
    tables = re.split(r"^(?=\[)", manifest.read_text(encoding="utf-8"), flags=re.MULTILINE)
    kept = [table for table in tables if not table.startswith(("[variants.", "[selftest."))]
    text = "".join(kept).rstrip() + "\n"
    for variant, file in files.items():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        text += f'\n[variants.{variant}]\nfile = "{file.name}"\nsha256 = "{digest}"\n'
    manifest.write_text(text, encoding="utf-8")
    read_manifest(manifest)


def measure(task: str, models: dict[str, OnnxModel], data: SliceSet) -> list[VariantScore]:
    """Score variants of one network on validation slices; ``fp32`` is the first of them."""
    seconds = _seconds(models, data)
    dices = {name: _dice(model, data, task) for name, model in models.items()}
    return [
        VariantScore(
            task=task,
            variant=name,
            megabytes=round(model.size / 1e6, 2),
            dice=round(dices[name], 4),
            loss=round(dices["fp32"] - dices[name], 4),
            milliseconds=round(1000 * seconds[name], 1),
            ratio=round(seconds[name] / seconds["fp32"], 2),
        )
        for name, model in models.items()
    ]


def _dice(model: OnnxModel, data: SliceSet, task: str) -> float:
    found = predict_slices(model, data)
    truth = data.lungs > 0 if task == "lungs" else data.lesions
    volumes = np.unique(data.volumes)
    chosen = [data.volumes == volume for volume in volumes]
    return float(np.mean([dice(found[members], truth[members]) for members in chosen]))


def _seconds(models: dict[str, OnnxModel], data: SliceSet) -> dict[str, float]:
    """Return the median seconds of a batch, the variants taking turns."""
    first = data.select([int(data.volumes[0])])
    batch = SliceSet(
        images=first.images[:_BATCH],
        lungs=first.lungs[:_BATCH],
        lesions=first.lesions[:_BATCH],
        volumes=first.volumes[:_BATCH],
        names=first.names,
    )
    spent: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(_ROUNDS + 1):
        for name, model in models.items():
            start = time.perf_counter()
            predict_slices(model, batch)
            spent[name].append(time.perf_counter() - start)
    return {name: float(np.median(times[1:])) for name, times in spent.items()}


def make_variants(
    task: str, models: Path, folder: Path, known: SliceSet, seen: SliceSet
) -> tuple[list[VariantScore], dict[str, Path]]:
    """Write the variants of one network into ``folder``; return their scores and files.

    ``known`` slices calibrate, ``seen`` ones measure.
    """
    from training.quantise import make_fp16, make_int8  # noqa: PLC0415 - needs onnx

    original = load_model(models / f"{task}.toml", provider="CPU", threads=1, variant="")
    source = models / original.manifest.file
    kinds: tuple[Literal["fp16", "int8"], ...] = ("fp16", "int8")
    files: dict[str, Path] = {kind: folder / f"{task}-{kind}.onnx" for kind in kinds}
    make_fp16(source, files["fp16"])
    images = calibration_images(original, known, np.random.default_rng(1))
    make_int8(source, files["int8"], images)
    loaded = {"fp32": original} | {
        kind: OnnxModel(
            original.manifest, files[kind].read_bytes(), provider="CPU", threads=1, variant=kind
        )
        for kind in kinds
    }
    return measure(task, loaded, seen), files


@click.command()
@click.argument("models", type=folder)
@slices_option
@chest_option
@watch_option
@click.option("--write", is_flag=True, help="Put the accepted ones into MODELS.")
@click.option("--json", "as_json", is_flag=True)
def variants(
    models: Path,
    slices: Path,
    chests: tuple[Path, ...],
    watch: tuple[Path, ...],
    write: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Make 16-bit and 8-bit variants of the networks in MODELS, and measure what they cost.

    Calibrated on training slices, phantoms and chests, measured on validation slices and
    chests. A variant is accepted when it loses at most 0.005 of the Dice, and 8 bits only when
    they are faster on this CPU. With --write GPUs take the 16-bit ones from then on, and CPUs
    the 8-bit ones.
    """
    data, split = load_slices(slices), load_split(SPLIT)
    scans = chest_slices(chests_of(chests, TO_LEARN, click.echo), _SCANS)
    known = join([data.select(split["train"]), phantom_slices(_PHANTOMS), scans])
    watched_scans = chest_slices(chests_of(watch, TO_WATCH, click.echo), _WATCHED_SCANS)
    seen = join([data.select(split["validation"]), watched_scans])
    scores: list[VariantScore] = []
    with tempfile.TemporaryDirectory() as place:
        for task in ("lungs", "lesions"):
            measured, files = make_variants(task, models, Path(place), known, seen)
            scores += measured
            if write:
                accepted = [score.variant for score in measured if score.accepted]
                kept = {name: files[name] for name in accepted if name in files}
                shipped = {name: Path(shutil.copy(file, models)) for name, file in kept.items()}
                add_to_manifest(models / f"{task}.toml", shipped)
                write_references(models / f"{task}.toml")
    if as_json:
        rows = [asdict(score) | {"accepted": score.accepted} for score in scores]
        click.echo(json.dumps(rows))
    else:
        _print_scores(scores)


def _print_scores(scores: Sequence[VariantScore]) -> None:
    click.echo("task     variant     MB    Dice    loss  ms/batch  ratio  accepted")
    for score in scores:
        accepted = "yes" if score.accepted else "no"
        click.echo(
            f"{score.task:<8} {score.variant:<8} {score.megabytes:5.2f}  {score.dice:.4f}"
            f"  {score.loss:+.4f}  {score.milliseconds:8.1f}  {score.ratio:5.2f}"
            f"  {'the original' if score.variant == 'fp32' else accepted}"
        )
