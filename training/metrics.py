"""Compares a mask with the truth: overlap, distance of the surfaces, true and false lesions.

Masks are bool, of any number of dimensions; both are on one grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

HIT_SHARE = 0.1
"""A true lesion counts as found if this part of it is marked; a marked lesion likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How two masks overlap.

    Attributes:
        dice: 1 when both masks are empty.
        sensitivity: Part of the truth that is marked; None without truth.
        precision: Part of what is marked that is true; None where nothing is marked.
    """

    dice: float
    sensitivity: float | None
    precision: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """How far two surfaces are apart, in the units of the spacing.

    Attributes:
        average: Mean over both surfaces of the distance to the other one.
        most: The 95th percentile of those distances, of the surface for which it is larger.
    """

    average: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionCount:
    """Connected lesions: ``hit`` of the ``true`` ones, ``false`` of the ``marked`` ones."""

    true: int
    hit: int
    marked: int
    false: int


def dice(mine: Mask, truth: Mask) -> float:
    """Return the Dice coefficient; 1 when both masks are empty."""
    both = int(mine.sum()) + int(truth.sum())
    return 2 * int((mine & truth).sum()) / both if both else 1.0


def overlap(mine: Mask, truth: Mask) -> Overlap:
    """Compare two masks voxel by voxel."""
    common, marked, true = (int(one.sum()) for one in (mine & truth, mine, truth))
    return Overlap(
        dice=dice(mine, truth),
        sensitivity=common / true if true else None,
        precision=common / marked if marked else None,
    )


@dataclass(frozen=True, slots=True)
class Gaps:
    """Distances from each voxel of a surface to the other surface: mine to truth, and back."""

    mine: NDArray[np.float64]
    truth: NDArray[np.float64]


def surface_gaps(mine: Mask, truth: Mask, spacing: Sequence[float]) -> Gaps | None:
    """Measure between the outermost voxels of two masks; None where one of them is empty.

    Args:
        mine: One mask.
        truth: The other one.
        spacing: Size of a voxel along each axis, in the units of the answer.
    """
    if not mine.any() or not truth.any():
        return None
    (box,) = ndimage.find_objects((mine | truth).astype(np.uint8))
    borders = [_border(mask[box]) for mask in (mine, truth)]
    to_mine, to_truth = (
        ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders
    )
    return Gaps(mine=to_truth[borders[0]], truth=to_mine[borders[1]])


def _border(mask: Mask) -> Mask:
    border: Mask = mask & ~ndimage.binary_erosion(mask)
    return border


def distances(gaps: Sequence[Gaps]) -> Distances | None:
    """Summarise the surfaces of one scan, which may come slice by slice; None without any."""
    if not gaps:
        return None
    mine = np.concatenate([one.mine for one in gaps])
    truth = np.concatenate([one.truth for one in gaps])
    return Distances(
        average=float(np.concatenate([mine, truth]).mean()),
        most=float(max(np.percentile(mine, 95), np.percentile(truth, 95))),
    )


def count_lesions(mine: Mask, truth: Mask, smallest: int) -> LesionCount:
    """Count connected lesions (diagonals connect) of at least ``smallest`` voxels.

    A true one is hit when at least :data:`HIT_SHARE` of it is marked; a marked one is false
    when less than that of it is true. Smaller ones are neither counted nor held against it.
    """
    hit = _shares(truth, mine, smallest) >= HIT_SHARE
    right = _shares(mine, truth, smallest) >= HIT_SHARE
    return LesionCount(
        true=hit.size, hit=int(hit.sum()), marked=right.size, false=int((~right).sum())
    )


def false_lesions(mine: Mask, truth: Mask, smallest: int) -> Mask:
    """Return the marked lesions that :func:`count_lesions` calls false."""
    labels, sizes = _components(mine)
    common = np.bincount(labels[truth], minlength=sizes.size)
    false = (sizes >= smallest) & (common < HIT_SHARE * sizes)
    false[0] = False
    found: Mask = false[labels]
    return found


def _shares(mask: Mask, other: Mask, smallest: int) -> NDArray[np.float64]:
    """Return the part of each large enough component of ``mask`` that lies in ``other``."""
    labels, sizes = _components(mask)
    common = np.bincount(labels[other], minlength=sizes.size)
    large = sizes >= smallest
    large[0] = False
    return common[large] / sizes[large]


def _components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return labels, and the size of each label from 0 (background) on."""
    around = ndimage.generate_binary_structure(mask.ndim, mask.ndim)
    labels, count = ndimage.label(mask, structure=around, output=np.int32)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)
