"""The recipes of the shipped networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All settings that decide the result of a run.

    ``task`` is ``lungs`` (softmax: background, right, left) or ``lesions`` (sigmoid).
    ``size`` is the number of rows and columns that the network serves, ``crop`` those that
    it is trained on; ``phantom_share`` and ``synthetic_share`` are the parts of the drawn
    slices that come from phantoms (plain chests included), and from real chests with
    synthetic opacities. ``hu_variation`` is how much of the random change of grey values
    these get; the 8-bit slices get all of it.
    ``ill_share`` of the draws from a volume are of slices with a lesion, where it has any;
    ``opacities`` are the seeds of synthetic opacities, and ``after`` is the recipe whose
    weights this one starts from.
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
    fold: int = 1
    ema: float = 0.995
    hu_variation: float = 1.0
    ill_share: float = 0.0
    opacities: int = 42
    after: str | None = None

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
        epochs=30,
        slices_per_epoch=2400,
        batch=12,
        learning_rate=2e-3,
        seed=1,
        phantom_share=0.2,
        synthetic_share=0.3,
    ),
    # Grey values that vary at will teach contrast alone, and the middle of a wide even opacity
    # has no contrast. Live CT is in HU, so this recipe lets the network learn density itself.
    "lesions-refined": Recipe(
        task="lesions",
        channels=(16, 32, 64, 128, 256),
        context=3,
        size=256,
        crop=192,
        epochs=10,
        slices_per_epoch=2400,
        batch=12,
        learning_rate=1e-3,
        seed=2,
        phantom_share=0.2,
        synthetic_share=0.4,
        hu_variation=0.15,
        after="lesions",
    ),
    "lungs": Recipe(
        task="lungs",
        channels=(24, 48, 96, 160, 160),
        fold=2,
        context=1,
        size=256,
        crop=192,
        epochs=10,
        slices_per_epoch=2400,
        batch=12,
        learning_rate=2e-3,
        seed=5,
        phantom_share=0.15,
        synthetic_share=0.25,
        hu_variation=0.5,
        ema=0.998,
        ill_share=0.5,
        opacities=84,
    ),
}
