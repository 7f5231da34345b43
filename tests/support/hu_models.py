"""Models without weights: lungs by Hounsfield units, or what is known of a phantom.

They answer as real ones do: on the volume's own grid, for the slices that were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.results import ModelIdentity
from chestct.volume import Volume
from inference.ports import Box, ModelSet, PresenceRule
from inference.reading.frame import Frame
from inference.reading.lungs import Lungs, delineate


@dataclass
class ReaderOf:
    """Asks a model about one volume."""

    model: LungsByHu | LesionsKnown
    volume: Volume

    def probabilities(self, slices: Sequence[int], least: float = 0.0) -> NDArray[np.float32]:
        """Return what the model says of the slices."""
        del least
        return self.model.probabilities(self.volume, slices)

    def unfinished(self, slices: Sequence[int]) -> list[int]:
        """Return no slices: the model reads each once."""
        del slices
        return []


RULE = PresenceRule(certainty=0.6, volume_ml=0.5, stride=2)


@dataclass
class LungsByHu:
    """Everything inside the body that is dark is lung; patient x decides the side.

    It takes airways and bowel gas for lung, and leaves consolidation out: what a network
    does at its worst, and what the delineation must repair.
    """

    classes: tuple[str, ...] = ("background", "right", "left")
    threshold: float = 0.5
    presence: PresenceRule | None = None
    identity: ModelIdentity = field(
        default_factory=lambda: ModelIdentity(name="hu", version="1", digest="0" * 64, licence="-")
    )

    minimum_lesion_ml: float = 0.0
    minimum_lesion_hu: float | None = None
    coarsest_mm: float | None = None
    reads_body: bool = False

    def reader(self, volume: Volume, box: Box | None = None) -> ReaderOf:
        """Return a reader of the whole volume."""
        del box
        return ReaderOf(self, volume)

    def probabilities(self, volume: Volume, slices: Sequence[int]) -> NDArray[np.float32]:
        """Return 0 or 1 (slice, class, row, column)."""
        found = np.zeros((len(slices), 3, *volume.geometry.shape[1:]), np.float32)
        columns = np.arange(volume.geometry.shape[2], dtype=float)
        middle = np.full_like(columns, volume.geometry.shape[1] / 2)
        x = volume.geometry.to_patient(np.stack([0 * columns, middle, columns], axis=1))[:, 0]
        for place, index in enumerate(slices):
            body = ndimage.binary_fill_holes(volume.hu[index] > -300)
            lung = body & (volume.hu[index] < -300)
            found[place, 1] = lung & (x < 0)
            found[place, 2] = lung & (x >= 0)
        found[:, 0] = 1 - found[:, 1] - found[:, 2]
        return found


@dataclass
class LungsKnown(LungsByHu):
    """A perfect network: the truth of a phantom, dense lesions included.

    ``sure`` is the probability that it gives to what is lung.
    """

    sure: float = 1.0
    left: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((1, 1, 1), bool))
    right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((1, 1, 1), bool))

    def probabilities(self, volume: Volume, slices: Sequence[int]) -> NDArray[np.float32]:
        """Return 0 or ``sure`` for both lungs, the rest for the background."""
        assert self.right.shape == volume.hu.shape
        right, left = (self.sure * side[list(slices)] for side in (self.right, self.left))
        return np.stack([1 - right - left, right, left], axis=1).astype(np.float32)


@dataclass
class LesionsKnown:
    """Knows the lesions of a phantom; ``read`` keeps the slices that were asked for."""

    lesion: NDArray[np.bool_]
    classes: tuple[str, ...] = ("lesion",)
    threshold: float = 0.5
    presence: PresenceRule | None = RULE
    identity: ModelIdentity = field(
        default_factory=lambda: ModelIdentity(name="hu", version="2", digest="1" * 64, licence="-")
    )
    read: list[int] = field(default_factory=list)
    minimum_lesion_ml: float = 0.1
    minimum_lesion_hu: float | None = None
    coarsest_mm: float | None = None
    reads_body: bool = False

    def reader(self, volume: Volume, box: Box | None = None) -> ReaderOf:
        """Return a reader of the whole volume."""
        del box
        return ReaderOf(self, volume)

    def probabilities(self, volume: Volume, slices: Sequence[int]) -> NDArray[np.float32]:
        """Return 0.9 or 0.1 (slice, 1, row, column)."""
        assert self.lesion.shape == volume.hu.shape
        self.read += slices
        return np.where(self.lesion[list(slices)][:, None], 0.9, 0.1).astype(np.float32)


def models(lungs: LungsByHu, lesions: LesionsKnown) -> ModelSet:
    """Return both as the analysis takes them."""
    return ModelSet(lungs=lungs, lesions=lesions, provider="none")


def lungs_of(volume: Volume, model: LungsByHu) -> Lungs:
    """Return the lungs that a model delineates, on the grid of the volume."""
    frame = Frame.of(volume)
    lungs = delineate(frame, volume, model, lambda _: None)
    return replace(
        lungs,
        labels=frame.restore_labels(lungs.labels),
        airless=frame.restore_labels(lungs.airless),
        within=frame.restore(lungs.within),
    )
