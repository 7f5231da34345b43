"""Makes the label file of a series: its frame, lungs and lesions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chestct.volume import Volume
from inference.reading.frame import Frame
from training.data import IGNORE, LEFT, RIGHT
from training.real_labels.lungs import lungs_of
from training.real_labels.planes import Mask
from training.real_labels.recipe import SeriesRecipe

_MARGIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RealLabels:
    """The labels of a real chest on its frame, arrays (slab, row, column).

    Attributes:
        hu: int16; AIR outside the body.
        body: bool: the patient.
        lungs: uint8: 0, ``RIGHT``, ``LEFT`` or ``IGNORE``.
        lesion: uint8: 0, 1 or ``IGNORE``.
        spacing: Distance of slabs, rows and columns in mm.
    """

    hu: NDArray[np.int16]
    body: Mask
    lungs: NDArray[np.uint8]
    lesion: NDArray[np.uint8]
    spacing: tuple[float, float, float]

    def save(self, path: Path) -> None:
        """Write the labels to an NPZ file at once, a key for each attribute."""
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                hu=self.hu,
                body=self.body,
                lungs=self.lungs,
                lesion=self.lesion,
                spacing=np.array(self.spacing),
            )
        partial.replace(path)

    def summary(self) -> dict[str, float]:
        """Return the volume in ml of each label."""
        voxel_ml = float(np.prod(self.spacing)) / 1000
        counted = {
            "right_ml": self.lungs == RIGHT,
            "left_ml": self.lungs == LEFT,
            "lungs_unknown_ml": self.lungs == IGNORE,
            "lesion_ml": self.lesion == 1,
            "lesion_unknown_ml": self.lesion == IGNORE,
        }
        return {name: round(float(mask.sum()) * voxel_ml, 1) for name, mask in counted.items()}


def labels_of(volume: Volume, recipe: SeriesRecipe) -> RealLabels:
    """Return the labels of a series: its lungs outlined and corrected, its lesions as recorded.

    Raises:
        ValueError: The recipe's seed lies in no airway: it is the recipe of another series.
    """
    hu, body, spacing = _body_alone(Frame.of(volume))
    excluded = np.zeros(hu.shape, dtype=bool)
    for region in recipe.no_lung:
        excluded |= region.mask(hu.shape)
    lungs = lungs_of(hu, body, spacing, recipe.settings, excluded)
    for edit in recipe.lungs:
        edit.apply(lungs, hu, body)
    lesion = np.where(lungs == IGNORE, np.uint8(IGNORE), np.uint8(0))
    for edit in recipe.lesions:
        edit.apply(lesion, hu, (lungs == RIGHT) | (lungs == LEFT))
    return RealLabels(hu=hu, body=body, lungs=lungs, lesion=lesion, spacing=spacing)


def _body_alone(frame: Frame) -> tuple[NDArray[np.int16], Mask, tuple[float, float, float]]:
    """Return HU, body and voxel size of a frame, cut to the body and a margin of air.

    The voxels of a recipe count from this corner, which does not depend on the grid of the
    networks.
    """
    spans = []
    for axes in ((0, 2), (0, 1)):
        marked = np.flatnonzero(np.any(frame.body, axis=axes))
        spans.append(slice(max(0, int(marked[0]) - _MARGIN), int(marked[-1]) + 1 + _MARGIN))
    part = (slice(None), *spans)
    hu = np.ascontiguousarray(frame.volume.hu[part])
    return hu, np.ascontiguousarray(frame.body[part]), frame.volume.geometry.spacing
