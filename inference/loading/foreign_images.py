"""Single images in a series that are none of its slices: screenshots, pages, dose reports.

They are told by what they say themselves. They are few, or it is no clear case; whether the rest is
whole without them, and whether one of them continues it, is for the grid to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from chestct.geometry import Geometry
from inference.loading.elements import integer, number_of, numbers_of, text_of
from inference.loading.eligibility import LOCALIZERS, is_derived
from inference.loading.frames import Frame

_MOST = 5
_MOST_PART = 0.1
"""So many images may be set aside, and so much of the series."""
_OCCUPIED = 0.5
"""Part of the spacing within which an image lies where a slice is."""


_NEEDED = (
    ("ImagePositionPatient", 3, "it has no position"),
    ("ImageOrientationPatient", 6, "it has no orientation"),
    ("PixelSpacing", 2, "it has no pixel spacing"),
    ("RescaleSlope", 1, "it has no rescale slope"),
    ("RescaleIntercept", 1, "it has no rescale intercept"),
)
"""How many numbers every slice has of what, and what is said of an image without."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """An image that is no slice of the stack, and why."""

    frame: Frame
    why: str

    @property
    def note(self) -> str:
        """Name it for whoever reads the result."""
        uid = text_of(self.frame.dataset, "SOPInstanceUID")
        return f"image {uid} of the series was set aside: {self.why}"

    def continues(self, geometry: Geometry) -> bool:
        """Tell whether it lies where the next slice before or behind the stack would."""
        position = numbers_of(self.frame.groups, "ImagePositionPatient", 3)
        if position is None or self.frame.leans:
            return False
        (index,) = geometry.to_index(np.array([position], dtype=np.float64))[:, 0]
        beyond = max(-index, index - (geometry.shape[0] - 1))
        return bool(_OCCUPIED < beyond < 2 - _OCCUPIED)


def without_strangers(frames: Sequence[Frame]) -> tuple[list[Frame], list[Stranger]]:
    """Part the images of a series from those few that are surely none of its slices.

    Localizers that say so are left in: they are usual, and known by their own word.
    """
    single = [one for one in frames if one.number is None and not LOCALIZERS & set(one.image_type)]
    usual = Counter(map(_plane, single)).most_common(1)
    found = [
        Stranger(one, why) for one in single if (why := _why_none(one, usual[0][0])) is not None
    ]
    if not found or len(found) > min(_MOST, _MOST_PART * len(frames)):
        return list(frames), []
    aside = {id(one.frame) for one in found}
    return [one for one in frames if id(one) not in aside], found


def _why_none(frame: Frame, usual: Hashable) -> str | None:
    lacks = next((why for keyword, count, why in _NEEDED if _lacks(frame, keyword, count)), None)
    if lacks is not None:
        return lacks
    if is_derived(frame.image_type):
        return "its Image Type is that of a derived image"
    if frame.leans:
        return "it lies across the axial slices"
    if _plane(frame) != usual:
        return "its size or frame of reference is not that of the other images"
    return None


def _lacks(frame: Frame, keyword: str, count: int) -> bool:
    if count == 1:
        return number_of(frame.groups, keyword) is None
    return numbers_of(frame.groups, keyword, count) is None


def _plane(frame: Frame) -> Hashable:
    dataset = frame.dataset
    sides = integer(dataset, "Rows"), integer(dataset, "Columns")
    return *sides, text_of(dataset, "FrameOfReferenceUID").strip(" \0")
