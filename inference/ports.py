"""What the analysis asks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chestct.findings import Method
from chestct.results import ModelIdentity
from chestct.volume import Volume

Box = tuple[slice, slice, slice]
"""A part of a volume's grid: slices, rows and columns, each with start and stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRule:
    """How lesion probabilities decide whether there is a lesion at all.

    Attributes:
        certainty: A voxel of the lungs with at least this probability is surely marked.
        volume_ml: So much of what is surely marked makes a scan positive; both are chosen on
            validation data.
        stride: The decision looks at every so many-th slice of the lungs.
    """

    certainty: float
    volume_ml: float
    stride: int


class Reader(Protocol):
    """A model at work on one volume; it may keep what it has computed."""

    def probabilities(self, slices: Sequence[int]) -> NDArray[np.float32]:
        """Return float32 (len(slices), classes, rows, columns), 0..1.

        On the volume's own grid and in its own orientation, for the given slice indices.
        Outside the box that the reader was made for they mean nothing.
        """


class SegmentationModel(Protocol):
    """A network with its contract; the real one: :class:`inference.networks.session.OnnxModel`."""

    @property
    def identity(self) -> ModelIdentity:
        """Who made the labels."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in order: right and left, or lesion."""

    @property
    def threshold(self) -> float:
        """The probability from which on a voxel belongs to a class."""

    @property
    def presence(self) -> PresenceRule | None:
        """The rule for the presence decision; only lesion models have one."""

    @property
    def minimum_lesion_ml(self) -> float:
        """Connected lesions smaller than this are to be dropped."""

    @property
    def minimum_lesion_hu(self) -> float | None:
        """Voxels that are less dense than this are no lesion; None: density is not asked."""

    @property
    def coarsest_mm(self) -> float | None:
        """The largest pixels that it can read, mm; None: any."""

    def reader(self, volume: Volume, box: Box | None = None) -> Reader:
        """Return a reader of the volume; only what lies in ``box`` matters (none: all)."""

    def outline_reader(self, volume: Volume, box: Box | None = None) -> Reader | None:
        """Return the reader whose mean with the other outlines lesions; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSet:
    """The networks of an analysis and what they run on.

    ``lungs`` has the classes right and left; ``lesions`` has lesion.
    """

    lungs: SegmentationModel
    lesions: SegmentationModel
    provider: str

    def method(self, base: Method) -> Method:
        """Return the thresholds with those that the lesion model's manifest states."""
        return replace(
            base,
            minimum_lesion_ml=self.lesions.minimum_lesion_ml,
            minimum_lesion_hu=self.lesions.minimum_lesion_hu,
        )
