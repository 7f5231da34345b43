"""Detects a series whose images come from several scans of the same region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chestct.errors import RejectReason, SeriesRejected
from inference.loading.elements import integer
from inference.loading.frames import Frame

_UNEVEN = frozenset({RejectReason.DUPLICATE_POSITIONS, RejectReason.VARIABLE_SPACING})
"""The symptoms of two scans under one Series Instance UID."""
_LEAST_IMAGES = 4
"""Images of an acquisition, on average: step-and-shoot scanners number each rotation."""
_SHOWN = 4
"""Acquisitions that a rejection lists."""


@dataclass(frozen=True, slots=True)
class Acquisitions:
    """The Acquisition Number of every image, in the order of the images; None if missing."""

    numbers: tuple[int | None, ...]

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> Acquisitions:
        """Read the numbers; a value that is not an integer counts as missing."""
        return cls(tuple(integer(frame.dataset, "AcquisitionNumber") for frame in frames))

    def named_in(self, rejection: SeriesRejected) -> SeriesRejected:
        """Return the rejection with the acquisitions named, if they may be the cause."""
        if rejection.reason not in _UNEVEN or not self._several():
            return rejection
        return SeriesRejected(rejection.reason, f"{rejection}; {self._summary()}")

    def require_apart(self, order: Sequence[int]) -> None:
        """Reject acquisitions whose slices alternate: the patient breathed between them.

        Raises:
            SeriesRejected: At least every second neighbour belongs to another acquisition.
        """
        placed = [self.numbers[index] for index in order]
        changes = sum(before != after for before, after in pairwise(placed))
        if self._several() and 2 * changes >= len(placed):
            raise SeriesRejected(
                RejectReason.SEVERAL_VOLUMES,
                f"{self._summary()}, and their slices alternate: send one acquisition per series",
            )

    def _several(self) -> bool:
        count = len(set(self.numbers))
        return None not in self.numbers and 1 < count <= len(self.numbers) / _LEAST_IMAGES

    def _summary(self) -> str:
        sizes = sorted(Counter(self.numbers).items(), key=str)
        listed = ", ".join(f"{number}: {count} images" for number, count in sizes[:_SHOWN])
        more = f" and {len(sizes) - _SHOWN} more" if len(sizes) > _SHOWN else ""
        return f"the series holds {len(sizes)} acquisitions (Acquisition Number {listed}{more})"
