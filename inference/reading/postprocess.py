"""Turns the lesion network's probabilities into lesions: drops aerated lung and small parts."""

from __future__ import annotations

from typing import Literal

import cc3d
import cv2
import numpy as np
from numpy.typing import NDArray

from chestct.geometry import Geometry
from chestct.volume import Label, Volume
from inference.ports import Box

_SMOOTHING_MM = 1.2
"""Standard deviation of the filter: it smooths noise, but neither vessels nor small lesions."""


def box_of(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Box:
    """Return the smallest box around a mask or labels (slice, row, column), not empty."""
    slices = _span(np.any(mask, axis=(1, 2)))
    return slices, *box_of_plane(mask[slices].view(np.uint8).max(axis=0))


def box_of_plane(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the smallest box around a mask (row, column), not empty."""
    return _span(np.any(mask, axis=1)), _span(np.any(mask, axis=0))


def _span(line: NDArray[np.bool_] | np.bool_) -> slice:
    """Return the range of a line from the first to the last mark."""
    marked = np.flatnonzero(line)
    return slice(int(marked[0]), int(marked[-1]) + 1)


def without_air(
    hu: NDArray[np.int16], pixel_spacing: tuple[float, float], least_hu: float
) -> NDArray[np.bool_]:
    """Return where a smoothed plane (row, column) has at least ``least_hu``.

    Opacity is lung that has lost air; well-aerated lung lies between -950 and -700 HU
    (Colombi et al., Radiology 2020;296:E86).
    """
    rows, columns = (_SMOOTHING_MM / step for step in pixel_spacing)
    smooth = cv2.GaussianBlur(hu.astype(np.float32), (0, 0), sigmaX=columns, sigmaY=rows)
    mask: NDArray[np.bool_] = np.asarray(smooth) >= least_hu
    return mask


def suppress_aerated(
    probability: NDArray[np.float32], volume: Volume, index: int, least_hu: float | None
) -> NDArray[np.float32]:
    """Return the probabilities (row, column) of slice ``index``, 0 where the lung is aerated.

    The networks see contrast, not Hounsfield units: lung that is slightly denser than its
    surroundings may look like ground-glass to them. None for ``least_hu`` changes nothing.
    """
    if least_hu is None:
        return probability
    return probability * without_air(volume.hu[index], volume.geometry.pixel_spacing, least_hu)


def components(
    marks: NDArray[np.bool_] | NDArray[np.uint8], neighbours: Literal[6, 26] = 26
) -> tuple[NDArray[np.uint32], int]:
    """Label the connected components of marks (slice, row, column), in the order of voxels.

    Marks of different values are never connected.
    """
    labels, count = cc3d.connected_components(
        marks, connectivity=neighbours, return_N=True, out_dtype=np.uint32
    )
    return np.asarray(labels, np.uint32), int(count)


def lesions_of(
    marked: NDArray[np.bool_], lungs: NDArray[np.uint8], geometry: Geometry, minimum_ml: float
) -> NDArray[np.bool_]:
    """Return the marked voxels that make a lesion of at least ``minimum_ml`` in one lung.

    Args:
        marked: bool (slice, row, column).
        lungs: uint8 labels, likewise: ``Label.LEFT_LUNG``, ``Label.RIGHT_LUNG`` or 0.
        geometry: The grid of both.
        minimum_ml: Smaller components are dropped.
    """
    kept = np.zeros_like(marked)
    if not marked.any():
        return kept
    box = box_of(marked)
    sides = lungs[box] * marked[box]
    inside = sides > Label.BACKGROUND
    labels, count = components(sides)
    numbers = labels[inside]
    large = np.bincount(numbers, minlength=count + 1) * geometry.voxel_ml >= minimum_ml
    kept[box][inside] = large[numbers]
    return kept
