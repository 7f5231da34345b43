"""The recipes of the shipped networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All settings that decide the result of a run.

    ``task`` is ``lungs`` (softmax: background, right, left) or ``lesions`` (sigmoid).
    ``size`` is the number of rows and columns of the training images, ``crop`` those that a batch
    shows. ``shares`` are the parts of the drawn slices by source: ``patients`` (the 8-bit slices of
    real patients), ``restored`` (the same with their HU estimated), ``chests`` (real chests in HU)
    and ``phantoms`` (plain chests included). ``hu_variation`` is how much of the random change of
    grey values the images in HU get; the 8-bit slices get all of it.
    ``ill_share`` of the draws from a volume are of slices with a lesion, where it has any;
    ``scans`` are the seeds of scans of each real chest.
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
    shares: Mapping[str, float]
    fold: int = 1
    ema: float = 0.998
    hu_variation: float = 0.2
    ill_share: float = 0.0
    scans: int = 24

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return 3 if self.task == "lungs" else 1

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return self.slices_per_epoch // self.batch


RECIPES = {
    "lesions": Recipe(
        task="lesions",
        channels=(16, 32, 64, 128, 256),
        context=3,
        size=256,
        crop=192,
        epochs=10,
        slices_per_epoch=2400,
        batch=12,
        learning_rate=1.5e-3,
        seed=3,
        shares={"patients": 0.28, "restored": 0.28, "chests": 0.38, "phantoms": 0.06},
    ),
    "lungs": Recipe(
        task="lungs",
        channels=(24, 48, 96, 160, 160),
        fold=2,
        context=3,
        size=256,
        crop=192,
        epochs=6,
        slices_per_epoch=2400,
        batch=12,
        learning_rate=2e-3,
        seed=6,
        shares={"patients": 0.25, "restored": 0.2, "chests": 0.45, "phantoms": 0.1},
        ill_share=0.4,
    ),
}
