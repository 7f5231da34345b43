"""The training loop: seeded, resumable, logged."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn

from training.augment import Batch, augment
from training.data import IGNORE, SliceSet
from training.recipes import Recipe
from training.sampling import sample, take


def loss_of(logits: Tensor, batch: Batch, task: str) -> Tensor:
    """Return cross entropy plus soft Dice over the batch."""
    if task == "lesions":
        p, truth = torch.sigmoid(logits[:, 0]), batch.lesions
        entropy = F.binary_cross_entropy_with_logits(logits[:, 0], truth)
        return entropy + _soft_dice_loss(p, truth)
    known = batch.lungs != IGNORE
    truth = torch.where(known, batch.lungs, 0)
    entropy = F.cross_entropy(logits, batch.lungs, ignore_index=IGNORE)
    p = torch.softmax(logits, 1)
    dice = sum(_soft_dice_loss(p[:, k] * known, (truth == k).float() * known) for k in (1, 2))
    return entropy + dice / 2


def _soft_dice_loss(p: Tensor, truth: Tensor) -> Tensor:
    return 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)


@torch.no_grad()
def predict(
    network: nn.Module, recipe: Recipe, data: SliceSet, every: int = 1
) -> NDArray[np.uint8]:
    """Return class labels (n, rows, columns) of every ``every``-th slice, by volume order."""
    network.eval()
    device = next(network.parameters()).device
    chosen = np.arange(0, len(data.volumes), every)
    found = []
    for start in range(0, len(chosen), recipe.batch):
        part = chosen[start : start + recipe.batch]
        batch = take(data, recipe, part, np.ones(len(part), dtype=np.int64))
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(batch.images.to(device)).float()
        labels = logits.argmax(1) if recipe.task == "lungs" else logits[:, 0] > 0
        found.append(labels.to("cpu", torch.uint8).numpy())
    return np.concatenate(found)


def dice_by_volume(
    labels: NDArray[np.uint8], data: SliceSet, task: str, every: int = 1
) -> dict[str, float]:
    """Return the Dice coefficient over all slices of each volume."""
    volumes = data.volumes[::every]
    truth = (data.lesions if task == "lesions" else data.lungs > 0)[::every]
    scores = {}
    for volume in np.unique(volumes):
        mine, theirs = labels[volumes == volume] > 0, truth[volumes == volume]
        both = mine.sum() + theirs.sum()
        scores[data.names[volume]] = float(2 * (mine & theirs).sum() / both) if both else 1.0
    return scores


def train(
    recipe: Recipe,
    training: SliceSet,
    validation: SliceSet,
    folder: Path,
    say: Callable[[str], None],
    tick: Callable[[int, int], None] = lambda _done, _total: None,
    start: Path | None = None,
) -> Path:
    """Train, or go on where ``folder`` was left; return the file with the last weights.

    Each epoch appends a line to ``log.csv``, replaces ``last.pt`` and is told to ``say``;
    ``tick`` hears of every batch that is done, and of how many there are in all. The weights
    that are shipped are an exponential moving average; no epoch is chosen by its score. A new
    run takes the weights of the checkpoint ``start``, if there is one.

    Raises:
        ValueError: ``folder`` holds a run of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = recipe.network().to(device, memory_format=torch.channels_last)
    if start is not None:
        before = torch.load(start, map_location=device, weights_only=True)
        network.load_state_dict(before["average"])
    average = recipe.network().to(device)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-2)
    steps = recipe.epochs * (recipe.slices_per_epoch // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, total_steps=steps, pct_start=0.15
    )
    last = folder / "last.pt"
    first = 0
    if last.exists():
        state = torch.load(last, map_location=device, weights_only=True)
        _require_same(recipe, state["recipe"], last)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        # The learning rate ends with this run, also when its epochs were changed since.
        phases = {
            "total_steps": steps,
            "_schedule_phases": schedule.state_dict()["_schedule_phases"],
        }
        schedule.load_state_dict(state["schedule"] | phases)
        first = state["epoch"]
        say(f"going on after epoch {first}")
    for epoch in range(first, recipe.epochs):
        began = time.monotonic()
        losses = _epoch(
            recipe, network, average, optimiser, schedule, training, epoch, lambda n: tick(n, steps)
        )
        scores = _score(recipe, average, validation)
        row = {"epoch": epoch + 1, "loss": np.mean(losses), "seconds": time.monotonic() - began}
        _log(folder / "log.csv", row | {f"dice_{name}": value for name, value in scores.items()})
        _save(last, recipe, network, average, optimiser, schedule, epoch + 1)
        patients = [value for name, value in scores.items() if name.isdigit()]
        mean = np.mean(patients or list(scores.values()))
        shown = " ".join(f"{name}:{value:.3f}" for name, value in scores.items())
        say(
            f"{recipe.task} epoch {epoch + 1}/{recipe.epochs} loss {row['loss']:.3f} "
            f"validation Dice {mean:.3f} ({shown}) {row['seconds']:.0f} s"
        )
    return last


def _require_same(recipe: Recipe, before: dict[str, Any], file: Path) -> None:
    """Refuse to go on with another recipe; only the number of epochs may change."""
    now = asdict(recipe)
    changed = [
        f"{name} was {before.get(name)} and is {value}"
        for name, value in now.items()
        if name != "epochs" and before.get(name) != value
    ]
    if changed:
        raise ValueError(f"{file} is of another recipe: {', '.join(changed)}; use another folder")


def _epoch(
    recipe: Recipe,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: Any,
    data: SliceSet,
    epoch: int,
    tick: Callable[[int], None],
) -> list[float]:
    """Run one epoch; its random numbers depend on the seed and the epoch alone."""
    network.train()
    device = next(network.parameters()).device
    random = np.random.default_rng((recipe.seed, epoch))
    generator = torch.Generator(device).manual_seed(recipe.seed * 1000 + epoch)
    losses = []
    done = epoch * (recipe.slices_per_epoch // recipe.batch)
    for number, batch in enumerate(
        sample(data, recipe, recipe.slices_per_epoch, random), start=done
    ):
        changed = augment(batch.to(device), generator, recipe.crop)
        images = changed.images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(images)
        loss = loss_of(logits.float(), changed, recipe.task)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        _follow(average, network, min(recipe.ema, (1 + number) / (10 + number)))
        losses.append(float(loss.detach()))
        tick(number + 1)
    return losses


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, rate: float) -> None:
    """Move the average towards the network; counters are copied."""
    now = network.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(now[name], 1 - rate)
        else:
            value.copy_(now[name])


def _score(recipe: Recipe, average: nn.Module, validation: SliceSet) -> dict[str, float]:
    labels = predict(average, recipe, validation, every=4)
    return dice_by_volume(labels, validation, recipe.task, every=4)


def _log(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _save(
    path: Path,
    recipe: Recipe,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: Any,
    epoch: int,
) -> None:
    """Replace the checkpoint atomically: a stop in between leaves the one before."""
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "recipe": asdict(recipe),
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "epoch": epoch,
        },
        partial,
    )
    partial.replace(path)
