"""NIfTI files in Rales' orientation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from inference.training.data import LEFT, RIGHT
from inference.training.sources.layouts import LayoutError, Scan

_CANONICAL = nib.orientations.axcodes2ornt(("L", "P", "S"))
"""Columns to the patient's left, rows to the back, slices to the head."""
_GREY = (0.0, 255.0)


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
        LayoutError: A file is no NIfTI volume, or a mask is not on the grid of its image.
    """
    image, spacing = read_canonical(scan.image)
    lungs = None if scan.lungs is None else _mask(scan.lungs, image.shape)
    lesion = np.zeros(image.shape, dtype=bool)
    if scan.lesion is not None:
        lesion = np.isin(_mask(scan.lesion, image.shape), scan.lesion_values)
    # Some sets went through pictures: nothing below 0 and nothing above 255 is left of the HU.
    lost = image.min() >= _GREY[0] and image.max() <= _GREY[1]
    return LabelledScan(
        name=scan.name,
        patient=scan.patient,
        image=image,
        window=(float(image.min()), float(max(image.max(), image.min() + 1))) if lost else None,
        spacing=spacing,
        lungs=None if lungs is None else sides_by_place(lungs),
        lesion=lesion,
        slices_apart=scan.slices_apart,
    )


def read_canonical(path: Path) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Return voxels (slice, row, column), float32, and their size in mm.

    Raises:
        LayoutError: The file is no NIfTI volume of three axes.
    """
    try:
        file: Any = nib.load(path)
        values = np.asarray(file.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise LayoutError(f"{path} is no NIfTI volume: {error}") from error
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    if values.ndim != 3:
        raise LayoutError(f"{path} has {values.ndim} axes, not 3")
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(file.affine), _CANONICAL)
    turned = nib.orientations.apply_orientation(values, turn)
    sizes = np.empty(3)
    sizes[turn[:, 0].astype(int)] = file.header.get_zooms()[:3]
    columns, rows, slices = (float(size) for size in sizes)
    return np.ascontiguousarray(turned.transpose(2, 1, 0)), (slices, rows, columns)


def _mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    values, _ = read_canonical(path)
    if values.shape != shape:
        raise LayoutError(f"{path} has {values.shape} voxels, its image {shape}")
    return np.round(values).astype(np.uint8)


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
