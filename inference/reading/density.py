"""The decision between ground-glass and consolidation, made once for all results.

Single voxels are no basis for it: noise and vessels scatter voxels of either kind through the
other. So the density is smoothed inside the lesions, and a piece of one kind that a reader would
not see as a focus of its own takes the kind around it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chestct.method import Method
from chestct.volume import Volume
from inference.reading.postprocess import box_of, components

_REACH = 4
"""The filter is cut off after this many standard deviations."""


def consolidated(lesion: NDArray[np.bool_], volume: Volume, method: Method) -> NDArray[np.bool_]:
    """Return the part of a lesion mask (slice, row, column) that is consolidation."""
    dense = np.zeros_like(lesion)
    if not lesion.any():
        return dense
    box = box_of(lesion)
    inside = lesion[box]
    sigma = tuple(method.density_smoothing_mm / step for step in volume.geometry.spacing)
    smooth = _smoothed(volume.hu[box], inside, sigma)
    kind = inside & (smooth >= method.high_opacity_hu)
    least = method.minimum_piece_ml / volume.geometry.voxel_ml
    kind &= ~_small_pieces(kind, inside & ~kind, least)
    kind |= _small_pieces(inside & ~kind, kind, least)
    dense[box] = kind
    return dense


def _smoothed(
    hu: NDArray[np.int16], inside: NDArray[np.bool_], sigma: tuple[float, ...]
) -> NDArray[np.float32]:
    """Return the HU smoothed over voxels inside the lesions only: lung beside them is air."""
    weight = inside.astype(np.float32)
    total, norm = (
        ndimage.gaussian_filter(values, sigma, mode="constant", truncate=_REACH)
        for values in (np.where(inside, hu, 0).astype(np.float32), weight)
    )
    smooth: NDArray[np.float32] = total / np.where(inside, norm, 1)
    return smooth


def _small_pieces(
    kind: NDArray[np.bool_], other: NDArray[np.bool_], least: float
) -> NDArray[np.bool_]:
    """Return the pieces of ``kind`` that are smaller than ``least`` voxels and touch ``other``."""
    pieces, count = components(kind)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    beside = ndimage.binary_dilation(other, structure=np.ones((3, 3, 3)))
    touching = np.bincount(pieces[beside], minlength=count + 1)
    small = (sizes < least) & (touching > 0)
    small[0] = False
    found: NDArray[np.bool_] = small[pieces]
    return found
