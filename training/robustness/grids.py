"""Perturbations of the grid of a volume: field of view, matrix, slices, orientation.

Each function returns a new volume; None where the volume already is what the function makes. A
voxel keeps its place in the patient, except in :func:`mirrored` and :func:`prone`, whose purpose
is an image that its header does not describe.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.geometry import Geometry, Vector
from chestct.volume import Volume
from inference.loading.pixels import AIR_HU


def central(shape: tuple[int, ...], share: float) -> tuple[slice, slice]:
    """Return the rows and columns of the middle ``share`` of a plane (..., row, column)."""
    kept = [max(1, round(share * size)) for size in shape[-2:]]
    starts = [(size - length) // 2 for size, length in zip(shape[-2:], kept, strict=True)]
    rows, columns = (
        slice(start, start + length) for start, length in zip(starts, kept, strict=True)
    )
    return rows, columns


def cropped(volume: Volume, *, share: float) -> Volume:
    """Return the volume of a field of view that is ``share`` as wide, with the same pixels."""
    rows, columns = central(volume.geometry.shape, share)
    hu = volume.hu[:, rows, columns].copy()
    first = (0.0, float(rows.start), float(columns.start))
    geometry = replace(volume.geometry, shape=_shape(hu), origin=volume.geometry.position(first))
    return replace(volume, hu=hu, geometry=geometry)


def circle(geometry: Geometry) -> NDArray[np.bool_]:
    """Return the mask (row, column) of the largest circle in a slice."""
    rows, columns = (
        (np.arange(size) - (size - 1) / 2) * step
        for size, step in zip(geometry.shape[1:], geometry.pixel_spacing, strict=True)
    )
    radius = (
        min(
            size * step
            for size, step in zip(geometry.shape[1:], geometry.pixel_spacing, strict=True)
        )
        / 2
    )
    mask: NDArray[np.bool_] = rows[:, None] ** 2 + columns[None, :] ** 2 <= radius**2
    return mask


def encircled(volume: Volume) -> Volume:
    """Return the volume with padding outside a circle, as the loader hands padding out."""
    hu = np.where(circle(volume.geometry), volume.hu, np.int16(AIR_HU))
    return replace(volume, hu=hu)


def of_matrix(volume: Volume, *, size: int) -> Volume | None:
    """Return the volume with a longer side of ``size`` pixels, over the same field of view."""
    count, *old = volume.geometry.shape
    if max(old) == size:
        return None
    rows, columns = (max(1, round(side * size / max(old))) for side in old)
    method = cv2.INTER_AREA if size < max(old) else cv2.INTER_LINEAR
    hu = np.empty((count, rows, columns), dtype=np.int16)
    for index, plane in enumerate(volume.hu):
        hu[index] = np.rint(
            cv2.resize(plane.astype(np.float32), (columns, rows), interpolation=method)
        )
    steps = (old[0] / rows, old[1] / columns)
    spacing = volume.geometry.pixel_spacing
    first = (0.0, steps[0] / 2 - 0.5, steps[1] / 2 - 0.5)
    geometry = replace(
        volume.geometry,
        shape=hu.shape,
        origin=volume.geometry.position(first),
        pixel_spacing=(spacing[0] * steps[0], spacing[1] * steps[1]),
    )
    return replace(volume, hu=hu, geometry=geometry)


def thinner(volume: Volume, *, most_mm: float) -> Volume | None:
    """Return the volume with interpolated slices at most ``most_mm`` apart."""
    between = math.ceil(volume.geometry.slice_spacing / most_mm - 1e-6)
    if between == 1:
        return None
    last = volume.geometry.shape[0] - 1
    places = np.arange(last * between + 1) / between
    hu = np.empty((len(places), *volume.geometry.shape[1:]), dtype=np.int16)
    for index, place in enumerate(places):
        low = int(place)
        part = np.float32(place - low)
        lower, upper = volume.hu[low], volume.hu[min(low + 1, last)]
        hu[index] = np.rint((1 - part) * lower + part * upper)
    return _with_slices(volume, hu, places, volume.geometry.slice_spacing / between)


def thicker(volume: Volume, *, mm: float) -> Volume | None:
    """Return the volume with slices of ``mm``, each the mean of the tissue that it covers."""
    step, count = volume.geometry.slice_spacing, volume.geometry.shape[0]
    slabs = math.floor(count * step / mm + 1e-6)
    if step > mm - 1e-3 or slabs == 0:
        return None
    edges = np.arange(count, dtype=np.float64) * step
    starts = np.arange(slabs, dtype=np.float64) * mm
    hu = np.empty((len(starts), *volume.geometry.shape[1:]), dtype=np.int16)
    for index, start in enumerate(starts):
        overlap = np.minimum(edges + step, start + mm) - np.maximum(edges, start)
        members = np.flatnonzero(overlap > 0)
        weights = overlap[members] / overlap[members].sum()
        hu[index] = np.rint(np.tensordot(weights, volume.hu[members], axes=1))
    return _with_slices(volume, hu, (starts + mm / 2) / step - 0.5, mm)


def mirrored(volume: Volume) -> Volume:
    """Return the mirrored patient: columns reversed, the same header."""
    return replace(volume, hu=volume.hu[:, :, ::-1].copy())


def prone(volume: Volume) -> Volume:
    """Return the slices turned by 180 degrees with the same header: the spine is anterior."""
    return replace(volume, hu=volume.hu[:, ::-1, ::-1].copy())


def stored_upside_down(volume: Volume) -> Volume:
    """Return the same patient with rows that run from the back to the front.

    The slices are in reverse order too, since they are ordered along the normal of their plane.
    """
    count, rows, _ = volume.geometry.shape
    geometry = replace(
        volume.geometry,
        origin=volume.geometry.position((count - 1.0, rows - 1.0, 0.0)),
        column_cosines=_opposite(volume.geometry.column_cosines),
    )
    hu = volume.hu[::-1, ::-1].copy()
    return replace(volume, hu=hu, geometry=geometry, sources=volume.sources[::-1])


def stored_turned(volume: Volume) -> Volume:
    """Return the same patient with rows and columns reversed, as prone patients are stored."""
    _, rows, columns = volume.geometry.shape
    geometry = replace(
        volume.geometry,
        origin=volume.geometry.position((0.0, rows - 1.0, columns - 1.0)),
        row_cosines=_opposite(volume.geometry.row_cosines),
        column_cosines=_opposite(volume.geometry.column_cosines),
    )
    return replace(volume, hu=volume.hu[:, ::-1, ::-1].copy(), geometry=geometry)


def _with_slices(
    volume: Volume, hu: NDArray[np.int16], places: NDArray[np.float64], spacing: float
) -> Volume:
    """Return the volume with other slices; ``places`` are their fractional slice indices."""
    geometry = replace(
        volume.geometry,
        shape=_shape(hu),
        origin=volume.geometry.position((float(places[0]), 0.0, 0.0)),
        slice_spacing=spacing,
    )
    nearest = np.clip(np.rint(places).astype(int), 0, len(volume.sources) - 1)
    sources = tuple(volume.sources[index] for index in nearest.tolist())
    return replace(volume, hu=hu, geometry=geometry, sources=sources, thickness_mm=spacing)


def _shape(hu: NDArray[np.int16]) -> tuple[int, int, int]:
    count, rows, columns = hu.shape
    return count, rows, columns


def _opposite(vector: Vector) -> Vector:
    return -vector[0], -vector[1], -vector[2]
