"""Makes training slices from phantoms: true HU, exact truth, lesion-free lungs."""

from __future__ import annotations

import numpy as np

from phantom import Kernel, LesionKind, LesionSpec, PhantomSpec, make_thorax
from training.data import LEFT, RIGHT, SliceSet
from training.framed import framed, set_of

PREFIX = "phantom-"


def random_lesions(random: np.random.Generator) -> tuple[LesionSpec, ...]:
    """Draw up to seven lesions, mostly basal, posterior and subpleural."""
    return tuple(
        LesionSpec(
            kind=LesionKind.GROUND_GLASS if random.random() < 0.65 else LesionKind.CONSOLIDATION,
            side=str(random.choice(["left", "right"])),
            center=(
                random.uniform(0.12, 0.8),
                random.beta(3, 1.4),
                random.beta(2, 1.2),
            ),
            radius_mm=tuple(random.uniform(7, 36, 3)),
        )
        for _ in range(random.integers(1, 8))
    )


def random_spec(seed: int, *, lesions: bool) -> PhantomSpec:
    """Draw a patient and a scanner."""
    random = np.random.default_rng((seed, 100))
    return PhantomSpec(
        shape=(60, 256, 256),
        slice_spacing_mm=5.0,
        pixel_spacing_mm=random.uniform(1.3, 1.7),
        first_slice_mm=-165.0,
        noise_hu=random.uniform(4, 30),
        kernel=Kernel.SHARP if random.random() < 0.5 else Kernel.SOFT,
        seed=seed,
        lesions=random_lesions(random) if lesions else (),
    )


def phantom_slices(seeds: range) -> SliceSet:
    """Return the slices of one phantom per seed; every third phantom has no lesion."""
    scans = []
    for seed in seeds:
        thorax = make_thorax(random_spec(seed, lesions=seed % 3 != 0))
        sides = np.where(thorax.right_lung, RIGHT, np.where(thorax.left_lung, LEFT, 0))
        scans.append(framed(thorax.volume(), sides.astype(np.uint8), thorax.lesion > 0))
    return set_of(scans, [f"{PREFIX}{seed}" for seed in seeds])
