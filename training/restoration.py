"""Estimates HU from the 8-bit slices of patients.

The slices passed through a window per slice and contrast-limited equalisation
(docs/model/data.md). A network learns to undo that from real chests in HU, before and after a
simulation of it. So the experts' outlines also teach the density of a lesion (ADR 37).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chestct.volume import Volume
from inference.loading.pixels import AIR_HU
from inference.networks.preprocess import equalised, windowed
from inference.reading.body import body_of
from inference.reading.frame import PIXEL_MM
from phantom.volume import canonical_volume
from training.data import SliceSet
from training.grey import CANVAS, LIVE_INPUT, SLICE_INPUT, on_canvas, to_grey
from training.networks import UNet
from training.opacities import draw_opacities, paint, pleural_depth

PREFIX = "restored-"
EPOCHS = 5
SCANS = 5
"""Scans of each chest to learn from; the first has no painted opacity."""
_SLICES = 60
"""Slices of each scan."""
_BATCH = 12
_CROP = 192
_RATE = 2e-3
_LUNGS_MM = 265.0
"""Usual width of both lungs. The slices state no pixel size: their lungs are scaled to it."""
_ZOOM = (0.75, 1.4)


def restorer() -> UNet:
    """Return the network, untrained: one 8-bit slice in, HU in the networks' window out."""
    return UNet(1, 1, (20, 40, 80, 128, 128), fold=2)


def as_slice(
    hu: NDArray[np.float32], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a plane of HU as an 8-bit slice of a patient, and in the window of the networks.

    Position, kernel, noise, field of view and window vary as they do between the sources.
    """
    hu = _moved(hu.astype(np.float32), random) if random.random() < 0.5 else hu.astype(np.float32)
    if random.random() < 0.5:
        hu = np.asarray(cv2.GaussianBlur(hu, (0, 0), random.uniform(0.3, 1.3)), np.float32)
    if random.random() < 0.6:
        grain = random.normal(size=hu.shape).astype(np.float32)
        noise = cv2.GaussianBlur(grain, (0, 0), random.uniform(0.3, 0.9))
        hu = hu + noise * np.float32(random.uniform(0, 160) / noise.std())
    hu = np.maximum(hu, -1024 if random.random() < 0.6 else -1250)
    if random.random() < 0.5:
        hu = np.where(_outside(hu.shape, random), random.choice([-1024, -1250, -2000, -3024]), hu)
    low, high = _window(hu, random)
    small = cv2.resize(
        np.clip((hu - low) / (high - low), 0, 1).astype(np.float32) * 255,
        (CANVAS, CANVAS),
        interpolation=cv2.INTER_AREA,
    )
    wanted = cv2.resize(windowed(hu, LIVE_INPUT), (CANVAS, CANVAS), interpolation=cv2.INTER_AREA)
    return equalised(np.asarray(small, np.float32), SLICE_INPUT), np.round(wanted).astype(np.uint8)


def _moved(hu: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Turn and scale a plane about a point near its middle."""
    rows, columns = hu.shape
    middle = (columns / 2 + random.uniform(-20, 20), rows / 2 + random.uniform(-20, 20))
    matrix = cv2.getRotationMatrix2D(middle, random.uniform(-5, 5), random.uniform(0.8, 1.25))
    moved = cv2.warpAffine(hu, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderValue=-1000)
    return np.asarray(moved, np.float32)


def _outside(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.bool_]:
    """Return the pixels outside a round field of view."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    radius = min(shape) / 2 * random.uniform(0.95, 1.03)
    outside: NDArray[np.bool_] = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 > radius**2
    return outside


def _window(hu: NDArray[np.float32], random: np.random.Generator) -> tuple[float, float]:
    """Draw the ends of the window of a slice: its own minimum and maximum, or fixed ones."""
    kind = random.random()
    if kind < 0.4:
        return float(hu.min()), float(hu.max())
    if kind < 0.7:
        return -1250 - random.uniform(-260, 60), random.uniform(200, 500)
    return max(float(hu.min()), -1024 - random.uniform(0, 200)), random.uniform(400, 2200)


def pairs_of(
    volume: Volume, lungs: NDArray[np.bool_], seeds: range
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return 8-bit slices of a real chest and the images to restore, both uint8 (n, 256, 256).

    Args:
        volume: The chest.
        lungs: Its lungs, bool (slice, row, column), into which every seed but 0 paints opacities.
        seeds: One scan per seed.
    """
    spacing = volume.geometry.spacing
    depth = pleural_depth(lungs, spacing)
    pairs = []
    for seed in seeds:
        random = np.random.default_rng((seed, 77))
        hu = volume.hu.astype(np.float32)
        for opacity in draw_opacities(depth, spacing, random) if seed else ():
            paint(hu, depth, spacing, opacity, float(random.uniform(8, 45)))
        chosen = random.permutation(len(hu))[:_SLICES]
        pairs += [as_slice(hu[index], random) for index in chosen]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def train_restorer(
    pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], say: Callable[[str], None]
) -> UNet:
    """Train on the pairs of several chests."""
    given, wanted = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = restorer().to(memory_format=torch.channels_last)
    steps = len(given) // _BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, _RATE, total_steps=EPOCHS * steps, pct_start=0.1
    )
    for epoch in range(EPOCHS):
        order, losses = random.permutation(len(given)), []
        for step in range(steps):
            chosen = order[step * _BATCH : (step + 1) * _BATCH]
            row, column = random.integers(0, CANVAS - _CROP + 1, 2)
            part = (chosen, slice(row, row + _CROP), slice(column, column + _CROP))
            image, truth = (
                torch.from_numpy(images[part]).float()[:, None] / 255 for images in (given, wanted)
            )
            loss = (network(image) - truth).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        say(f"restoration epoch {epoch + 1}/{EPOCHS}: error {in_hu(float(np.mean(losses))):.0f} HU")
    return network.eval()


def in_hu(share: float) -> float:
    """Return the HU that a share of the networks' window spans."""
    low, high = LIVE_INPUT.window
    return share * (high - low)


@torch.no_grad()
def estimate(network: UNet, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the estimated HU (n, row, column) of 8-bit slices."""
    low, _ = LIVE_INPUT.window
    shares = [
        network.eval()(torch.from_numpy(part).float()[:, None] / 255)[:, 0].numpy()
        for part in np.array_split(images, max(1, len(images) // _BATCH))
    ]
    hu: NDArray[np.float32] = np.float32(low) + np.clip(np.concatenate(shares), 0, 1) * np.float32(
        in_hu(1.0)
    )
    return hu


def restored_slices(network: UNet, data: SliceSet) -> SliceSet:
    """Return the slices of patients in estimated HU: body alone, lungs of the usual width."""
    parts = [_restored(network, data.select([int(v)])) for v in np.unique(data.volumes)]
    return SliceSet(
        images=np.concatenate([part[0] for part in parts]),
        lungs=np.concatenate([part[1] for part in parts]),
        lesions=np.concatenate([part[2] for part in parts]),
        volumes=data.volumes,
        names=tuple(f"{PREFIX}{name}" for name in data.names),
    )


def _restored(
    network: UNet, data: SliceSet
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Return images, lungs and lesions of a volume on the canvas."""
    hu = estimate(network, data.images)
    stored = np.round(hu).astype(np.int16)
    body = body_of(canonical_volume(stored, (3.0, PIXEL_MM, PIXEL_MM), (0.0, 0.0, 0.0)))
    body |= data.lungs > 0
    columns = np.flatnonzero((data.lungs > 0).any(axis=(0, 1)))
    zoom = np.clip(_LUNGS_MM / PIXEL_MM / (columns[-1] - columns[0] + 1), *_ZOOM)
    size = 2 * (round(CANVAS * float(zoom)),)

    def scaled(planes: NDArray[np.generic], how: int) -> NDArray[np.generic]:
        larger = np.stack([cv2.resize(plane, size, interpolation=how) for plane in planes])
        return on_canvas(larger, np.zeros(2, dtype=np.int64))

    images = scaled(to_grey(np.where(body, hu, np.float32(AIR_HU))), cv2.INTER_LINEAR)
    lungs = scaled(data.lungs, cv2.INTER_NEAREST_EXACT)
    lesions = scaled(data.lesions.view(np.uint8), cv2.INTER_NEAREST_EXACT)
    return images.astype(np.uint8), lungs.astype(np.uint8), lesions.astype(bool)


def load_restorer(path: Path) -> UNet:
    """Read the weights that :func:`train_restorer` gave."""
    network = restorer()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
