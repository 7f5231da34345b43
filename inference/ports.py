"""The interfaces between the analysis and its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chestct.method import Method
from chestct.results import ModelIdentity
from chestct.volume import Volume

Box = tuple[slice, slice, slice]
"""A part of a volume's grid: slices, rows and columns, each with start and stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRule:
    """The rule that decides from lesion probabilities whether a scan has a lesion.

    Attributes:
        certainty: The probability from which a voxel of the lungs counts as marked with certainty.
        volume_ml: The volume marked with certainty from which a scan is positive. Validation data
            choose both values.
        stride: The decision reads every ``stride``-th slice of the lungs.
    """

    certainty: float
    volume_ml: float
    stride: int


class Reader(Protocol):
    """Reads a volume with a model; it may cache results."""

    def probabilities(self, slices: Sequence[int], least: float = 0.0) -> NDArray[np.float32]:
        """Return float32 (len(slices), classes, rows, columns), 0..1.

        The probabilities are on the volume's grid, for the given slice indices. Outside the
        reader's box they are meaningless. Those below ``least`` may be too low: a network that
        reads twice reads a slice only once when no mean of both readings can reach ``least``.
        """

    def unfinished(self, slices: Sequence[int]) -> list[int]:
        """Return those of the slices that were read, but whose probabilities may be too low."""


class SegmentationModel(Protocol):
    """A network with its contract, such as :class:`inference.networks.session.OnnxModel`."""

    @property
    def identity(self) -> ModelIdentity:
        """The name, version and digest that the results state."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in order: right and left, or lesion."""

    @property
    def threshold(self) -> float:
        """The least probability with which a voxel belongs to a class."""

    @property
    def presence(self) -> PresenceRule | None:
        """The rule for the presence decision; lesion models only."""

    @property
    def minimum_lesion_ml(self) -> float:
        """Smaller connected lesions are dropped."""

    @property
    def minimum_lesion_hu(self) -> float | None:
        """Less dense voxels are not lesion; None: density does not matter."""

    @property
    def coarsest_mm(self) -> float | None:
        """The largest pixel size that the network can read, mm; None: any."""

    @property
    def reads_body(self) -> bool:
        """Whether it reads a frame (:mod:`inference.reading.frame`); else the volume itself."""

    def reader(self, volume: Volume, box: Box | None = None) -> Reader:
        """Return a reader of a volume in canonical orientation, within ``box`` (default: all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSet:
    """The networks of an analysis and the provider that runs them.

    Attributes:
        lungs: Has the classes right and left.
        lesions: Has the class lesion.
        refused: The providers that come before ``provider``, each with the reason why it is not
            used.
        self_test: The outcome of each network's self-test.
    """

    lungs: SegmentationModel
    lesions: SegmentationModel
    provider: str
    refused: tuple[str, ...] = ()
    self_test: tuple[str, ...] = ()

    @property
    def networks(self) -> tuple[SegmentationModel, SegmentationModel]:
        """Both networks: lungs, lesions."""
        return self.lungs, self.lesions

    def method(self, base: Method) -> Method:
        """Return ``base`` with the thresholds of the lesion model's manifest."""
        return replace(
            base,
            minimum_lesion_ml=self.lesions.minimum_lesion_ml,
            minimum_lesion_hu=self.lesions.minimum_lesion_hu,
        )
