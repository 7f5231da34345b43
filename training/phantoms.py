"""Makes training slices from phantoms: true HU, exact truth, lesion-free lungs."""

from __future__ import annotations

import numpy as np

from inference.networks.manifest import InputContract
from phantom import Kernel, LesionKind, LesionSpec, PhantomSpec, make_thorax
from training.data import LEFT, RIGHT, SliceSet
from training.grey import to_grey

LIVE_INPUT = InputContract(
    rows=256,
    columns=256,
    context=3,
    context_mm=4.0,
    window=(-1024.0, 600.0),
    clahe_clip=7.0,
    clahe_tiles=8,
)
"""The steps before the networks on live CT. The window was chosen because with it lung,
opacity and soft tissue of true-HU series come out as bright as in the CLAHE-processed
training slices (see docs/model/data.md)."""

PREFIX = "phantom-"


def jitter(contract: InputContract, random: np.random.Generator) -> InputContract:
    """Return the contract with a random window near its own and a random CLAHE clip limit.

    A limit of 1 hardly equalises, so a wide even opacity still stands out, which strong
    equalisation hides. Beyond 4.5 the images look like the 8-bit training slices.
    """
    low, high = contract.window
    window = (low + random.uniform(-60, 60), high + random.uniform(-200, 250))
    clip = random.uniform(1.0, 3.0) if random.random() < 0.5 else random.uniform(3.0, 9.5)
    return contract.model_copy(update={"window": window, "clahe_clip": clip})


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
    """Return the slices of one phantom per seed; every third phantom has no lesion.

    Each phantom has its own window and CLAHE clip limit.
    """
    images, lungs, lesions, volumes = [], [], [], []
    for number, seed in enumerate(seeds):
        thorax = make_thorax(random_spec(seed, lesions=seed % 3 != 0))
        contract = jitter(LIVE_INPUT, np.random.default_rng((seed, 101)))
        images += [to_grey(plane, contract) for plane in thorax.hu]
        sides = np.where(thorax.right_lung, RIGHT, np.where(thorax.left_lung, LEFT, 0))
        lungs.append(sides.astype(np.uint8))
        lesions.append(thorax.lesion > 0)
        volumes += [number] * len(thorax.hu)
    return SliceSet(
        images=np.stack(images),
        lungs=np.concatenate(lungs),
        lesions=np.concatenate(lesions),
        volumes=np.array(volumes, dtype=np.int64),
        names=tuple(f"{PREFIX}{seed}" for seed in seeds),
    )
