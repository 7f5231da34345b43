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
from training.networks import untrained
from training.recipes import Recipe
from training.sampling import sample, take
from training.start import start_from

_WATCHED = 4
"""Every so many-th validation slice is scored after an epoch."""
_STATISTICS = 4
"""Number of batches that give the statistics of a start."""


def loss_of(logits: Tensor, batch: Batch, task: str) -> Tensor:
    """Return cross entropy plus soft Dice over the batch."""
    if task == "lesions":
        known = (batch.lesions != IGNORE).float()
        truth = batch.lesions * known
        entropy = F.binary_cross_entropy_with_logits(logits[:, 0], truth, weight=known)
        return entropy + _soft_dice_loss(torch.sigmoid(logits[:, 0]) * known, truth)
    sides = batch.lungs != IGNORE
    labels = torch.where(sides, batch.lungs, 0)
    entropy = F.cross_entropy(logits, batch.lungs, ignore_index=IGNORE)
    p = torch.softmax(logits, 1)
    dice = sum(_soft_dice_loss(p[:, k] * sides, (labels == k).float()) for k in (1, 2))
    return entropy + dice / 2


def _soft_dice_loss(p: Tensor, truth: Tensor) -> Tensor:
    return 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)


def _precision(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where that is faster: on a GPU, or on a CPU with matrix tiles (AMX)."""
    fast = device.type == "cuda" or torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - no public query
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


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
        with _precision(device):
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
    known = _known(data, task)[::every]
    scores = {}
    for volume in np.unique(volumes):
        own = volumes == volume
        mine, theirs = (labels[own] > 0) & known[own], truth[own] & known[own]
        both = mine.sum() + theirs.sum()
        scores[data.names[volume]] = float(2 * (mine & theirs).sum() / both) if both else 1.0
    return scores


def _known(data: SliceSet, task: str) -> NDArray[np.bool_]:
    """Return where the truth of a task is known."""
    if task == "lungs":
        sides: NDArray[np.bool_] = data.lungs != IGNORE
        return sides
    return np.ones_like(data.lesions) if data.unknown is None else ~data.unknown


def train(
    recipe: Recipe,
    training: SliceSet,
    validation: SliceSet,
    folder: Path,
    say: Callable[[str], None],
    tick: Callable[[int, int], None] = lambda _done, _total: None,
    start: Path | None = None,
) -> Path:
    """Train, or resume the run in ``folder``; return the file with the last weights.

    Each epoch appends a line to ``log.csv``, replaces ``last.pt`` and reports to ``say``;
    ``tick`` receives the number of finished batches and of all batches. The weights that are
    shipped are an exponential moving average; no epoch is chosen by its score. A new run takes
    the weights of the ONNX file ``start``, if it is given.

    Raises:
        ValueError: ``folder`` holds a run of another recipe, or ``start`` another network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(recipe)
    last = folder / "last.pt"
    first = run.resume(last) if last.exists() else 0
    if start is not None and not first:
        run.start(start, training)
    if first:
        say(f"resuming after epoch {first}")
    for epoch in range(first, recipe.epochs):
        began = time.monotonic()
        losses = run.epoch(training, epoch, tick)
        labels = predict(run.average, recipe, validation, every=_WATCHED)
        scores = dice_by_volume(labels, validation, recipe.task, every=_WATCHED)
        row = {"epoch": epoch + 1, "loss": np.mean(losses), "seconds": time.monotonic() - began}
        _log(folder / "log.csv", row | {f"dice_{name}": value for name, value in scores.items()})
        run.save(last, epoch + 1)
        say(_epoch_line(recipe, row, scores))
    return last


def _epoch_line(recipe: Recipe, row: dict[str, Any], scores: dict[str, float]) -> str:
    patients = [value for name, value in scores.items() if name.isdigit()]
    mean = np.mean(patients or list(scores.values()))
    shown = " ".join(f"{name}:{value:.3f}" for name, value in scores.items())
    return (
        f"{recipe.task} epoch {row['epoch']}/{recipe.epochs} loss {row['loss']:.3f} "
        f"validation Dice {mean:.3f} ({shown}) {row['seconds']:.0f} s"
    )


class _Run:
    """The state of one training run: everything that a checkpoint holds."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self._recipe = recipe
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = untrained(recipe).to(self._device, memory_format=torch.channels_last)
        self.average = untrained(recipe).to(self._device)
        self.average.load_state_dict(self._network.state_dict())
        self._optimiser = torch.optim.AdamW(
            self._network.parameters(), lr=recipe.learning_rate, weight_decay=1e-2
        )
        self._steps = recipe.epochs * recipe.steps_per_epoch
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser,
            max_lr=recipe.learning_rate,
            total_steps=self._steps,
            pct_start=0.15,
        )

    def start(self, file: Path, data: SliceSet) -> None:
        """Take over the weights of a shipped network, with the statistics of ``data``."""
        random = np.random.default_rng(self._recipe.seed)
        images = torch.cat(
            [
                batch.images
                for batch in sample(data, self._recipe, _STATISTICS * self._recipe.batch, random)
            ]
        )
        start_from(file, self._network, images.to(self._device))
        self.average.load_state_dict(self._network.state_dict())

    def resume(self, last: Path) -> int:
        """Take over the checkpoint; return its number of finished epochs.

        Raises:
            ValueError: The checkpoint is of another recipe.
        """
        state = torch.load(last, map_location=self._device, weights_only=True)
        _require_same(self._recipe, state["recipe"], last)
        self._network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        # The learning rate ends with this run, even if the number of epochs has changed since.
        phases = {
            "total_steps": self._steps,
            "_schedule_phases": self._schedule.state_dict()["_schedule_phases"],
        }
        self._schedule.load_state_dict(state["schedule"] | phases)
        epochs: int = state["epoch"]
        return epochs

    def save(self, path: Path, epoch: int) -> None:
        """Replace the checkpoint atomically: a stop in between leaves the previous checkpoint."""
        partial = path.with_suffix(".partial")
        state = {
            "recipe": asdict(self._recipe),
            "network": self._network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "epoch": epoch,
        }
        torch.save(state, partial)
        partial.replace(path)

    def epoch(self, data: SliceSet, epoch: int, tick: Callable[[int, int], None]) -> list[float]:
        """Train for one epoch; its random numbers depend on the seed and the epoch alone.

        Returns:
            The loss of each batch.
        """
        recipe, network = self._recipe, self._network.train()
        random = np.random.default_rng((recipe.seed, epoch))
        generator = torch.Generator(self._device).manual_seed(recipe.seed * 1000 + epoch)
        losses = []
        batches = sample(data, recipe, recipe.slices_per_epoch, random)
        for number, batch in enumerate(batches, start=epoch * recipe.steps_per_epoch):
            changed = augment(batch.to(self._device), generator, recipe.crop)
            images = changed.images.contiguous(memory_format=torch.channels_last)
            with _precision(self._device):
                logits = network(images)
            loss = loss_of(logits.float(), changed, recipe.task)
            self._optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            self._optimiser.step()
            self._schedule.step()
            _follow(self.average, network, min(recipe.ema, (1 + number) / (10 + number)))
            losses.append(float(loss.detach()))
            tick(number + 1, self._steps)
        return losses


def _require_same(recipe: Recipe, before: dict[str, Any], file: Path) -> None:
    """Refuse to resume a run of another recipe; only the number of epochs may change."""
    now = asdict(recipe)
    changed = [
        f"{name} was {before.get(name)} and is {value}"
        for name, value in now.items()
        if name != "epochs" and before.get(name) != value
    ]
    if changed:
        raise ValueError(f"{file} is of another recipe: {', '.join(changed)}; use another folder")


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, rate: float) -> None:
    """Move the average towards the network; counters are copied."""
    now = network.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(now[name], 1 - rate)
        else:
            value.copy_(now[name])


def _log(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
