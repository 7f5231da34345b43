"""NIfTI files in Rales' orientation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from training.data import LEFT, RIGHT
from training.sources.layouts import LayoutError, Scan

_CANONICAL = nib.orientations.axcodes2ornt(("L", "P", "S"))
"""Columns to the patient's left, rows to the back, slices to the head."""
_GREY = (0.0, 255.0)
_FLAT = 1e-9
"""mm³: voxels smaller than that have no volume."""
_MOST_VOXELS = 0.5
"""So far may a mask lie off its image, by their headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScan:
    """One scan, axes (slice, row, column): feet to head, front to back, right to left.

    Attributes:
        image: HU, float32; grey levels where the set has lost them.
        window: Values that become black and white where they are no HU; None: HU.
        spacing: mm along (slice, row, column).
        lungs: uint8 of 0, RIGHT and LEFT; None: the set has no masks of the lungs.
        lesion: bool.
    """

    name: str
    patient: str
    image: NDArray[np.float32]
    window: tuple[float, float] | None
    spacing: tuple[float, float, float]
    lungs: NDArray[np.uint8] | None
    lesion: NDArray[np.bool_]
    slices_apart: bool


def read_scan(scan: Scan) -> LabelledScan:
    """Read the files of a scan.

    Raises:
        LayoutError: A file is no NIfTI volume, the image has neither HU nor grey levels, or a
            mask is not on the grid of its image or has values that nobody explained.
    """
    grid = read_canonical(scan.image)
    image = grid.voxels
    lungs = None if scan.lungs is None else _mask(scan.lungs, grid)
    lesion = np.zeros(image.shape, dtype=bool)
    if scan.lesion is not None:
        values = _mask(scan.lesion, grid)
        unknown = set(np.unique(values).tolist()) - {0, *scan.lesion_values, *scan.other_values}
        if unknown:
            raise LayoutError(f"{scan.lesion} holds {sorted(unknown)}: is that lesion or not?")
        lesion = np.isin(values, scan.lesion_values)
    # Some sets went through pictures: nothing below 0 and nothing above 255 is left of the HU.
    lost = image.min() >= _GREY[0] and image.max() <= _GREY[1]
    if not lost and image.min() >= 0:
        raise LayoutError(
            f"{scan.image} lies between {image.min():g} and {image.max():g}: those are neither "
            "HU, for there is no air, nor grey levels of 0 to 255"
        )
    return LabelledScan(
        name=scan.name,
        patient=scan.patient,
        image=image,
        window=(float(image.min()), float(max(image.max(), image.min() + 1))) if lost else None,
        spacing=grid.spacing,
        lungs=None if lungs is None else sides_by_place(lungs),
        lesion=lesion,
        slices_apart=scan.slices_apart,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Voxels in Rales' orientation and where they lie.

    Attributes:
        voxels: float32 (slice, row, column).
        spacing: mm along (slice, row, column).
        affine: (4, 4), from (column, row, slice) to NIfTI's mm, which run right, front, head.
    """

    voxels: NDArray[np.float32]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]


def read_canonical(path: Path) -> Grid:
    """Read a volume and turn it as its header says.

    Raises:
        LayoutError: The file is no NIfTI volume of three axes with a place in space.
    """
    try:
        file: Any = nib.load(path)
        values = np.asarray(file.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise LayoutError(f"{path} is no NIfTI volume: {error}") from error
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    if values.ndim != 3:
        raise LayoutError(f"{path} has {values.ndim} axes, not 3")
    if not np.isfinite(file.affine).all() or abs(np.linalg.det(file.affine[:3, :3])) < _FLAT:
        raise LayoutError(f"{path} does not say how its axes lie in the patient")
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(file.affine), _CANONICAL)
    turned = nib.orientations.apply_orientation(values, turn)
    sizes = np.empty(3)
    sizes[turn[:, 0].astype(int)] = file.header.get_zooms()[:3]
    columns, rows, slices = (float(size) for size in sizes)
    return Grid(
        voxels=np.ascontiguousarray(turned.transpose(2, 1, 0)),
        spacing=(slices, rows, columns),
        affine=file.affine @ nib.orientations.inv_ornt_aff(turn, values.shape),
    )


def _mask(path: Path, image: Grid) -> NDArray[np.uint8]:
    mask, shape = read_canonical(path), image.voxels.shape
    if mask.voxels.shape != shape:
        raise LayoutError(f"{path} has {mask.voxels.shape} voxels, its image {shape}")
    # A header that was lost on the way would turn the mask against its image.
    corners = np.array([*itertools.product(*((0, length - 1) for length in shape[::-1]))])
    there = np.linalg.inv(image.affine) @ mask.affine
    moved = apply_affine(there, corners) - corners
    if np.abs(moved).max() > _MOST_VOXELS:
        raise LayoutError(
            f"the headers of {path} and its image do not agree where they lie: a corner is "
            f"{np.abs(moved).max():.1f} voxels off"
        )
    values = np.round(mask.voxels)
    if not (values.min() >= 0 and values.max() <= 255):
        raise LayoutError(f"{path} is no mask: it holds other values than 0 to 255")
    return values.astype(np.uint8)


def sides_by_place(lungs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 0, RIGHT and LEFT for a mask of two labels, whichever way it numbers them.

    A mask of one label for both is returned with RIGHT and LEFT on either side of the middle
    of its box.
    """
    labels = [int(one) for one in np.unique(lungs) if one]
    sides = np.zeros(lungs.shape, dtype=np.uint8)
    columns = np.arange(lungs.shape[2])
    if len(labels) == 2:
        middles = [float((lungs == one).sum(axis=(0, 1)) @ columns) for one in labels]
        counts = [int((lungs == one).sum()) for one in labels]
        first_is_right = middles[0] / counts[0] < middles[1] / counts[1]
        for label, is_right in zip(labels, (first_is_right, not first_is_right), strict=True):
            sides[lungs == label] = RIGHT if is_right else LEFT
        return sides
    marked = np.flatnonzero(lungs.any(axis=(0, 1)))
    if marked.size:
        middle = (marked[0] + marked[-1]) / 2
        sides[lungs > 0] = LEFT
        sides[(lungs > 0) & (columns <= middle)] = RIGHT
    return sides
