"""Whether the images of one series come from several scans of the same region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chestct.errors import RejectReason, SeriesRejected
from inference.loading.elements import integer
from inference.loading.frames import Frame

_UNEVEN = frozenset({RejectReason.DUPLICATE_POSITIONS, RejectReason.VARIABLE_SPACING})
"""What two scans under one Series Instance UID look like."""
_LEAST_IMAGES = 4
"""Of an acquisition, on average: scanners that step number each rotation."""
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Acquisitions:
    """The Acquisition Number of every image, in the order of the images; None without."""

    numbers: tuple[int | None, ...]

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> Acquisitions:
        """Read them; one that is no number is none."""
        return cls(tuple(integer(frame.dataset, "AcquisitionNumber") for frame in frames))

    def named_in(self, rejection: SeriesRejected) -> SeriesRejected:
        """Return a refusal that names the acquisitions where they may be the cause."""
        if rejection.reason not in _UNEVEN or not self._several():
            return rejection
        return SeriesRejected(rejection.reason, f"{rejection}; {self._said()}")

    def require_apart(self, order: Sequence[int]) -> None:
        """Refuse acquisitions whose slices alternate: the patient breathed between them.

        Raises:
            SeriesRejected: At least every second neighbour is of another acquisition.
        """
        placed = [self.numbers[index] for index in order]
        changes = sum(before != after for before, after in pairwise(placed))
        if self._several() and 2 * changes >= len(placed):
            raise SeriesRejected(
                RejectReason.SEVERAL_VOLUMES,
                f"{self._said()}, and their slices alternate: which one to analyse is not said",
            )

    def _several(self) -> bool:
        found = len(set(self.numbers))
        return None not in self.numbers and 1 < found <= len(self.numbers) / _LEAST_IMAGES

    def _said(self) -> str:
        sizes = sorted(Counter(self.numbers).items(), key=str)
        named = ", ".join(f"{number}: {count} images" for number, count in sizes[:_SHOWN])
        more = f" and {len(sizes) - _SHOWN} more" if len(sizes) > _SHOWN else ""
        return f"the images are of {len(sizes)} acquisitions (Acquisition Number {named}{more})"
