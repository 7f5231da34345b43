"""Finds single images in a series that are not its slices: screenshots, pages, dose reports.

Their own headers identify them. Many such images are not a clear case, so none is set aside then.
The loader checks that the stack is complete without them and that none of them continues it.
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
"""Images that may be set aside: their number, and their part of the series."""
_OCCUPIED = 0.5
"""An image within this part of the spacing lies at the place of a slice."""

_NEEDED = (
    ("ImagePositionPatient", 3, "it has no position"),
    ("ImageOrientationPatient", 6, "it has no orientation"),
    ("PixelSpacing", 2, "it has no pixel spacing"),
    ("RescaleSlope", 1, "it has no rescale slope"),
    ("RescaleIntercept", 1, "it has no rescale intercept"),
)
"""The elements that every slice has, how many numbers each holds, and the note on their lack."""


@dataclass(frozen=True, slots=True)
class ForeignImage:
    """An image that is not a slice of the stack, and why."""

    frame: Frame
    why: str

    @property
    def note(self) -> str:
        """The note for the reader of the result."""
        uid = text_of(self.frame.dataset, "SOPInstanceUID")
        return f"image {uid} of the series was set aside: {self.why}"

    def continues(self, geometry: Geometry) -> bool:
        """Return whether the image lies where the next slice before or after the stack would."""
        position = numbers_of(self.frame.groups, "ImagePositionPatient", 3)
        if position is None or self.frame.leans:
            return False
        (index,) = geometry.to_index(np.array([position], dtype=np.float64))[:, 0]
        beyond = max(-index, index - (geometry.shape[0] - 1))
        return bool(_OCCUPIED < beyond < 2 - _OCCUPIED)


def without_foreign_images(
    frames: Sequence[Frame],
) -> tuple[list[Frame], list[ForeignImage]]:
    """Separate the images of a series from the few that are certainly not its slices.

    Localizers by Image Type stay in: they are common, and the selection handles them.
    """
    single = [
        frame for frame in frames if frame.number is None and not LOCALIZERS & set(frame.image_type)
    ]
    usual = Counter(map(_plane, single)).most_common(1)
    foreign = [
        ForeignImage(frame, why)
        for frame in single
        if (why := _why_foreign(frame, usual[0][0])) is not None
    ]
    if not foreign or len(foreign) > min(_MOST, _MOST_PART * len(frames)):
        return list(frames), []
    aside = {id(image.frame) for image in foreign}
    return [frame for frame in frames if id(frame) not in aside], foreign


def _why_foreign(frame: Frame, usual: Hashable) -> str | None:
    lacks = next((why for keyword, count, why in _NEEDED if _lacks(frame, keyword, count)), None)
    if lacks is not None:
        return lacks
    if is_derived(frame.image_type):
        return "its Image Type is that of a derived image"
    if frame.leans:
        return "it lies across the axial slices"
    if _plane(frame) != usual:
        return "its size or Frame of Reference UID differs from the other images"
    return None


def _lacks(frame: Frame, keyword: str, count: int) -> bool:
    if count == 1:
        return number_of(frame.groups, keyword) is None
    return numbers_of(frame.groups, keyword, count) is None


def _plane(frame: Frame) -> Hashable:
    dataset = frame.dataset
    sides = integer(dataset, "Rows"), integer(dataset, "Columns")
    return *sides, text_of(dataset, "FrameOfReferenceUID").strip(" \0")
