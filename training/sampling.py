"""Draws batches of slices for training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor

from training.augment import Batch
from training.chests import PREFIX as CHEST
from training.data import IGNORE, SliceSet
from training.phantoms import PREFIX as PHANTOM
from training.plain import PREFIX as PLAIN
from training.recipes import Recipe
from training.restoration import PREFIX as RESTORED


def sample(
    data: SliceSet, recipe: Recipe, count: int, random: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches; a volume is drawn in proportion to the square root of its slices.

    The recipe's ``ill_share`` of the draws from a volume are slices with a lesion, if it has any: a
    small lesion is in few slices and would hardly ever be drawn.

    Neighbours lie one to four slices away, or are the slice itself: series differ in spacing, and
    the network must handle a single slice as well. Half of the neighbours run the other way, since
    not every source says which end is the head.
    """
    volumes, sizes = np.unique(data.volumes, return_counts=True)
    weights = _weights(data, volumes, sizes, recipe)
    members = {volume: np.flatnonzero(data.volumes == volume) for volume in volumes}
    diseased: NDArray[np.bool_] = np.any(data.lesions, axis=(1, 2))
    ill = {volume: own[diseased[own]] for volume, own in members.items()}
    for _ in range(count // recipe.batch):
        drawn = random.choice(volumes, recipe.batch, p=weights)
        pick_ill = random.random(recipe.batch) < recipe.ill_share
        chosen = np.array(
            [
                random.choice(ill[volume] if first and len(ill[volume]) else members[volume])
                for volume, first in zip(drawn, pick_ill, strict=True)
            ]
        )
        steps = random.integers(0, 5, recipe.batch) * random.choice([-1, 1], recipe.batch)
        yield take(data, recipe, chosen, steps)


def _weights(
    data: SliceSet, volumes: NDArray[np.int64], sizes: NDArray[np.int64], recipe: Recipe
) -> NDArray[np.float64]:
    """Return the chance of each volume; the shares of absent sources go to the others."""
    sources = [_source(data.names[volume]) for volume in volumes]
    shares = recipe.shares
    weights = np.sqrt(sizes)
    for source, share in shares.items():
        members = np.array([own == source for own in sources])
        weights[members] *= share / max(weights[members].sum(), 1)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def _source(name: str) -> str:
    """Return the source of a volume: a key of the shares of a recipe."""
    prefixes = {PHANTOM: "phantoms", PLAIN: "phantoms", CHEST: "chests", RESTORED: "restored"}
    return next((source for key, source in prefixes.items() if name.startswith(key)), "patients")


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
    lesions = data.lesions[chosen].astype(np.float32)
    if data.unknown is not None:
        lesions[data.unknown[chosen]] = IGNORE
    batch = Batch(
        images=images,
        lungs=torch.from_numpy(data.lungs[chosen].astype(np.int64)),
        lesions=torch.from_numpy(lesions),
        variation=torch.where(
            torch.from_numpy(_in_hu(data)[data.volumes[chosen]]),
            recipe.hu_variation,
            1.0,
        ),
    )
    return batch if images.shape[-1] == recipe.size else _resized(batch, recipe.size)


def _in_hu(data: SliceSet) -> NDArray[np.bool_]:
    """Return for each volume whether its images are HU in the window of the networks."""
    return np.array([_source(name) != "patients" for name in data.names])


def _resized(batch: Batch, size: int) -> Batch:
    def nearest(labels: Tensor) -> Tensor:
        return F.interpolate(labels[:, None].float(), size=(size, size), mode="nearest")[:, 0]

    return Batch(
        images=F.interpolate(batch.images, size=(size, size), mode="area"),
        lungs=nearest(batch.lungs).long(),
        lesions=nearest(batch.lesions),
        variation=batch.variation,
    )
