"""The perturbations of the robustness table, each with the change that it allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from chestct.geometry import Geometry
from chestct.volume import Volume
from training.robustness import greys, grids

Labels = NDArray[np.uint8]

_SEED = 1
_KERNEL = 0.25
"""Kernels of one acquisition differ by this part of the lesion volume even for a reader."""
_SAME = 0.001
"""The same patient stored in another way has the same result, but for rounding."""


def _everywhere(labels: Labels, _geometry: Geometry) -> Labels:
    return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """A change of a volume after which the reading should be the same.

    Attributes:
        change: Returns the changed volume; None if it does not apply to the volume.
        visible: Returns the labels of the unchanged volume that the changed volume still shows.
        lesion_change: Largest relative change of the lesion volume.
        lung_change: Largest relative change of the lung volume.
    """

    name: str
    change: Callable[[Volume], Volume | None]
    visible: Callable[[Labels, Geometry], Labels] = _everywhere
    lesion_change: float = 0.15
    lung_change: float = 0.05


def _field_of_view(share: float) -> Perturbation:
    def visible(labels: Labels, _geometry: Geometry) -> Labels:
        rows, columns = grids.central(labels.shape, share)
        return labels[:, rows, columns]

    return Perturbation(
        name=f"fov-{share * 100:.0f}", change=partial(grids.cropped, share=share), visible=visible
    )


def _in_circle(labels: Labels, geometry: Geometry) -> Labels:
    return np.where(grids.circle(geometry), labels, np.uint8(0))


def _noise(sd: int) -> Perturbation:
    return Perturbation(name=f"noise-{sd}", change=partial(greys.noisy, sd=sd, seed=_SEED))


def _matrix(size: int) -> Perturbation:
    return Perturbation(name=f"matrix-{size}", change=partial(grids.of_matrix, size=size))


PERTURBATIONS = (
    Perturbation(
        name="kernel-smooth", change=partial(greys.blurred, sigma=1.0), lesion_change=_KERNEL
    ),
    Perturbation(
        name="kernel-sharp",
        change=partial(greys.sharpened, sigma=1.0, amount=1.0),
        lesion_change=_KERNEL,
    ),
    _noise(20),
    _noise(40),
    _noise(80),
    Perturbation(name="hu+30", change=partial(greys.shifted, hu=30)),
    Perturbation(name="hu-30", change=partial(greys.shifted, hu=-30)),
    _field_of_view(0.85),
    _field_of_view(0.7),
    Perturbation(name="circle", change=grids.encircled, visible=_in_circle),
    _matrix(256),
    _matrix(1024),
    Perturbation(name="slices-thin", change=partial(grids.thinner, most_mm=1.25)),
    Perturbation(name="slices-5mm", change=partial(grids.thicker, mm=5.0)),
    Perturbation(name="mirrored", change=grids.mirrored),
    Perturbation(name="prone", change=grids.prone),
    Perturbation(
        name="rows-flipped",
        change=grids.stored_upside_down,
        lesion_change=_SAME,
        lung_change=_SAME,
    ),
    Perturbation(
        name="stored-turned", change=grids.stored_turned, lesion_change=_SAME, lung_change=_SAME
    ),
    Perturbation(name="low-dose", change=partial(greys.low_dose, sd=50, seed=_SEED)),
)
"""All perturbations, in the order of the table."""
