"""Paints synthetic opacities into real lungs: cases with exact truth for the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chestct.volume import Volume
from inference.networks.session import load_models
from inference.ports import SegmentationModel
from training.grey import as_stored
from training.opacities import draw_opacities, paint, pleural_depth
from training.real import Chest, lesion_free_parts, read_volume


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


def _case(chest: Chest, depth: NDArray[np.float32], seed: int) -> SyntheticCase:
    """Paint the opacities of ``seed``."""
    hu, spacing = chest.volume.hu.astype(np.float32), chest.volume.geometry.spacing
    random = np.random.default_rng((seed, 200))
    grain = float(random.uniform(8, 45))
    opacities = draw_opacities(depth, spacing, random) if seed % 3 else ()
    lesion = np.zeros(hu.shape, dtype=bool)
    for opacity in opacities:
        lesion |= paint(hu, depth, spacing, opacity, grain)
    return SyntheticCase(
        name=f"{chest.name} seed {seed}",
        volume=replace(chest.volume, hu=as_stored(hu)),
        lesion=lesion,
        lungs=chest.inside(),
        seed=seed,
        kinds=tuple(str(opacity.texture) for opacity in opacities),
    )
