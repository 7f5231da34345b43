"""The committed recipe of a series: where its trachea is, and how its labels were corrected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data import IGNORE, LEFT, RIGHT
from training.real_labels.lungs import LungSettings
from training.real_labels.planes import Mask, closed, opened, smoothed

_LABELS = {"none": 0, "right": RIGHT, "left": LEFT, "lesion": 1, "unknown": IGNORE}
_WIDEST_HOLE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A prism: an outline in one or several slabs, interpolated between them.

    Attributes:
        slabs: First slab and one past the last.
        outlines: Per key slab the corners (row, column); each key slab has the same number.
    """

    slabs: tuple[int, int]
    outlines: dict[int, NDArray[np.float64]]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        """Return the region of an entry: ``box`` or ``slabs`` with ``outlines``."""
        if "box" in entry:
            (first, last), (top, bottom), (left, right) = entry["box"]
            rows, columns = [top, top, bottom - 1, bottom - 1], [left, right - 1, right - 1, left]
            corners = np.stack([rows, columns], axis=1).astype(float)
            return cls(slabs=(first, last), outlines={first: corners})
        keys = {int(key): np.array(corners, float) for key, corners in entry["outlines"].items()}
        first, last = entry.get("slabs", (min(keys), max(keys) + 1))
        return cls(slabs=(first, last), outlines=keys)

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """Return the voxels inside the region."""
        inside = np.zeros(shape, dtype=np.uint8)
        for slab in range(self.slabs[0], min(self.slabs[1], shape[0])):
            corners = np.round(self._corners(slab)).astype(np.int32)[:, ::-1]
            cv2.fillPoly(inside[slab], [np.ascontiguousarray(corners)], 1)
        return inside > 0

    def _corners(self, slab: int) -> NDArray[np.float64]:
        keys = sorted(self.outlines)
        below = max((key for key in keys if key <= slab), default=keys[0])
        above = min((key for key in keys if key >= slab), default=keys[-1])
        if below == above:
            return self.outlines[below]
        share = (slab - below) / (above - below)
        return (1 - share) * self.outlines[below] + share * self.outlines[above]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A correction of a label map within a region.

    Attributes:
        label: The label that voxels of the region get.
        region: Where.
        hu: They are from this HU on, and below that HU, smoothed.
        blur: Standard deviation of that smoothing within a slab, pixels.
        open: Radius in pixels of the disc that fits into them: vessels are thinner.
        only: They had one of these labels; empty means any.
        close: Not 0: they lie in the closing of the label by a disc of this radius in pixels.
        why: The reason, in a line.
    """

    label: int
    region: Region
    hu: tuple[float, float]
    blur: float
    open: int
    only: tuple[int, ...]
    close: int
    why: str

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        """Return the correction of an entry."""
        low, high = entry.get("hu", (-np.inf, np.inf))
        return cls(
            label=_LABELS[entry["label"]],
            region=Region.of(entry),
            hu=(low, high),
            blur=entry.get("blur", 0.7),
            open=entry.get("open", 0),
            only=tuple(_LABELS[name] for name in entry.get("only", ())),
            close=entry.get("close", 0),
            why=entry["why"],
        )

    def apply(self, labels: NDArray[np.uint8], hu: NDArray[np.int16], within: Mask) -> None:
        """Correct the labels in place, ``within`` a mask."""
        first, last = self.region.slabs
        part, soft = labels[first:last], smoothed(hu[first:last], self.blur)
        where = (self.region.mask(labels.shape) & within)[first:last]
        where &= (soft >= self.hu[0]) & (soft < self.hu[1])
        if self.open:
            where = opened(where, self.open)
        if self.only:
            where &= np.isin(part, self.only)
        if self.close:
            where &= closed(part == self.label, self.close, _WIDEST_HOLE)
        part[where] = self.label


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRecipe:
    """How the labels of a series are made.

    Attributes:
        name: Short name.
        settings: How the lungs are outlined.
        no_lung: Regions whose air is no lung: stomach and bowel.
        lungs: Corrections of the lungs, in order.
        lesions: What is lesion or unknown; all else is free of lesions.
    """

    name: str
    settings: LungSettings
    no_lung: tuple[Region, ...]
    lungs: tuple[Edit, ...]
    lesions: tuple[Edit, ...]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        """Return the recipe of an entry."""
        settings = dict(entry["settings"])
        settings["trachea"] = tuple(settings["trachea"])
        return cls(
            name=entry["name"],
            settings=LungSettings(**settings),
            no_lung=tuple(Region.of(region) for region in entry.get("no_lung", ())),
            lungs=tuple(Edit.of(edit) for edit in entry.get("lungs", ())),
            lesions=tuple(Edit.of(edit) for edit in entry.get("lesions", ())),
        )


def known_recipes() -> dict[str, SeriesRecipe]:
    """Return the committed recipes by Series Instance UID."""
    text = (resources.files("training") / "real_labels/recipes.json").read_text()
    return {uid: SeriesRecipe.of(entry) for uid, entry in json.loads(text)["series"].items()}
