"""From the lung network's probabilities to two clean lungs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.errors import RejectReason, SeriesRejected
from chestct.volume import Label, Volume
from inference.ports import SegmentationModel

_CHUNK = 16
_LEAST_LUNGS_ML = 400.0
_LEAST_SHARE = 0.1
"""A component smaller than this part of the largest one is no lung."""
_SMALL_LUNG_ML = 300.0
_AIRWAY_HU = -930
_AIRWAY_ML = 150.0
"""Trachea and bronchi hold less; a region that grows beyond has leaked into the lungs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lungs:
    """Both lungs on the volume's grid.

    Attributes:
        labels: uint8 (slice, row, column): ``Label.LEFT_LUNG``, ``Label.RIGHT_LUNG`` or 0.
        quality_flags: What a reader should know about the delineation.
    """

    labels: NDArray[np.uint8]
    quality_flags: tuple[str, ...]


def delineate(volume: Volume, model: SegmentationModel, progress: Callable[[float], None]) -> Lungs:
    """Delineate both lungs, dense lesions and vessels included, airways excluded.

    Raises:
        SeriesRejected: No plausible lungs were found (not a chest).
    """
    sides = _predict(volume, model, progress)
    keep = _lung_components(sides > 0, volume.geometry.voxel_ml)
    sides[~keep] = Label.BACKGROUND
    sides = _smooth_sides(sides)
    sides[_central_airways(volume, sides > 0)] = Label.BACKGROUND
    for label in (Label.LEFT_LUNG, Label.RIGHT_LUNG):
        _fill_holes(sides, label)
    _require_lungs(sides, volume)
    return Lungs(labels=sides, quality_flags=_flags(sides, volume))


def _predict(
    volume: Volume, model: SegmentationModel, progress: Callable[[float], None]
) -> NDArray[np.uint8]:
    """Return raw labels; a chunk of slices at a time, since probabilities are large."""
    right, left = model.classes.index("right"), model.classes.index("left")
    count = volume.geometry.shape[0]
    sides = np.zeros(volume.geometry.shape, dtype=np.uint8)
    for start in range(0, count, _CHUNK):
        chunk = range(start, min(start + _CHUNK, count))
        found = model.probabilities(volume, chunk)
        lung = found[:, right] + found[:, left] >= model.threshold
        is_left = found[:, left] > found[:, right]
        sides[start : chunk.stop] = np.where(
            lung, np.where(is_left, Label.LEFT_LUNG, Label.RIGHT_LUNG), Label.BACKGROUND
        )
        progress(chunk.stop / count)
    return sides


def _lung_components(mask: NDArray[np.bool_], voxel_ml: float) -> NDArray[np.bool_]:
    """Keep the largest component, and others that are large and beside it, not below it."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    boxes = ndimage.find_objects(labels)
    top = boxes[largest - 1][0]
    keep = np.zeros(count + 1, dtype=bool)
    for number in range(1, count + 1):
        own = boxes[number - 1][0]
        overlap = min(own.stop, top.stop) - max(own.start, top.start)
        beside = overlap >= 0.5 * (own.stop - own.start)
        keep[number] = sizes[number] >= _LEAST_SHARE * sizes[largest] and beside
    if sizes[largest] * voxel_ml < _LEAST_LUNGS_ML / 4:
        keep[:] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def _smooth_sides(sides: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give stray islands of one side inside the other lung to the lung around them."""
    out = sides.copy()
    for label, other in (
        (Label.LEFT_LUNG, Label.RIGHT_LUNG),
        (Label.RIGHT_LUNG, Label.LEFT_LUNG),
    ):
        parts, count = ndimage.label(sides == label)
        if count < 2:  # noqa: PLR2004 - one part has no stray islands
            continue
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        stray = (parts > 0) & (sizes < _LEAST_SHARE * sizes.max())[parts]
        touched = ndimage.binary_dilation(stray) & (sides == other)
        if touched.any():
            out[stray] = other
    return out


def _central_airways(volume: Volume, lungs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the part of trachea and main bronchi that lies inside ``lungs``.

    Grown in dark air from outside the lungs: what is connected to the trachea through the
    lumen and touches the mask. A growth beyond any airway's volume has leaked through a
    thin wall into emphysema or noise, and is not used.
    """
    nothing = np.zeros(lungs.shape, dtype=bool)
    air = ndimage.uniform_filter(volume.hu, size=(1, 3, 3)) < _AIRWAY_HU
    parts, count = ndimage.label(air & ~ndimage.binary_dilation(lungs, iterations=2))
    if count == 0:
        return nothing
    trachea = _trachea(parts, volume, lungs)
    if trachea is None:
        return nothing
    steps = max(1, round(12.0 / volume.geometry.pixel_spacing[0]))
    grown = ndimage.binary_dilation(trachea, mask=air, iterations=steps)
    inside = grown & lungs
    if grown.sum() * volume.geometry.voxel_ml > _AIRWAY_ML:
        return nothing
    widened: NDArray[np.bool_] = ndimage.binary_dilation(inside, iterations=1) & lungs
    return widened


def _trachea(
    parts: NDArray[np.int32], volume: Volume, lungs: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Find the trachea: the air column between the lungs, away from the picture's border."""
    voxel_ml = volume.geometry.voxel_ml
    border = np.zeros(parts.shape, dtype=bool)
    border[:, [0, -1], :] = True
    border[:, :, [0, -1]] = True
    outside = np.unique(parts[border])
    sizes = np.bincount(parts.ravel()) * voxel_ml
    box = ndimage.find_objects(lungs.astype(np.uint8))
    if not box:
        return None
    _, rows, columns = box[0]
    middle = (columns.start + columns.stop) / 2
    reach = 0.2 * (columns.stop - columns.start)
    best = None
    for number, found in enumerate(ndimage.find_objects(parts), start=1):
        if found is None or number in outside or not 3 < sizes[number] < _AIRWAY_ML:  # noqa: PLR2004 - ml
            continue
        column = (found[2].start + found[2].stop) / 2
        row = (found[1].start + found[1].stop) / 2
        tall = (found[0].stop - found[0].start) * volume.geometry.slice_spacing
        central = abs(column - middle) < reach and rows.start < row < rows.stop
        if central and tall > 25 and (best is None or sizes[number] > sizes[best]):  # noqa: PLR2004 - mm
            best = number
    return None if best is None else parts == best


def _fill_holes(sides: NDArray[np.uint8], label: Label) -> None:
    """Fill what one lung encloses in an axial plane: vessels and dense lesions."""
    for plane in sides:
        mask = plane == label
        if mask.any():
            filled = ndimage.binary_fill_holes(mask)
            plane[filled & (plane == Label.BACKGROUND)] = label


def _require_lungs(sides: NDArray[np.uint8], volume: Volume) -> None:
    found = float((sides > 0).sum()) * volume.geometry.voxel_ml
    if found < _LEAST_LUNGS_ML:
        raise SeriesRejected(
            RejectReason.NO_LUNGS,
            f"only {found:.0f} ml of lung were found; this does not look like a chest",
        )


def _flags(sides: NDArray[np.uint8], volume: Volume) -> tuple[str, ...]:
    flags = []
    ends = [name for name, plane in (("first", sides[0]), ("last", sides[-1])) if plane.any()]
    area = volume.geometry.pixel_spacing[0] * volume.geometry.pixel_spacing[1]
    cut = [
        name
        for name, plane in (("first", sides[0]), ("last", sides[-1]))
        if plane.astype(bool).sum() * area > 500  # noqa: PLR2004 - mm2, more than an apex
    ]
    if ends and cut:
        flags.append(f"the lungs reach the {' and the '.join(cut)} slice: part may be missing")
    for label, name in ((Label.LEFT_LUNG, "left"), (Label.RIGHT_LUNG, "right")):
        if float((sides == label).sum()) * volume.geometry.voxel_ml < _SMALL_LUNG_ML:
            flags.append(f"the {name} lung is small or missing")
    left, right = (_middle(sides, label, volume) for label in (Label.LEFT_LUNG, Label.RIGHT_LUNG))
    if left is not None and right is not None and left <= right:
        flags.append("left and right lung could not be told apart reliably")
    return tuple(flags)


def _middle(sides: NDArray[np.uint8], label: Label, volume: Volume) -> float | None:
    """Return the LPS x of a lung's centroid, mm; the left lung has the larger one."""
    mask = sides == label
    if not mask.any():
        return None
    center = np.array([axis.mean() for axis in np.nonzero(mask)])
    return float(volume.geometry.to_patient(center[None])[0, 0])
