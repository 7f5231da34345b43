"""The networks: a small U-Net family for lungs and lesions.

Ronneberger et al. 2015 with batch normalisation and bilinear up-sampling; small enough for
two CPU cores to serve a series in seconds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from training.recipes import Recipe


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Slices in, logits out: (n, inputs, rows, columns) to (n, outputs, rows, columns).

    Args:
        inputs: Channels: the slice and its neighbours.
        outputs: Classes.
        channels: Width of each level; rows and columns must be divisible by
            ``fold * 2 ** (len(channels) - 1)``.
        fold: This many rows and columns become channels before the first level, and rows and
            columns again after the last level (Shi et al. 2016). On CPUs the memory traffic of the
            finest level takes most of the time: a fold of 2 allows twice the width in less time.
    """

    def __init__(self, inputs: int, outputs: int, channels: tuple[int, ...], fold: int = 1) -> None:
        super().__init__()
        self.fold = fold
        inputs, outputs = inputs * fold**2, outputs * fold**2
        self.down = nn.ModuleList(
            _block(before, after)
            for before, after in zip((inputs, *channels), channels, strict=False)
        )
        self.up = nn.ModuleList(
            _block(channels[level] + channels[level + 1], channels[level])
            for level in reversed(range(len(channels) - 1))
        )
        self.head = nn.Conv2d(channels[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        skips: list[Tensor] = []
        x = F.pixel_unshuffle(x, self.fold) if self.fold > 1 else x
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        x = self.head(x)
        return F.pixel_shuffle(x, self.fold) if self.fold > 1 else x


def untrained(recipe: Recipe) -> UNet:
    """Return the network of a recipe, untrained."""
    return UNet(recipe.context, recipe.outputs, recipe.channels, recipe.fold)
