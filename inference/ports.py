"""What the analysis asks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chestct.results import ModelIdentity
from chestct.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRule:
    """How lesion probabilities decide whether there is a lesion at all.

    Attributes:
        top_area_mm2: A slice scores the mean of its highest probabilities inside the lungs
            over this area: a spot smaller than that cannot score 1.
        slices: The scan scores the mean of its so many best slices.
        stride: The decision looks at every so many-th slice of the lungs.
        operating_point: The score from which on a scan counts as positive; chosen on
            validation data.
    """

    top_area_mm2: float
    slices: int
    stride: int
    operating_point: float


class SegmentationModel(Protocol):
    """A network with its contract; :class:`inference.session.OnnxModel` is the real one."""

    @property
    def identity(self) -> ModelIdentity:
        """Who made the labels."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the channels, in order."""

    @property
    def threshold(self) -> float:
        """The probability from which on a voxel belongs to a class."""

    @property
    def presence(self) -> PresenceRule | None:
        """The rule for the presence decision; only lesion models have one."""

    def probabilities(self, volume: Volume, slices: Sequence[int]) -> NDArray[np.float32]:
        """Return float32 (len(slices), classes, rows, columns), 0..1.

        On the volume's own grid and in its own orientation, for the given slice indices.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSet:
    """The networks of an analysis and what they run on.

    ``lungs`` has the classes background, right and left; ``lesions`` has lesion.
    """

    lungs: SegmentationModel
    lesions: SegmentationModel
    provider: str
