"""Training slices from any source, in the form in which the networks see them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RIGHT, LEFT, IGNORE = 1, 2, 255
"""Values of :attr:`SliceSet.lungs` beside 0 for background."""

_SAME_PATIENT = {11: 10, 15: 14}
"""In the COVID-19-CT-Seg release, volumes 10 and 11, and 14 and 15, are one patient each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSet:
    """Slices ready for a network, grouped in volumes.

    Attributes:
        images: uint8 (n, 256, 256), HU in the window of the networks or 8-bit images of another
            source; rows run anterior to posterior, columns patient right to left; neighbours in
            space are neighbours here.
        lungs: uint8 (n, 256, 256): 0, RIGHT, LEFT, or IGNORE where the side is not known.
        lesions: bool (n, 256, 256).
        volumes: int (n,): the volume of each slice.
        names: The name of each volume number.
        unknown: bool (n, 256, 256): where nobody can tell whether there is a lesion; None: known
            everywhere.
    """

    images: NDArray[np.uint8]
    lungs: NDArray[np.uint8]
    lesions: NDArray[np.bool_]
    volumes: NDArray[np.int64]
    names: tuple[str, ...]
    unknown: NDArray[np.bool_] | None = None

    def select(self, volumes: Sequence[int]) -> SliceSet:
        """Return the slices of some volumes."""
        keep = np.isin(self.volumes, volumes)
        return SliceSet(
            images=self.images[keep],
            lungs=self.lungs[keep],
            lesions=self.lesions[keep],
            volumes=self.volumes[keep],
            names=self.names,
            unknown=None if self.unknown is None else self.unknown[keep],
        )

    def named(self, names: Collection[str]) -> SliceSet:
        """Return the slices of the volumes of these names."""
        return self.select([at for at, name in enumerate(self.names) if name in names])

    def neighbour(self, indices: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Return the index ``step`` further in the same volume, or the last index of the volume."""
        last = len(self.volumes) - 1
        moved = np.clip(indices + step, 0, last)
        while (outside := self.volumes[moved] != self.volumes[indices]).any():
            moved[outside] -= np.sign(step)
        return moved


def join(sets: Sequence[SliceSet]) -> SliceSet:
    """Return a set with the volumes of all ``sets``."""
    offsets = np.cumsum([0, *(len(data.names) for data in sets[:-1])])
    return SliceSet(
        images=np.concatenate([data.images for data in sets]),
        lungs=np.concatenate([data.lungs for data in sets]),
        lesions=np.concatenate([data.lesions for data in sets]),
        volumes=np.concatenate(
            [data.volumes + offset for data, offset in zip(sets, offsets, strict=True)]
        ),
        names=tuple(name for data in sets for name in data.names),
        unknown=_joined_unknown(sets),
    )


def _joined_unknown(sets: Sequence[SliceSet]) -> NDArray[np.bool_] | None:
    if all(data.unknown is None for data in sets):
        return None
    return np.concatenate(
        [np.zeros_like(data.lesions) if data.unknown is None else data.unknown for data in sets]
    )


def load_slices(path: Path) -> SliceSet:
    """Read a file of the ``slices.npz`` format (see docs/model/data.md).

    ``ct`` uint8 (n, 256, 256); ``lung`` and ``lesion`` bit-packed along the last axis, the
    lesion inside the lung; ``volume`` (n,), whole numbers. Optional: ``sides`` uint8 like
    ``ct``, 0, RIGHT and LEFT, and ``name``, the name of each volume. Without ``sides`` the
    position of a lung gives its side; without ``name`` a volume has its number as name.
    """
    with np.load(path) as file:
        images = file["ct"]
        lung = np.unpackbits(file["lung"], axis=-1, count=images.shape[-1]).astype(bool)
        lesion = np.unpackbits(file["lesion"], axis=-1, count=images.shape[-1]).astype(bool)
        volumes = file["volume"].astype(np.int64)
        given = file.get("sides")
        names = tuple(map(str, file["name"] if "name" in file else range(int(volumes.max()) + 1)))
    sides = np.zeros(images.shape, dtype=np.uint8) if given is None else given
    for volume in np.unique(volumes) if given is None else ():
        chosen = volumes == volume
        sides[chosen] = split_sides(lung[chosen] | lesion[chosen])
    return SliceSet(
        images=images,
        lungs=sides,
        lesions=lesion,
        volumes=volumes,
        names=names,
    )


def patient_of(volume: int) -> int:
    """Return the number that stands for the patient of a COVID-19-CT-Seg volume."""
    return _SAME_PATIENT.get(volume, volume)


def split_sides(lung: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Label right and left in a mask (slice, row, column) of both lungs.

    Each 2D component takes the side of its centroid relative to the middle of the chest. A
    component that reaches far to both sides (the lungs touch) is split there, with a band of
    IGNORE where the border is unknown.
    """
    columns = np.flatnonzero(lung.any(axis=(0, 1)))
    middle = (columns[0] + columns[-1]) / 2
    sides = np.zeros(lung.shape, dtype=np.uint8)
    grid = np.arange(lung.shape[2])
    band = np.abs(grid - middle) < 12
    for index, plane in enumerate(lung):
        parts, count = ndimage.label(plane)
        for part in range(1, count + 1):
            member = parts == part
            share = member[:, grid < middle].sum() / member.sum()
            if 0.15 < share < 0.85 and member.sum() > 200:
                sides[index][member & (grid < middle)] = RIGHT
                sides[index][member & (grid >= middle)] = LEFT
                sides[index][member & band] = IGNORE
            else:
                sides[index][member] = RIGHT if share >= 0.5 else LEFT
    return sides


def load_split(name: str) -> dict[str, list[int]]:
    """Return the volumes of each part of a committed split, by patient."""
    text = (resources.files("training") / "splits" / f"{name}.json").read_text()
    parts: dict[str, list[int]] = json.loads(text)["volumes"]
    return parts
