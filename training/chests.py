"""Training slices of real chests in HU, as the frame shows them to the networks.

A chest with labels (``label-chest``) becomes one scan per seed: another breath, another
reconstruction, another field of view, and opacities painted into its lungs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.volume import Volume
from inference.loading.pixels import AIR_HU
from phantom.volume import canonical_volume
from training.data import IGNORE, SliceSet
from training.grey import CANVAS, as_stored, on_canvas, to_grey
from training.opacities import Spacing, paint
from training.rescan import rebreathe, rescan
from training.scenes import Scene, draw_scene

PREFIX = "chest-"
_CUT_SHARE = 0.25
"""Part of the scans whose field of view cuts the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledChest:
    """A real chest on its frame, axes (slab, row, column) in canonical orientation.

    Attributes:
        hu: int16; air outside the body.
        body: bool.
        lungs: uint8: 0, RIGHT, LEFT, or IGNORE where nobody can tell.
        lesion: uint8: 0, 1, or IGNORE.
        spacing: Size of a voxel, mm.
    """

    name: str
    hu: NDArray[np.int16]
    body: NDArray[np.bool_]
    lungs: NDArray[np.uint8]
    lesion: NDArray[np.uint8]
    spacing: Spacing


def load_chest(path: Path) -> LabelledChest:
    """Read a file of ``label-chest``."""
    with np.load(path) as file:
        slab, row, column = (float(step) for step in file["spacing"])
        return LabelledChest(
            name=path.stem,
            hu=file["hu"],
            body=file["body"],
            lungs=file["lungs"],
            lesion=file["lesion"],
            spacing=(slab, row, column),
        )


def load_chests(places: Iterable[Path]) -> Iterator[LabelledChest]:
    """Read files of ``label-chest``; a folder stands for all files in it, by name."""
    for place in places:
        for path in sorted(place.glob("*.npz")) if place.is_dir() else (place,):
            yield load_chest(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One scan of a chest; axes as in :class:`LabelledChest`."""

    hu: NDArray[np.float32]
    lungs: NDArray[np.uint8]
    lesion: NDArray[np.uint8]


def make_scan(
    chest: LabelledChest, depth: NDArray[np.float32], seed: int, scene: Scene | None = None
) -> Scan:
    """Scan a chest anew; without a ``scene`` every third seed paints no opacity.

    Args:
        chest: The chest.
        depth: The :func:`depth_in` of its lungs.
        seed: Decides everything else.
        scene: The kind of opacities to paint; None: the seed decides.
    """
    random = np.random.default_rng((seed, 500))
    hu = rebreathe(chest.hu.astype(np.float32), depth > 0, random)
    lesion = chest.lesion.copy()
    if scene is not None or seed % 3 != 0:
        grain = float(random.uniform(8, 45))
        for opacity, part in draw_scene(depth, chest.lungs, chest.spacing, random, scene):
            lesion[paint(hu, part, chest.spacing, opacity, grain)] = 1
    hu = rescan(hu, random, chest.spacing) + np.float32(random.uniform(-30, 30))
    seen = chest.body & _field_of_view(hu.shape, random)
    return Scan(
        hu=np.where(seen, hu, np.float32(AIR_HU)),
        lungs=np.where(seen, chest.lungs, np.uint8(0)),
        lesion=np.where(seen, lesion, np.uint8(0)),
    )


def volume_of(hu: NDArray[np.number[Any]], spacing: Spacing) -> Volume:
    """Return the HU of a chest or scan as the loader would give them."""
    return canonical_volume(as_stored(hu), spacing, (0.0, 0.0, 0.0))


def depth_in(lungs: NDArray[np.uint8], spacing: Spacing) -> NDArray[np.float32]:
    """Return the distance of each lung voxel from the surface of its lung, mm; 0 outside."""
    depth = np.zeros(lungs.shape, dtype=np.float32)
    for side in np.setdiff1d(np.unique(lungs), (0, IGNORE)):
        depth += ndimage.distance_transform_edt(lungs == side, sampling=spacing)
    return depth


def _field_of_view(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.bool_]:
    """Return the part of a plane that the scan shows: all, or a smaller box or circle."""
    rows, columns = shape[1:]
    if random.random() >= _CUT_SHARE:
        return np.ones((rows, columns), dtype=bool)
    share = random.uniform(0.7, 1.0)
    y = np.abs(np.linspace(-1, 1, rows) - random.uniform(-0.1, 0.1))[:, None]
    x = np.abs(np.linspace(-1, 1, columns) - random.uniform(-0.1, 0.1))[None]
    if random.random() < 0.5:
        box: NDArray[np.bool_] = (y <= share) & (x <= share)
        return box
    radius = share * max(rows, columns) / 2
    circle: NDArray[np.bool_] = (y * rows / 2) ** 2 + (x * columns / 2) ** 2 <= radius**2
    return circle


def chest_slices(chests: Iterable[LabelledChest], seeds: range) -> SliceSet:
    """Return training slices: one scan of each chest per seed."""
    images, lungs, lesions, counts, names = [], [], [], [], []
    for chest in chests:
        depth = depth_in(chest.lungs, chest.spacing)
        for seed in seeds:
            scan = make_scan(chest, depth, seed)
            shift = np.random.default_rng((seed, 501)).integers(-24, 25, 2)
            images.append(on_canvas(to_grey(scan.hu), shift))
            lungs.append(on_canvas(scan.lungs, shift))
            lesions.append(on_canvas(scan.lesion, shift))
            counts.append(len(scan.hu))
            names.append(f"{PREFIX}{chest.name}-{seed}")
    if not names:
        empty = np.zeros((0, CANVAS, CANVAS), dtype=np.uint8)
        images, lungs, lesions = [empty], [empty], [empty]
    truth = np.concatenate(lesions)
    return SliceSet(
        images=np.concatenate(images),
        lungs=np.concatenate(lungs),
        lesions=truth == 1,
        unknown=truth == IGNORE,
        volumes=np.repeat(np.arange(len(counts)), counts),
        names=tuple(names),
    )
