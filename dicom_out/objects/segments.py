"""The segments of a SEG, and the segment of each voxel.

Segments of one SEG must not overlap: viewers compute wrong volumes if they do. So there are two
layers. The first has six segments that add up to the lungs: of each lung, its ground-glass, its
consolidation and the rest. The second, if configured, has the largest lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code
from scipy import ndimage

from chestct.findings import Lesion, Side
from chestct.method import Method
from chestct.volume import LABELS_OF, Label, LesionMap
from dicom_out.objects import codes


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPlan:
    """The description of one segment.

    Attributes:
        number: Segment Number, counted from 1 without gaps.
        role: Derives the tracking UID, which the SR repeats.
        kind: Segmented Property Type in the SEG, finding type in the SR.
        laterality: The side that holds its voxels.
        colour: RGB, 0 to 255.
    """

    number: int
    role: str
    label: str
    description: str
    kind: Code
    laterality: Code
    colour: tuple[int, int, int]

    @property
    def is_lung(self) -> bool:
        """Whether the segment is a lung rather than a finding."""
        return bool(self.kind == codes.LUNG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The segments that have voxels.

    Attributes:
        numbers: uint8 segment numbers on the grid of the volume (slice, row, column), 0 for none.
        per_slice: Voxels of each segment on each slice, (slices, segments); column ``number - 1``.
    """

    plans: tuple[SegmentPlan, ...]
    numbers: NDArray[np.uint8]
    per_slice: NDArray[np.int64]

    @property
    def frames(self) -> int:
        """The frames of a SEG with a frame per segment and slice."""
        return int(np.count_nonzero(self.per_slice))

    def fullest(self, plan: SegmentPlan, taken: set[int]) -> int:
        """Return the slice that shows most of a segment, if possible not one of ``taken``."""
        counts = self.per_slice[:, plan.number - 1]
        free = counts.copy()
        free[list(taken)] = 0
        return int((free if free.any() else counts).argmax())


_LUNG_COLOURS = {Side.LEFT: (80, 170, 255), Side.RIGHT: (70, 220, 160)}
_GROUND_GLASS_COLOURS = {Side.LEFT: (255, 190, 60), Side.RIGHT: (255, 215, 120)}
_CONSOLIDATION_COLOURS = {Side.LEFT: (255, 80, 60), Side.RIGHT: (235, 60, 110)}


def lung_role(side: Side) -> str:
    """Return the role that derives the tracking UID of a lung with its opacities."""
    return f"{side}-lung"


def tissue_segments(lesion_map: LesionMap, method: Method) -> Segments:
    """Return lungs, ground-glass and consolidation; segments without voxels are left out."""
    labels = lesion_map.labels
    counts = _per_slice(labels, len(Label))
    plans = {
        Label.LEFT_LUNG: _lung(Side.LEFT),
        Label.RIGHT_LUNG: _lung(Side.RIGHT),
        Label.LEFT_GROUND_GLASS: _ground_glass(Side.LEFT, method),
        Label.RIGHT_GROUND_GLASS: _ground_glass(Side.RIGHT, method),
        Label.LEFT_CONSOLIDATION: _consolidation(Side.LEFT, method),
        Label.RIGHT_CONSOLIDATION: _consolidation(Side.RIGHT, method),
    }
    present = [label for label in plans if counts[:, label].any()]
    numbers = labels
    if present != list(range(1, len(present) + 1)):
        table = np.zeros(len(Label), np.uint8)
        table[present] = np.arange(1, len(present) + 1)
        numbers = np.empty_like(labels)
        for plane, numbered in zip(labels, numbers, strict=True):
            np.take(table, plane, out=numbered)
    return Segments(
        plans=tuple(
            replace(plans[label], number=number) for number, label in enumerate(present, start=1)
        ),
        numbers=numbers,
        per_slice=counts[:, present],
    )


def lesion_segments(lesion_map: LesionMap, lesions: Sequence[Lesion]) -> Segments:
    """Return ``lesions`` as segments, in order.

    A lesion is the connected part (26-neighbourhood) of the opacity of one lung that holds an end
    of its long axis.
    """
    numbers = np.zeros_like(lesion_map.labels)
    mask = lesion_map.lesion()
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    parts = np.zeros(mask[box].shape, np.int32)
    for labels in LABELS_OF.values():
        own = mask[box] & np.isin(lesion_map.labels[box], labels)
        found, _ = ndimage.label(own, structure=np.ones((3, 3, 3)), output=np.int32)
        parts[own] = found[own] + parts.max()
    boxes = ndimage.find_objects(parts)
    corner = [side.start for side in box]
    for number, lesion in enumerate(lesions, start=1):
        (row, column), _ = lesion.diameter.long_axis
        seed = (lesion.diameter.slice_index, int(row), int(column))
        part = parts[tuple(at - start for at, start in zip(seed, corner, strict=True))]
        inner = boxes[part - 1]
        numbers[box][inner][parts[inner] == part] = number
    plans = tuple(_lesion(number, lesion) for number, lesion in enumerate(lesions, start=1))
    counts = _per_slice(numbers, len(plans) + 1)[:, 1:]
    return Segments(plans=plans, numbers=numbers, per_slice=counts)


def _per_slice(numbers: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Return how often each number below ``count`` occurs in each slice (slice, number)."""
    counts = np.zeros((len(numbers), count), np.int64)
    counts[:, 0] = numbers[0].size
    rows = np.flatnonzero(numbers.max(axis=(0, 2)))
    if rows.size:
        for index, plane in enumerate(numbers[:, rows[0] : rows[-1] + 1]):
            counts[index, 1:] = np.bincount(plane[plane > 0], minlength=count)[1:]
        counts[:, 0] -= counts[:, 1:].sum(axis=1)
    return counts


def lesion_role(lesion: Lesion) -> str:
    """Return the role that derives the tracking UID of a lesion in SEG and SR."""
    return f"lesion-{lesion.number}"


def laterality_of(side: Side) -> Code:
    """Return the code of a side."""
    return codes.LEFT if side is Side.LEFT else codes.RIGHT


def _lung(side: Side) -> SegmentPlan:
    return SegmentPlan(
        number=Label.LEFT_LUNG,
        role=f"{lung_role(side)}-without-opacities",
        label=f"{side.capitalize()} lung excluding opacities",
        description=f"The {side} lung without its opacities, which are segments of their own",
        kind=codes.LUNG,
        laterality=laterality_of(side),
        colour=_LUNG_COLOURS[side],
    )


def _ground_glass(side: Side, method: Method) -> SegmentPlan:
    return SegmentPlan(
        number=Label.LEFT_GROUND_GLASS,
        role=f"{side}-ground-glass",
        label=f"{side.capitalize()} ground-glass opacity",
        description=f"Opacity in the {side} lung; smoothed, below {method.high_opacity_hu:g} HU",
        kind=codes.GROUND_GLASS,
        laterality=laterality_of(side),
        colour=_GROUND_GLASS_COLOURS[side],
    )


def _consolidation(side: Side, method: Method) -> SegmentPlan:
    return SegmentPlan(
        number=Label.LEFT_CONSOLIDATION,
        role=f"{side}-consolidation",
        label=f"{side.capitalize()} consolidation",
        description=(
            f"Opacity in the {side} lung; smoothed, at or above {method.high_opacity_hu:g} HU"
        ),
        kind=codes.CONSOLIDATION,
        laterality=laterality_of(side),
        colour=_CONSOLIDATION_COLOURS[side],
    )


_LESION_COLOURS = (
    (255, 110, 80),
    (255, 210, 70),
    (190, 120, 255),
    (90, 220, 230),
    (255, 130, 200),
    (160, 230, 90),
)


def _lesion(number: int, lesion: Lesion) -> SegmentPlan:
    return SegmentPlan(
        number=number,
        role=lesion_role(lesion),
        label=f"Lesion {lesion.number}",
        description="One connected opacity inside the lungs; number 1 is the largest",
        kind=codes.LESION,
        laterality=laterality_of(lesion.side),
        colour=_LESION_COLOURS[(number - 1) % len(_LESION_COLOURS)],
    )
