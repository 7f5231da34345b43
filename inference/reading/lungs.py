"""Delineates both lungs from the lung network's probabilities and Hounsfield units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.findings import End, Side
from chestct.volume import Label, Volume
from inference.ports import Reader, SegmentationModel
from inference.reading.airways import central_airways
from inference.reading.cleaning import clean_labels
from inference.reading.frame import Frame
from inference.reading.plausibility import (
    doubts_about_sides,
    ends_reached,
    find_higher_base,
    flags_of,
    require_plausible,
)
from inference.reading.readers import reader_on
from inference.reading.sides import Missing, drop_strays, find_missing, halves_of

_CHUNK = 16
_SURE = 0.9
"""Solid parts that the network takes for lung with this probability need no air beside them."""
_SIDES = (Label.LEFT_LUNG, Label.RIGHT_LUNG)
_HIGHER_BASE = (
    "the {} lung ends {:.0f} mm above the other: its base may hold no air (consolidation, "
    "collapse, effusion), or the diaphragm is raised"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lungs:
    """The lungs that can be assessed, on the frame.

    Attributes:
        labels: uint8 (slice, row, column): ``Label.LEFT_LUNG``, ``Label.RIGHT_LUNG`` or 0.
        airless: uint8, likewise, apart from ``labels``: solid parts without aerated lung beside
            them that the network is sure are lung: a consolidated lobe, and sometimes the liver.
        within: bool, likewise: the patient, without the half whose lung is not assessable.
            Nothing outside is lung.
        missing: The lung that is not assessable, if any; it has no labels.
        cut: The ends of the scan that the lungs reach.
        higher_base: The lung that ends far above the other, so that its base may hold no air.
        quality_flags: Doubts about the delineation, for the reader of the result.
    """

    labels: NDArray[np.uint8]
    airless: NDArray[np.uint8]
    within: NDArray[np.bool_]
    cut: tuple[End, ...]
    quality_flags: tuple[str, ...]
    missing: Missing | None = None
    higher_base: Side | None = None

    @property
    def with_airless(self) -> NDArray[np.bool_]:
        """The lungs and the solid parts that may be lung, bool (slice, row, column)."""
        return (self.labels > Label.BACKGROUND) | (self.airless > Label.BACKGROUND)

    def including(self, marked: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the labels with the airless parts that the lesion network ``marked`` too."""
        return np.where(marked & (self.airless > 0), self.airless, self.labels)


def delineate(
    frame: Frame, volume: Volume, model: SegmentationModel, progress: Callable[[float], None]
) -> Lungs:
    """Delineate both lungs on the frame of ``volume``, airways excluded.

    The network marks the lungs, and Hounsfield units clean its mask: consolidation and vessels
    stay in, while fat, liver, bowel gas and the neck drop out (:mod:`inference.reading.cleaning`).

    Raises:
        SeriesRejected: The lungs are implausibly small (not a chest) or large, or both hold
            hardly any air.
    """
    sides, sure = _predict(frame.count, reader_on(frame, volume, model), model, progress)
    volume, body = frame.volume, frame.body.copy()
    sides[~body] = Label.BACKGROUND
    box = _box_around(sides)
    airless = np.zeros_like(sides)
    sides[box], airless[box] = clean_labels(
        sides[box], sure[box], volume.hu[box], central_airways(volume)[box], volume.geometry
    )
    sides[~body] = airless[~body] = Label.BACKGROUND  # filters reach across the edge
    halves = halves_of(body, volume.geometry)
    doubts = doubts_about_sides(sides, volume)
    drop_strays(sides, halves, volume.geometry.voxel_ml)
    require_plausible(sides, volume)
    missing = find_missing(sides, volume)
    if missing is not None:
        own = missing.label
        sides[sides == own] = airless[airless == own] = Label.BACKGROUND
        body &= (sides > 0) | (halves != own)
        doubts = (missing.flag,)
    base = None if missing is not None else find_higher_base(sides, volume)
    if base is not None:
        doubts = (*doubts, _HIGHER_BASE.format(*base))
    cut = ends_reached(sides, volume)
    assessed = [side for side in _SIDES if missing is None or side != missing.label]
    return Lungs(
        labels=sides,
        airless=airless,
        within=body,
        cut=cut,
        quality_flags=(*flags_of(sides, volume, assessed, cut), *doubts),
        missing=missing,
        higher_base=None if base is None else base[0],
    )


def lung_labels(volume: Volume, model: SegmentationModel) -> NDArray[np.uint8]:
    """Return the labels of both lungs on the grid of the volume.

    Raises:
        SeriesRejected: As :func:`delineate`.
    """
    frame = Frame.of(volume)
    return frame.restore_labels(delineate(frame, volume, model, lambda _part: None).labels)


def _box_around(sides: NDArray[np.uint8]) -> tuple[slice, slice, slice]:
    """Return the box of all labels, with a margin for the filters."""
    boxes = ndimage.find_objects((sides > 0).astype(np.uint8))
    if not boxes:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    slices, rows, columns = (slice(max(0, part.start - 3), part.stop + 3) for part in boxes[0])
    return slices, rows, columns


def _predict(
    count: int, reader: Reader, model: SegmentationModel, progress: Callable[[float], None]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the network's labels, and where it is sure that a voxel is lung.

    It reads a chunk of slices at a time, since probabilities are large.
    """
    right, left = model.classes.index("right"), model.classes.index("left")
    labels, certain = [], []
    for start in range(0, count, _CHUNK):
        chunk = range(start, min(start + _CHUNK, count))
        found = reader.probabilities(chunk)
        lung = found[:, right] + found[:, left] >= model.threshold
        certain.append(np.maximum(found[:, right], found[:, left]) >= _SURE)
        is_left = found[:, left] > found[:, right]
        side = np.where(is_left, np.uint8(Label.LEFT_LUNG), np.uint8(Label.RIGHT_LUNG))
        labels.append(np.where(lung, side, np.uint8(Label.BACKGROUND)))
        progress(chunk.stop / count)
    return np.concatenate(labels), np.concatenate(certain)
