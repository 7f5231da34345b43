"""From the lung network's probabilities to two clean lungs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import Geometry
from chestct.volume import Label, Volume
from inference.ports import SegmentationModel
from inference.reading.airways import central_airways
from inference.reading.body import body_of
from inference.reading.postprocess import components
from inference.reading.sides import AERATED_HU, Missing, drop_strays, find_missing, halves_of

_CHUNK = 16
_DENSE_REACH_MM = 25.0
_SURE = 0.9
"""Solid parts that the network takes for lung with this probability need no air beside them."""
_SOLID_HU = -30.0
"""Consolidation is above, fat below: that around the kidneys looks like it to the network."""
_SURE_RADIUS_MM = 3.0
"""A disc of this radius fits into them in their slice: rims of heart and liver are thinner."""
_LEAST_LUNGS_ML = 400.0
_LEAST_SHARE = 0.08
"""A component smaller than this part of the largest one is no lung."""
_MOST_LUNGS_ML = 10_000.0
_MOST_LUNG_ML = 6_000.0
"""Of both and of one. Total lung capacity is 7.99 h - 7.08 +- 1.15 l (95 %) in men (Quanjer et al.,
Eur Respir J 1993;6 Suppl 16:5-40): 8.5 l at most at 1.8 m, and 10 l above 1.98 m only; a lung is
little more than half of it. What is larger is air that is no lung."""
_GAS_HU = -920.0
_LEAST_GAS_ML = 3.0
_SMALL_LUNG_ML = 300.0
_CUT_MM2 = 800.0
_VESSEL_MM2 = 400.0
"""A hole as small as this is a vessel or a nodule, whatever it is joined to."""
_SIDES = (Label.LEFT_LUNG, Label.RIGHT_LUNG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lungs:
    """The lungs that can be assessed, on the volume's grid.

    Attributes:
        labels: uint8 (slice, row, column): ``Label.LEFT_LUNG``, ``Label.RIGHT_LUNG`` or 0.
        airless: uint8, likewise, apart from ``labels``: what is solid and has no air beside it that
            could vouch for it, though the network is sure that it is lung. A consolidated lobe
            is, and now and then the liver.
        within: bool, likewise: outside of it nothing is lung. The patient, without the half whose
            lung is not assessable.
        missing: The lung that is not assessable, if one is; it has no labels.
        quality_flags: What a reader should know about the delineation.
    """

    labels: NDArray[np.uint8]
    airless: NDArray[np.uint8]
    within: NDArray[np.bool_]
    quality_flags: tuple[str, ...]
    missing: Missing | None = None

    def including(self, marked: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the labels with what is airless and ``marked`` as lesion: two networks agree."""
        return np.where(marked & (self.airless > 0), self.airless, self.labels)


def delineate(volume: Volume, model: SegmentationModel, progress: Callable[[float], None]) -> Lungs:
    """Delineate both lungs: dense lesions and vessels included, airways excluded.

    The network says where lung is; Hounsfield units keep it honest. Aerated parts of its
    mask that make large components are lung; dense parts of its mask are lung only inside
    the hull of the aerated lung of that slice and close to it. So consolidation and vessels
    stay in, while fat, liver, bowel gas and the neck fall out.

    Raises:
        SeriesRejected: No plausible lungs were found (not a chest), more than anybody has, or
            hardly any air in both.
    """
    sides, sure = _predict(volume, model, progress)
    body = body_of(volume)
    sides[~body] = Label.BACKGROUND
    airways = central_airways(volume)
    box = _box_around(sides)
    airless = np.zeros_like(sides)
    sides[box], airless[box] = _cleaned(
        sides[box], sure[box], volume.hu[box], airways[box], volume.geometry
    )
    sides[~body] = airless[~body] = Label.BACKGROUND  # the filters reach across its edge
    halves = halves_of(body, volume.geometry)
    doubts = _doubts(sides, volume)
    drop_strays(sides, halves, volume.geometry.voxel_ml)
    _require_lungs(sides, volume)
    missing = find_missing(sides, volume)
    if missing is None:
        flags = (*_flags(sides, volume, _SIDES), *doubts)
    else:
        own = missing.label
        sides[sides == own] = airless[airless == own] = Label.BACKGROUND
        body &= (sides > 0) | (halves != own)
        flags = (*_flags(sides, volume, [one for one in _SIDES if one != own]), missing.flag)
    return Lungs(labels=sides, airless=airless, within=body, quality_flags=flags, missing=missing)


def _box_around(sides: NDArray[np.uint8]) -> tuple[slice, slice, slice]:
    """Return the box of everything that is marked, with room for the filters at its edges."""
    found = ndimage.find_objects((sides > 0).astype(np.uint8))
    if not found:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    slices, rows, columns = (slice(max(0, one.start - 3), one.stop + 3) for one in found[0])
    return slices, rows, columns


def _cleaned(
    sides: NDArray[np.uint8],
    sure: NDArray[np.bool_],
    hu: NDArray[np.int16],
    airways: NDArray[np.bool_],
    geometry: Geometry,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the labels of a box after :func:`delineate`'s cleaning, and what is airless.

    All arrays are on the box.
    """
    if sides.size == 0:
        return sides, sides
    smooth = ndimage.uniform_filter(hu.astype(np.float32), size=(1, 3, 3))
    aerated = (sides > 0) & (smooth < AERATED_HU) & ~airways
    core = _lung_components(aerated, geometry.voxel_ml)
    gas = _gas(aerated & ~core, hu, geometry.voxel_ml)
    kept = np.where(airways | gas, np.uint8(Label.BACKGROUND), sides)
    kept = _without_islands(kept, core)
    planes = zip(kept, core, strict=True)
    lungs = np.stack([_slice_of_lung(plane, air, geometry.pixel_spacing) for plane, air in planes])
    lungs = _filled(lungs, geometry)
    solid = np.where(sure & (smooth >= _SOLID_HU) & (lungs == Label.BACKGROUND), kept, 0)
    return lungs, _airless(lungs, solid, geometry)


def _predict(
    volume: Volume, model: SegmentationModel, progress: Callable[[float], None]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return raw labels, and where the network is sure of them.

    A chunk of slices at a time, since probabilities are large.
    """
    right, left = model.classes.index("right"), model.classes.index("left")
    count = volume.geometry.shape[0]
    reader = model.reader(volume)
    sides = np.zeros(volume.geometry.shape, dtype=np.uint8)
    sure = np.zeros(volume.geometry.shape, dtype=bool)
    for start in range(0, count, _CHUNK):
        chunk = range(start, min(start + _CHUNK, count))
        found = reader.probabilities(chunk)
        lung = found[:, right] + found[:, left] >= model.threshold
        sure[start : chunk.stop] = np.maximum(found[:, right], found[:, left]) >= _SURE
        is_left = found[:, left] > found[:, right]
        sides[start : chunk.stop] = np.where(
            lung, np.where(is_left, Label.LEFT_LUNG, Label.RIGHT_LUNG), Label.BACKGROUND
        )
        progress(chunk.stop / count)
    return sides, sure


def _lung_components(mask: NDArray[np.bool_], voxel_ml: float) -> NDArray[np.bool_]:
    """Keep the largest component, and others that are large and beside it, not below it."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    keep = np.zeros(count + 1, dtype=bool)
    if sizes[largest] * voxel_ml < _LEAST_LUNGS_ML / 4:
        return np.zeros_like(mask)
    boxes = ndimage.find_objects(labels)
    top = boxes[largest - 1][0]
    for number in np.flatnonzero(sizes >= _LEAST_SHARE * sizes[largest]):
        own = boxes[number - 1][0]
        overlap = min(own.stop, top.stop) - max(own.start, top.start)
        keep[number] = overlap >= 0.5 * (own.stop - own.start)
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def _gas(dropped: NDArray[np.bool_], hu: NDArray[np.int16], voxel_ml: float) -> NDArray[np.bool_]:
    """Return the pure gas outside the core: stomach and bowel, not lung cut off by disease."""
    labels, count = ndimage.label(dropped)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    dark = np.bincount(labels[hu < _GAS_HU], minlength=count + 1)
    is_gas = (sizes * voxel_ml >= _LEAST_GAS_ML) & (2 * dark > sizes)
    is_gas[0] = False
    gas: NDArray[np.bool_] = is_gas[labels]
    return gas


def _without_islands(sides: NDArray[np.uint8], core: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Give stray islands of one side inside the other lung to the lung around them."""
    out = sides.copy()
    for label, other in (_SIDES, _SIDES[::-1]):
        parts, count = ndimage.label((sides == label) & core)
        if count < 2:  # noqa: PLR2004 - one part has no stray islands
            continue
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        stray = (parts > 0) & (sizes < _LEAST_SHARE * sizes.max())[parts]
        labels, found = ndimage.label(stray)
        around = ndimage.binary_dilation(stray) & (sides == other)
        grown = ndimage.grey_dilation(labels, size=(3, 3, 3))
        touching = np.zeros(found + 1, dtype=bool)
        touching[np.unique(grown[around])] = True
        touching[0] = False
        out[touching[labels]] = other
    return out


def _slice_of_lung(
    sides: NDArray[np.uint8], core: NDArray[np.bool_], pixel_spacing: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return one plane: aerated lung and the dense parts that belong to it."""
    out = np.zeros_like(sides)
    for label in _SIDES:
        aerated = core & (sides == label)
        if not aerated.any():
            continue
        away = ndimage.distance_transform_edt(~aerated, sampling=pixel_spacing)
        dense = (sides == label) & _hull(aerated) & (away <= _DENSE_REACH_MM)
        out[(ndimage.binary_opening(dense) | aerated) & (out == Label.BACKGROUND)] = label
    return out


def _airless(
    lungs: NDArray[np.uint8], solid: NDArray[np.uint8], geometry: Geometry
) -> NDArray[np.uint8]:
    """Return the thick ``solid`` parts of each side that hang together with that lung."""
    rows, columns = (2 * round(_SURE_RADIUS_MM / step) + 1 for step in geometry.pixel_spacing)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (columns, rows))
    found = np.zeros_like(lungs)
    for label in _SIDES:
        own = (solid == label).view(np.uint8)
        thick = np.stack([cv2.morphologyEx(plane, cv2.MORPH_OPEN, disc) for plane in own]) > 0
        if not thick.any():
            continue
        lung = lungs == label
        parts, count = components(thick | lung)
        hanging = np.zeros(count + 1, dtype=bool)
        hanging[parts[lung]] = True
        found[thick & hanging[parts]] = label
    return found


def _filled(sides: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Fill the holes of each plane, but not the domes of the diaphragm.

    A dome is ringed by lung, too, where it is cut near its top; slice by slice it goes over
    into what lies outside of the lungs, while a vessel is small and a nodule ends. A mass that
    touches the wall of the chest in another slice goes over into it as well: of it only what
    the network marks is lung.
    """
    rows, columns = geometry.pixel_spacing
    holes = np.zeros_like(sides)
    large = np.zeros(sides.shape, dtype=bool)
    for index, plane in enumerate(sides):
        for label in _SIDES:
            own = plane == label
            inside = ndimage.binary_fill_holes(own) & (plane == Label.BACKGROUND)
            parts, _ = ndimage.label(inside)
            area = np.bincount(parts.ravel()) * rows * columns
            area[0] = 0.0
            large[index] |= (area > _VESSEL_MM2)[parts]
            holes[index][inside] = label
    if not large.any():
        return np.maximum(sides, holes)
    parts, count = ndimage.label(large)
    outside = (sides == Label.BACKGROUND) & (holes == Label.BACKGROUND)
    ends = np.ones_like(outside[:1])  # what is cut by the end of the volume goes on there
    beside = np.concatenate([outside[1:], ends]) | np.concatenate([ends, outside[:-1]])
    goes_on = np.zeros(count + 1, dtype=bool)
    goes_on[parts[large & beside]] = True
    goes_on[0] = False
    return np.where(goes_on[parts], sides, np.maximum(sides, holes))


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the convex hull of a mask (row, column)."""
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled.astype(bool)


def _require_lungs(sides: NDArray[np.uint8], volume: Volume) -> None:
    found = float((sides > 0).sum()) * volume.geometry.voxel_ml
    if found < _LEAST_LUNGS_ML:
        raise SeriesRejected(
            RejectReason.NO_LUNGS,
            f"only {found:.0f} ml of lung were found, at least {_LEAST_LUNGS_ML:.0f} ml are needed;"
            " this does not look like a chest",
        )
    parts: list[tuple[str, float, float]] = [("the lungs", found, _MOST_LUNGS_ML)]
    for label, name in zip(_SIDES, ("the left lung", "the right lung"), strict=True):
        parts.append(
            (name, float((sides == label).sum()) * volume.geometry.voxel_ml, _MOST_LUNG_ML)
        )
    for name, ml, most in parts:
        if ml > most:
            raise SeriesRejected(
                RejectReason.IMPLAUSIBLE_LUNGS,
                f"{name} would hold {ml:.0f} ml, nobody's hold more than {most:.0f} ml; "
                "what was found is not lung alone",
            )


def _flags(sides: NDArray[np.uint8], volume: Volume, assessed: Sequence[Label]) -> tuple[str, ...]:
    flags = []
    pixel = volume.geometry.pixel_spacing[0] * volume.geometry.pixel_spacing[1]
    cut = [
        name
        for name, plane in (("first", sides[0]), ("last", sides[-1]))
        if float((plane > 0).sum()) * pixel > _CUT_MM2
    ]
    if cut:
        flags.append(f"the lungs reach the {' and the '.join(cut)} slice: part may be missing")
    for label in assessed:
        name = "left" if label is Label.LEFT_LUNG else "right"
        if float((sides == label).sum()) * volume.geometry.voxel_ml < _SMALL_LUNG_ML:
            flags.append(f"the {name} lung is small or missing")
    return tuple(flags)


def _doubts(sides: NDArray[np.uint8], volume: Volume) -> tuple[str, ...]:
    """Say that the network called the lungs the other way round, before it is put right."""
    left, right = (_middle(sides, label, volume) for label in _SIDES)
    if left is not None and right is not None and left <= right:
        return ("left and right lung could not be told apart reliably",)
    return ()


def _middle(sides: NDArray[np.uint8], label: Label, volume: Volume) -> float | None:
    """Return the LPS x of a lung's centroid, mm; the left lung has the larger one."""
    mask = sides == label
    if not mask.any():
        return None
    center = np.array([axis.mean() for axis in np.nonzero(mask)])
    return float(volume.geometry.to_patient(center[None])[0, 0])
