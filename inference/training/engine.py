"""The training loop: seeded, resumable, logged."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.training.augment import Batch, augment
from inference.training.data import IGNORE, SliceSet
from inference.training.networks import UNet
from inference.training.phantoms import PREFIX as PHANTOM
from inference.training.plain import PREFIX as PLAIN
from inference.training.synthetic import PREFIX as SYNTHETIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides what a run gives.

    ``task`` is ``lungs`` (softmax: background, right, left) or ``lesions`` (sigmoid).
    ``size`` is the number of rows and columns that the network serves, ``crop`` those that
    it is trained on; ``phantom_share`` and ``synthetic_share`` are the parts of the drawn
    slices that come from phantoms (plain chests included), and from real chests with
    synthetic opacities.
    """

    task: str
    channels: tuple[int, ...]
    context: int
    size: int
    crop: int
    epochs: int
    slices_per_epoch: int
    batch: int
    learning_rate: float
    seed: int
    phantom_share: float
    synthetic_share: float
    ema: float = 0.995

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return 3 if self.task == "lungs" else 1

    def network(self) -> UNet:
        """Return the untrained network."""
        return UNet(self.context, self.outputs, self.channels)


RECIPES = {
    "lesions": Recipe(
        task="lesions",
        channels=(16, 32, 64, 128, 256),
        context=3,
        size=256,
        crop=192,
        epochs=48,
        slices_per_epoch=2400,
        batch=12,
        learning_rate=2e-3,
        seed=1,
        phantom_share=0.2,
        synthetic_share=0.25,
    ),
    "lungs": Recipe(
        task="lungs",
        channels=(12, 24, 48, 96, 96),
        context=1,
        size=256,
        crop=192,
        epochs=9,
        slices_per_epoch=2400,
        batch=12,
        learning_rate=2e-3,
        seed=1,
        phantom_share=0.2,
        synthetic_share=0.25,
    ),
}


def sample(
    data: SliceSet, recipe: Recipe, count: int, random: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches; a volume is drawn in proportion to the square root of its slices.

    Neighbours lie one to four slices away, or are the slice itself: series differ in
    spacing, and a single slice must do as well. Half of them run the other way, since not
    every source says which end is the head.
    """
    volumes, sizes = np.unique(data.volumes, return_counts=True)
    weights = _weights(data, volumes, sizes, recipe)
    members = {volume: np.flatnonzero(data.volumes == volume) for volume in volumes}
    for _ in range(count // recipe.batch):
        drawn = random.choice(volumes, recipe.batch, p=weights)
        chosen = np.array([random.choice(members[volume]) for volume in drawn])
        steps = random.integers(0, 5, recipe.batch) * random.choice([-1, 1], recipe.batch)
        yield take(data, recipe, chosen, steps)


def _weights(
    data: SliceSet, volumes: NDArray[np.int64], sizes: NDArray[np.int64], recipe: Recipe
) -> NDArray[np.float64]:
    """Return the chance of each volume; the shares of absent sources go to the others."""
    names = [data.names[volume] for volume in volumes]
    phantom = np.array([name.startswith((PHANTOM, PLAIN)) for name in names])
    synthetic = np.array([name.startswith(SYNTHETIC) for name in names])
    weights = np.sqrt(sizes)
    for members, share in (
        (phantom, recipe.phantom_share),
        (synthetic, recipe.synthetic_share),
        (~phantom & ~synthetic, 1 - recipe.phantom_share - recipe.synthetic_share),
    ):
        weights[members] *= share / max(weights[members].sum(), 1)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def take(
    data: SliceSet, recipe: Recipe, chosen: NDArray[np.int64], steps: NDArray[np.int64]
) -> Batch:
    """Return the batch of ``chosen`` slices with neighbours ``steps`` slices away."""
    planes = [data.images[chosen]]
    if recipe.context > 1:
        below, above = chosen.copy(), chosen.copy()
        for step in np.unique(steps):
            which = steps == step
            below[which] = data.neighbour(chosen[which], -int(step))
            above[which] = data.neighbour(chosen[which], int(step))
        planes = [data.images[below], planes[0], data.images[above]]
    images = torch.from_numpy(np.stack(planes, 1)).float() / 255
    batch = Batch(
        images=images,
        lungs=torch.from_numpy(data.lungs[chosen].astype(np.int64)),
        lesions=torch.from_numpy(data.lesions[chosen].astype(np.float32)),
    )
    return batch if images.shape[-1] == recipe.size else _resized(batch, recipe.size)


def _resized(batch: Batch, size: int) -> Batch:
    def nearest(labels: Tensor) -> Tensor:
        return F.interpolate(labels[:, None].float(), size=(size, size), mode="nearest")[:, 0]

    return Batch(
        images=F.interpolate(batch.images, size=(size, size), mode="area"),
        lungs=nearest(batch.lungs).long(),
        lesions=nearest(batch.lesions),
    )


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
    chosen = np.arange(0, len(data.volumes), every)
    found = []
    for start in range(0, len(chosen), recipe.batch):
        part = chosen[start : start + recipe.batch]
        batch = take(data, recipe, part, np.ones(len(part), dtype=np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(batch.images).float()
        labels = logits.argmax(1) if recipe.task == "lungs" else logits[:, 0] > 0
        found.append(labels.to(torch.uint8).numpy())
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
) -> Path:
    """Train, or go on where ``folder`` was left; return the file with the last weights.

    Each epoch appends a line to ``log.csv``, replaces ``last.pt`` and is told to ``say``;
    ``tick`` hears of every batch that is done, and of how many there are in all. The weights
    that are shipped are an exponential moving average; no epoch is chosen by its score.

    Raises:
        ValueError: ``folder`` holds a run of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    network = recipe.network().to(memory_format=torch.channels_last)
    average = recipe.network()
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-2)
    steps = recipe.epochs * (recipe.slices_per_epoch // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, total_steps=steps, pct_start=0.15
    )
    last = folder / "last.pt"
    first = 0
    if last.exists():
        state = torch.load(last, weights_only=True)
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
        start = time.monotonic()
        losses = _epoch(
            recipe, network, average, optimiser, schedule, training, epoch, lambda n: tick(n, steps)
        )
        scores = _score(recipe, average, validation)
        row = {"epoch": epoch + 1, "loss": np.mean(losses), "seconds": time.monotonic() - start}
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
    random = np.random.default_rng((recipe.seed, epoch))
    generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
    losses = []
    done = epoch * (recipe.slices_per_epoch // recipe.batch)
    for number, batch in enumerate(
        sample(data, recipe, recipe.slices_per_epoch, random), start=done
    ):
        changed = augment(batch, generator, recipe.crop)
        images = changed.images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
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
