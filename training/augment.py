"""Augments a batch: random changes as between scanners, kernels, windows and patients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch.

    Attributes:
        images: float (n, context, rows, columns), 0..1.
        lungs: long (n, rows, columns): 0, 1 right, 2 left, 255 ignored.
        lesions: float (n, rows, columns), 0, 1, or 255 where unknown.
        variation: float (n); how much of the random change of grey values an image gets: HU mean
            the same in every scan, the grey values of the 8-bit slices do not.
    """

    images: Tensor
    lungs: Tensor
    lesions: Tensor
    variation: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            images=self.images.to(device),
            lungs=self.lungs.to(device),
            lesions=self.lesions.to(device),
            variation=self.variation.to(device),
        )


def augment(batch: Batch, random: Generator, crop: int) -> Batch:
    """Return a randomly changed batch of ``crop`` by ``crop`` pixels.

    Batch and ``random`` are on the same device. The geometry changes images and labels
    alike. A crop smaller than the image saves the work on what lies around the chest; the
    network is convolutional and does not mind.
    """
    images, lungs, lesions = _geometry(batch, random, crop)
    return Batch(
        images=_intensity(images, batch.variation, random),
        lungs=lungs,
        lesions=lesions,
        variation=batch.variation,
    )


def _uniform(count: int, low: float, high: float, random: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=random, device=random.device)


def _geometry(batch: Batch, random: Generator, crop: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate, scale, shift, flip and crop; a mirrored patient swaps right and left."""
    count = len(batch.images)
    part = crop / batch.images.shape[-1]
    angle = _uniform(count, -math.pi / 15, math.pi / 15, random)
    # The 8-bit slices state no pixel size; those in HU have the pixels of the frame.
    spread = torch.where(batch.variation < 1, 0.6, 1.0)
    scale = part * torch.exp(_uniform(count, -0.26, 0.32, random) * spread)
    stretch = torch.exp(_uniform(count, -0.08, 0.08, random))
    mirror = torch.where(torch.rand(count, generator=random, device=random.device) < 0.5, -1.0, 1.0)
    prone = torch.where(torch.rand(count, generator=random, device=random.device) < 0.08, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack(
        [
            torch.stack([cos * mirror * stretch, -sin, _uniform(count, -0.2, 0.2, random)], 1),
            torch.stack([sin, cos * prone, _uniform(count, -0.2, 0.2, random)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [*batch.images.shape[:2], crop, crop], align_corners=False)
    images = F.grid_sample(batch.images, grid, padding_mode="border", align_corners=False)
    labels = torch.stack([batch.lungs.float(), batch.lesions], 1)
    moved = F.grid_sample(labels, grid, mode="nearest", align_corners=False)
    lungs = moved[:, 0].round().long()
    swapped = torch.where(lungs == 1, 2, torch.where(lungs == 2, 1, lungs))
    lungs = torch.where((mirror < 0)[:, None, None], swapped, lungs)
    return images, lungs, moved[:, 1]


def _intensity(images: Tensor, variation: Tensor, random: Generator) -> Tensor:
    """Vary contrast, gamma, sharpness and noise as windows, kernels and doses do.

    ``variation`` scales what windows do, not what kernels and doses do.
    """
    count = len(images)
    amount = variation[:, None, None, None]
    blank = (images == 0) & (amount < 1)

    def per_image(low: float, high: float) -> Tensor:
        return _uniform(count, low, high, random)[:, None, None, None]

    def factor(low: float, high: float) -> Tensor:
        return 1 + (per_image(low, high) - 1) * amount

    smooth = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = smooth + (images - smooth) * per_image(0.0, 2.2)
    wide = _surroundings(images)
    images = wide + (images - wide) * factor(0.75, 1.3)
    images = images.clamp(0, 1) ** torch.exp(per_image(-0.45, 0.45) * amount)
    images = (images - 0.5) * factor(0.75, 1.25) + 0.5 + per_image(-0.12, 0.12) * amount
    noise = torch.randn(images.shape, generator=random, device=random.device)
    coarse = F.avg_pool2d(noise, 3, 1, 1) * 2
    mixed = torch.where(per_image(0, 1) < 0.5, noise, coarse)
    images = images + mixed * per_image(-0.05, 0.06).clamp(min=0)
    # Air around the body stays 0 where HU are known: the frame sets it, not the scanner.
    return images.clamp(0, 1).masked_fill(blank, 0)


def _surroundings(images: Tensor) -> Tensor:
    """Return the mean over about 24 pixels, on a coarse grid: cheap, and smooth enough."""
    coarse = F.avg_pool2d(images, 8, ceil_mode=True)
    coarse = F.avg_pool2d(coarse, 3, 1, 1, count_include_pad=False)
    size = list(images.shape[-2:])
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
