"""Synthetic opacities in real lungs: training slices and test cases with exact truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume
from inference.networks.preprocess import Orientation
from inference.networks.session import load_models
from inference.ports import SegmentationModel
from training.data import LEFT, RIGHT, SliceSet
from training.grey import to_grey
from training.opacities import draw_opacities, paint, pleural_depth
from training.phantoms import LIVE_INPUT, jitter
from training.real import Chest, known_series, lesion_free_parts, read_volume

PREFIX = "synthetic-"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticCase:
    """A real chest with synthetic opacities.

    Attributes:
        volume: HU, opacities in.
        lesion: bool (slice, row, column), the exact truth.
        lungs: bool, likewise; the lung network's mask before the opacities were painted.
        kinds: The texture of each opacity; empty in a lesion-free case.
    """

    name: str
    volume: Volume
    lesion: NDArray[np.bool_]
    lungs: NDArray[np.bool_]
    seed: int
    kinds: tuple[str, ...]


def real_cases(
    folder: Path, seeds: range, model: SegmentationModel | None = None
) -> Iterator[SyntheticCase]:
    """Yield one case per seed of the lesion-free parts of the series in ``folder``.

    Every third seed gets no opacity, and only the first such seed of each part is used: an
    untouched chest is the same every time. ``model`` delineates the lungs (default: shipped).

    Raises:
        ValueError: The series is not in the committed list of lesion-free parts.
    """
    lungs = model or load_models(providers=("CPU",)).lungs
    for chest in lesion_free_parts(read_volume(folder), lungs):
        depth = pleural_depth(chest.inside(), chest.volume.geometry.spacing)
        untouched = [seed for seed in seeds if seed % 3 == 0][:1]
        for seed in untouched + [seed for seed in seeds if seed % 3 != 0]:
            yield _case(chest, depth, seed)


def other_breaths(
    folder: Path, seeds: Iterable[int], model: SegmentationModel
) -> Iterator[tuple[str, Volume]]:
    """Yield name and volume of each lesion-free part, breathed and reconstructed anew per seed.

    Raises:
        ValueError: The series is not in the committed list of lesion-free parts.
    """
    for chest in lesion_free_parts(read_volume(folder), model):
        for seed in seeds:
            random = np.random.default_rng((seed, 202))
            hu = rebreathe(chest.volume.hu.astype(np.float32), chest.inside(), random)
            yield (
                f"{chest.name} breath {seed}",
                replace(chest.volume, hu=_stored(rescan(hu, random))),
            )


def _stored(hu: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.round(hu), -1024, 3071).astype(np.int16)


def _case(chest: Chest, depth: NDArray[np.float32], seed: int) -> SyntheticCase:
    hu, truth, kinds = _with_opacities(chest, chest.volume.hu.astype(np.float32), depth, seed)
    return SyntheticCase(
        name=f"{chest.name} seed {seed}",
        volume=replace(chest.volume, hu=_stored(hu)),
        lesion=truth,
        lungs=chest.inside(),
        seed=seed,
        kinds=kinds,
    )


def _with_opacities(
    chest: Chest, hu: NDArray[np.float32], depth: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[str, ...]]:
    """Paint the opacities of ``seed`` into ``hu``; return it with the truth and the textures."""
    random = np.random.default_rng((seed, 200))
    truth = np.zeros(hu.shape, dtype=bool)
    if seed % 3 == 0:
        return hu, truth, ()
    spacing = chest.volume.geometry.spacing
    grain = float(random.uniform(8, 45))
    opacities = draw_opacities(depth, spacing, random)
    for opacity in opacities:
        truth |= paint(hu, depth, spacing, opacity, grain)
    return hu, truth, tuple(str(one.texture) for one in opacities)


def synthetic_slices(folder: Path, seeds: range, model: SegmentationModel) -> SliceSet:
    """Return training slices: one scan of the chest in ``folder`` per seed.

    Each scan is another breath and another reconstruction: air, slice thickness, kernel,
    noise, streaks, window and CLAHE vary, so that the network learns to ignore them.
    Neighbouring slices stay neighbours.

    Raises:
        ValueError: The committed list does not say that the series may be trained on, or it is
            not in canonical orientation.
    """
    volume = read_volume(folder)
    known = known_series().get(volume.series_uid)
    if known is None or known.part != "train":
        raise ValueError(f"series {volume.series_uid} is not for training (splits/true-hu.json)")
    if Orientation.of(volume.geometry) != Orientation(slices=False, rows=False, columns=False):
        raise ValueError(f"series {volume.series_uid} is not in canonical orientation")
    images, lungs, lesions, counts, names = [], [], [], [], []
    for chest in lesion_free_parts(volume, model):
        depth = pleural_depth(chest.inside(), chest.volume.geometry.spacing)
        sides = np.where(chest.inside(), np.where(chest.left(), LEFT, RIGHT), 0).astype(np.uint8)
        sides = np.stack([_shrink(plane) for plane in sides])
        for seed in seeds:
            random = np.random.default_rng((seed, 201))
            contract = jitter(LIVE_INPUT, random)
            breath = rebreathe(chest.volume.hu.astype(np.float32), chest.inside(), random)
            hu, truth, _ = _with_opacities(chest, breath, depth, seed)
            images += [to_grey(plane, contract) for plane in rescan(hu, random)]
            lungs.append(sides)
            lesions.append(np.stack([_shrink(plane.view(np.uint8)) for plane in truth]) > 0)
            counts.append(len(hu))
            names.append(f"{PREFIX}{chest.name}-{seed}")
    return SliceSet(
        images=np.stack(images),
        lungs=np.concatenate(lungs),
        lesions=np.concatenate(lesions),
        volumes=np.repeat(np.arange(len(counts)), counts),
        names=tuple(names),
    )


def _shrink(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (LIVE_INPUT.columns, LIVE_INPUT.rows)
    small: NDArray[np.uint8] = np.asarray(
        cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8
    )
    return small


def rebreathe(
    hu: NDArray[np.float32], lungs: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    """Return HU (slice, row, column) of the same lungs with more or less air in them.

    How dense a healthy lung is depends on the depth of the breath, and its back is denser
    than its front in a patient who lies on it (Verschakelen et al., AJR 1993;161:713).
    Vessels, which hold no air, stay as they are. Rows run to the back.
    """
    rows = np.flatnonzero(lungs.any(axis=(0, 2)))
    back = np.clip((np.arange(hu.shape[1]) - rows[0]) / max(1, len(rows) - 1), 0, 1)
    change = random.uniform(-40, 60) + random.uniform(0, 70) * back
    air = np.clip(-hu / 850, 0, 1) * lungs
    return hu + air * change.astype(np.float32)[None, :, None]


def rescan(hu: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Return HU (slice, row, column) as a thicker, smoother, noisier scan would give them.

    Streaks run from side to side, where the shoulders or the spine let few photons through.
    """
    if random.random() < 0.4:
        edge = random.uniform(0.1, 1 / 3)
        hu = ndimage.convolve1d(hu, [edge, 1 - 2 * edge, edge], axis=0, mode="nearest")
    blur = random.uniform(0.3, 2.0) if random.random() < 0.6 else 0.0
    noise_hu = random.uniform(0, 45) if random.random() < 0.5 else 0.0
    grain = random.uniform(0.4, 1.2)
    streaks_hu = random.uniform(5, 40) if random.random() < 0.3 else 0.0
    planes = [_rescan_plane(plane, blur, noise_hu, grain, random) for plane in hu]
    return np.stack([_noisy(plane, streaks_hu, (12.0, 0.7), random) for plane in planes])


def _rescan_plane(
    plane: NDArray[np.float32],
    blur: float,
    noise_hu: float,
    grain: float,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    if blur:
        plane = np.asarray(cv2.GaussianBlur(plane, (0, 0), blur), dtype=np.float32)
    return _noisy(plane, noise_hu, (grain, grain), random)


def _noisy(
    plane: NDArray[np.float32],
    noise_hu: float,
    grain: tuple[float, float],
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Add noise of a standard deviation; ``grain`` in pixels along columns and along rows."""
    if not noise_hu:
        return plane
    noise = cv2.GaussianBlur(
        random.normal(size=plane.shape).astype(np.float32), (0, 0), grain[0], sigmaY=grain[1]
    )
    return plane + noise * np.float32(noise_hu / float(noise.std()))
