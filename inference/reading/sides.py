"""Assigns parts of the lungs to the patient's sides, and decides whether a side is assessable.

The limit of a quarter: of 19 segments, 10 are right and 9 left. A lobectomy leaves at least 3
segments beside a whole lung (an upper right lobe beside 9), a third of the partner, and the rest
expands. Of eight real chests the most unequal pair has a ratio of 0.49 (a collapsed upper lobe),
the next 0.64. Below a quarter most of the lung is missing from the volume, so a percent of it
would be meaningless.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chestct.errors import RejectReason, SeriesRejected
from chestct.findings import NotAssessable, Side
from chestct.geometry import Geometry
from chestct.volume import Label, Volume
from inference.reading.postprocess import components

AERATED_HU = -400.0
"""Aerated lung is below; fat, muscle and consolidation are above."""
_LEAST_LUNG_ML = 100.0
"""Least aerated volume of a lung; both lungs of a newborn hold as much."""
_LEAST_OF_OTHER = 0.25
_LEAST_PART_ML = 1.0
"""A smaller part of a lung is an island; in eight real chests no island is above 0.5 ml."""
_MEDIASTINUM_MM = 15.0
"""Voxels closer to the midline are never on the wrong side."""
_BEND_MM = 40.0
"""The midline of a slice is the median over this distance above and below: spines are crooked, and
an arm may lie against one side."""
_SIDES = {Label.LEFT_LUNG: Side.LEFT, Label.RIGHT_LUNG: Side.RIGHT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The lung that is not assessable, and the aerated volume of the other lung."""

    side: Side
    lung: NotAssessable
    other_ml: float

    @property
    def label(self) -> Label:
        """The label of its voxels before they are cleared."""
        return Label.LEFT_LUNG if self.side is Side.LEFT else Label.RIGHT_LUNG

    @property
    def flag(self) -> str:
        """The note for the reader of the result."""
        return (
            f"the {self.side} lung is not assessable (white, collapsed or gone): "
            f"{self.lung.reason} beside {self.other_ml:.0f} ml on the other side; "
            "the result states no percent of both lungs"
        )


def halves_of(body: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.uint8]:
    """Return the side of each column: uint8 (slice, 1, column), 0 within 15 mm of the midline.

    The midline is the middle of the body, not of the image: patients do not lie in its centre.
    """
    count, _, columns = body.shape
    middle = np.full(count, np.nan)
    for index, plane in enumerate(body):
        across = np.flatnonzero(plane.any(axis=0))
        if across.size:
            middle[index] = (across[0] + across[-1]) / 2
    reach = max(1, round(_BEND_MM / geometry.slice_spacing))
    halves = np.zeros((count, 1, columns), np.uint8)
    margin = _MEDIASTINUM_MM / geometry.pixel_spacing[1]
    for index, line in enumerate(halves[:, 0]):
        near = middle[max(0, index - reach) : index + reach + 1]
        if np.isnan(near).all():
            continue
        off = np.arange(columns) - np.nanmedian(near)
        line[off > margin] = Label.LEFT_LUNG
        line[off < -margin] = Label.RIGHT_LUNG
    return halves


def drop_strays(sides: NDArray[np.uint8], halves: NDArray[np.uint8], voxel_ml: float) -> None:
    """Remove islands, and relabel parts that lie on the other side of the patient."""
    found = sides.copy()
    for label, other in zip(_SIDES, reversed(_SIDES), strict=True):
        own = found == label
        parts, count = components(own)
        if not count:
            continue
        numbers, opposite = parts[own], np.broadcast_to(halves == other, own.shape)[own]
        sizes = np.bincount(numbers, minlength=count + 1)
        across = np.bincount(numbers[opposite], minlength=count + 1)
        island, astray = sizes * voxel_ml < _LEAST_PART_ML, 2 * across > sizes
        kept = np.where(astray, np.uint8(other), np.uint8(label))
        kept[island] = Label.BACKGROUND
        sides[own] = kept[numbers]


def find_missing(sides: NDArray[np.uint8], volume: Volume) -> Missing | None:
    """Return the lung with too little air to be assessed; None: both lungs are assessable.

    Raises:
        SeriesRejected: Neither lung is assessable.
    """
    air = volume.hu < AERATED_HU
    aerated = {
        label: float(((sides == label) & air).sum()) * volume.geometry.voxel_ml for label in _SIDES
    }
    most = max(aerated.values())
    if most < _LEAST_LUNG_ML:
        raise SeriesRejected(
            RejectReason.LUNG_NOT_ASSESSABLE,
            f"neither lung is assessable: {aerated[Label.LEFT_LUNG]:.0f} ml of the left and "
            f"{aerated[Label.RIGHT_LUNG]:.0f} ml of the right hold air, at least "
            f"{_LEAST_LUNG_ML:.0f} ml are needed",
        )
    label = min(aerated, key=lambda side: aerated[side])
    needed = max(_LEAST_LUNG_ML, _LEAST_OF_OTHER * most)
    if aerated[label] >= needed:
        return None
    lung = NotAssessable(aerated_ml=aerated[label], needed_ml=needed)
    return Missing(side=_SIDES[label], lung=lung, other_ml=most)
