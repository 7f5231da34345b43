"""The recipes of the shipped networks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.networks import UNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides what a run gives.

    ``task`` is ``lungs`` (softmax: background, right, left) or ``lesions`` (sigmoid).
    ``size`` is the number of rows and columns that the network serves, ``crop`` those that
    it is trained on; ``phantom_share`` and ``synthetic_share`` are the parts of the drawn
    slices that come from phantoms (plain chests included), and from real chests with
    synthetic opacities. ``front_end`` names what these are shown with, of
    :data:`training.phantoms.FRONT_ENDS`; ``hu_variation`` is how much of the random
    change of grey values they get, and ``variation`` how much the 8-bit slices get.
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
    front_end: str = "varied"
    hu_variation: float = 1.0
    variation: float = 1.0
    ill_share: float = 0.0
    opacities: int = 42
    after: str | None = None

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return 3 if self.task == "lungs" else 1

    def network(self) -> UNet:
        """Return the untrained network."""
        return UNet(self.context, self.outputs, self.channels, self.fold)


_SHIPPED = {
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
    # has none. Live CT is in HU: here density itself may be learnt.
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

# One question, asked in minutes: must window, equalisation and gamma vary in training, or is it
# enough that live CT goes through the steps of the 8-bit slices? (docs/model/data.md)
_SHORT = replace(
    _SHIPPED["lesions"], channels=(24, 48, 96, 160, 160), fold=2, epochs=3, ema=0.99, ill_share=0.5
)
RECIPES = {
    **_SHIPPED,
    "lesions-varied": _SHORT,
    "lesions-as-live": replace(_SHORT, front_end="as live", hu_variation=0.0, variation=0.0),
}
