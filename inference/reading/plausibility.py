"""Rejects implausible lungs, and flags doubts about plausible lungs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chestct.errors import RejectReason, SeriesRejected
from chestct.findings import End, Side
from chestct.volume import Label, Volume

_LEAST_LUNGS_ML = 400.0
_MOST_LUNGS_ML = 10_000.0
_MOST_LUNG_ML = 6_000.0
"""Of both lungs and of one lung. Total lung capacity is 7.99 h - 7.08 +- 1.15 l (95 %) in men
(Quanjer et al., Eur Respir J 1993;6 Suppl 16:5-40): 8.5 l at most at 1.8 m, and 10 l above 1.98 m
only; a lung is little more than half of it. A larger outline includes air outside the lungs."""
_SMALL_LUNG_ML = 300.0
_CUT_MM2 = 800.0
"""Area of lung in the first or last slab from which the scan may have cut the lungs."""
_DENSE_HU = -550.0
"""Median density of a lung that must not be called clear. The median of 16 lungs of eight real
chests lies between -872 and -698 HU, also at low dose and in a shallow breath. The lesion network
compares opacity with the lung around it: of whole lungs that were painted with ground-glass of
-490 HU it marked almost nothing."""
_UNEVEN_MM = 30.0
"""Difference of the lower ends of both lungs from which the higher base may hold no air. It is 0 to
21 mm in seven of eight real chests; in the eighth, of 48 mm, a lobe has collapsed. With the left
base painted solid (436 ml) it is 44 mm."""
_LEAST_END_MM2 = 200.0
"""Least area of a lung in the lowest slab that counts as its end."""
_SIDES = (Label.LEFT_LUNG, Label.RIGHT_LUNG)


def require_plausible(sides: NDArray[np.uint8], volume: Volume) -> None:
    """Reject lungs that are too small or too large.

    Raises:
        SeriesRejected: Too little lung is labelled for a chest, or more than anybody has.
    """
    found = float((sides > 0).sum()) * volume.geometry.voxel_ml
    if found < _LEAST_LUNGS_ML:
        raise SeriesRejected(
            RejectReason.NO_LUNGS,
            f"only {found:.0f} ml of lung were found, at least {_LEAST_LUNGS_ML:.0f} ml are "
            "needed: the series does not look like a chest",
        )
    parts: list[tuple[str, float, float]] = [("the lungs", found, _MOST_LUNGS_ML)]
    for label, name in zip(_SIDES, ("the left lung", "the right lung"), strict=True):
        parts.append(
            (name, float((sides == label).sum()) * volume.geometry.voxel_ml, _MOST_LUNG_ML)
        )
    for name, ml, most in parts:
        if ml > most:
            raise SeriesRejected(
                RejectReason.IMPLAUSIBLE_LUNGS,
                f"{name} would hold {ml:.0f} ml, more than the largest plausible {most:.0f} ml: "
                "the outline includes more than lung",
            )


def require_air(sides: NDArray[np.uint8], volume: Volume) -> None:
    """Reject a lung that is dense as a whole; call it where no opacity was found.

    Raises:
        SeriesRejected: Half of a lung is denser than aerated lung.
    """
    for label, name in zip(_SIDES, ("left", "right"), strict=True):
        own = volume.hu[sides == label]
        if own.size and (median := float(np.median(own))) > _DENSE_HU:
            raise SeriesRejected(
                RejectReason.LUNG_NOT_ASSESSABLE,
                f"the {name} lung is not assessable: its median density is {median:.0f} HU, that "
                f"of aerated lung is at most {_DENSE_HU:.0f} HU, but the network found no opacity "
                "in either lung; the disease may be diffuse, so a person must read the images",
            )


def flags_of(
    sides: NDArray[np.uint8], volume: Volume, assessed: Sequence[Label], cut: Sequence[End]
) -> tuple[str, ...]:
    """Flag the ends at which the scan may have ``cut`` the lungs, and small assessed lungs."""
    flags = []
    if cut:
        ends = " and the ".join(f"{end} end" for end in cut)
        flags.append(f"the lungs reach the {ends} of the scan: part may be missing")
    for label in assessed:
        name = "left" if label is Label.LEFT_LUNG else "right"
        if float((sides == label).sum()) * volume.geometry.voxel_ml < _SMALL_LUNG_ML:
            flags.append(f"the {name} lung is small or missing")
    return tuple(flags)


def ends_reached(sides: NDArray[np.uint8], volume: Volume) -> tuple[End, ...]:
    """Return the ends at which the scan may have cut the lungs; slices run from feet to head."""
    areas = _areas(sides[[-1, 0]] > Label.BACKGROUND, volume)
    return tuple(
        end for end, area in zip((End.HEAD, End.FEET), areas, strict=True) if area > _CUT_MM2
    )


def find_higher_base(sides: NDArray[np.uint8], volume: Volume) -> tuple[Side, float] | None:
    """Return the lung that ends far above the other, and by how many mm; None: both end alike.

    Consolidation, collapse or effusion at a base looks like abdomen to the networks.
    """
    lowest = []
    for label in _SIDES:
        slabs = np.flatnonzero(_areas(sides == label, volume) >= _LEAST_END_MM2)
        if not slabs.size:
            return None
        lowest.append(int(slabs[0]))
    left, right = lowest
    gap = abs(left - right) * volume.geometry.slice_spacing
    if gap <= _UNEVEN_MM:
        return None
    return (Side.LEFT if left > right else Side.RIGHT), gap


def _areas(mask: NDArray[np.bool_], volume: Volume) -> NDArray[np.float64]:
    """Return the area of a mask in each slice, mm²."""
    row, column = volume.geometry.pixel_spacing
    areas: NDArray[np.float64] = mask.sum(axis=(1, 2)) * (row * column)
    return areas


def doubts_about_sides(sides: NDArray[np.uint8], volume: Volume) -> tuple[str, ...]:
    """Flag labels of left and right that do not fit their positions; call it before correction."""
    left, right = (_middle(sides, label, volume) for label in _SIDES)
    if left is not None and right is not None and left <= right:
        return ("left and right lung could not be told apart reliably",)
    return ()


def _middle(sides: NDArray[np.uint8], label: Label, volume: Volume) -> float | None:
    """Return the LPS x of a lung's centroid, mm; the left lung has the larger one."""
    mask = sides == label
    if not mask.any():
        return None
    center = np.array([axis.mean() for axis in np.nonzero(mask)])
    return float(volume.geometry.to_patient(center[None])[0, 0])
