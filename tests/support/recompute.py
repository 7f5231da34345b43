"""Recomputes every number of a report from the CT and the SEGs: pydicom and numpy, nothing else.

The readers here share no code with the writers. Planes are matched by position, segments are told
by their codes, lesions are found by a flood fill.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

Mask = NDArray[np.bool_]
LUNG, GROUND_GLASS, CONSOLIDATION = "39607008", "112120", "95436008"
OPACITIES = (GROUND_GLASS, CONSOLIDATION)
SIDES = {"7771000": "left", "24028007": "right"}
THIRDS = ("upper", "middle", "lower")
ROUNDED = 0.0051
"""Half of the second decimal, and the error of a sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ct:
    """Planes in the order of their normal; ``origin`` is the centre of the first pixel, LPS mm."""

    hu: NDArray[np.float64]
    normal: NDArray[np.float64]
    cosines: NDArray[np.float64]
    spacing: tuple[float, float, float]
    origin: NDArray[np.float64]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Ct:
        """Read single-frame images."""
        images = [pydicom.dcmread(path) for path in paths]
        cosines = np.array(images[0].ImageOrientationPatient, float)
        normal = np.cross(cosines[:3], cosines[3:])
        images.sort(key=lambda image: float(normal @ _position(image)))
        heights = [float(normal @ _position(image)) for image in images]
        rows, columns = (float(value) for value in images[0].PixelSpacing)
        hu = [
            image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
            for image in images
        ]
        step = (heights[-1] - heights[0]) / (len(heights) - 1)
        return cls(
            hu=np.array(hu),
            normal=normal,
            cosines=cosines,
            spacing=(step, rows, columns),
            origin=_position(images[0]),
        )

    @property
    def ml(self) -> float:
        """Volume of a voxel."""
        return math.prod(self.spacing) / 1000

    def index(self, position: Sequence[float]) -> int:
        """Return the plane at a position."""
        place = float(self.normal @ (np.array(position, float) - self.origin)) / self.spacing[0]
        assert abs(place - round(place)) < 1e-3, "a frame between the planes"
        return round(place)

    def centre(self, mask: Mask) -> NDArray[np.float64]:
        """Return the mean position of voxels, LPS mm."""
        slices, rows, columns = np.argwhere(mask).mean(axis=0) * self.spacing
        return (
            self.origin
            + slices * self.normal
            + rows * self.cosines[3:]
            + columns * self.cosines[:3]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment of a SEG; ``kind`` is the code value of its property type."""

    kind: str
    side: str
    tracking_uid: str
    mask: Mask


def _position(image: Dataset) -> NDArray[np.float64]:
    return np.array(image.ImagePositionPatient, float)


def read_segments(path: Path, ct: Ct) -> dict[tuple[str, int], Segment]:
    """Return the segments of a SEG by SOP Instance UID and Segment Number, without background."""
    seg = pydicom.dcmread(path)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    measures, orientation = shared.PixelMeasuresSequence[0], shared.PlaneOrientationSequence[0]
    assert np.allclose(measures.PixelSpacing, ct.spacing[1:])
    assert np.allclose(orientation.ImageOrientationPatient, ct.cosines)
    described = {int(item.SegmentNumber): item for item in seg.SegmentSequence}
    masks = {number: np.zeros(ct.hu.shape, bool) for number in described}
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        index = ct.index(groups.PlanePositionSequence[0].ImagePositionPatient)
        if seg.SegmentationType == "LABELMAP":
            assert set(np.unique(frame).tolist()) <= set(masks), "every value is described"
            for number, mask in masks.items():
                mask[index] |= frame == number
        else:
            holder = groups if "SegmentIdentificationSequence" in groups else shared
            number = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            masks[int(number)][index] |= frame > 0
    return {
        (str(seg.SOPInstanceUID), number): Segment(
            kind=str(item.SegmentedPropertyTypeCodeSequence[0].CodeValue),
            side=_side(item),
            tracking_uid=str(item.TrackingUID),
            mask=masks[number],
        )
        for number, item in described.items()
        if number
    }


def _side(segment: Dataset) -> str:
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence")
    if not modifiers:
        modifiers = segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence
    return SIDES[str(modifiers[0].CodeValue)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """A connected lesion (26-neighbourhood) of one lung."""

    side: str
    mask: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """The segments of one SEG of lungs and opacities, or of its parts."""

    ct: Ct
    segments: Sequence[Segment]
    lesions: Sequence[Lesion] = field(default_factory=tuple)

    @classmethod
    def of(cls, ct: Ct, segments: Sequence[Segment]) -> Chest:
        """Find the lesions of each lung, the largest first."""
        every = np.sum([segment.mask for segment in segments], axis=0)
        assert every.max() <= 1, "segments overlap"
        empty = cls(ct=ct, segments=segments)
        lesions = [
            Lesion(side=side, mask=mask)
            for side in SIDES.values()
            for mask in parts_of(empty.mask(side, *OPACITIES))
        ]
        lesions.sort(key=lambda lesion: -int(lesion.mask.sum()))
        return cls(ct=ct, segments=segments, lesions=lesions)

    def mask(self, side: str, *kinds: str) -> Mask:
        """Return the union of segments; ``side`` may be ``both``, no kinds are all kinds."""
        found = np.zeros(self.ct.hu.shape, bool)
        for segment in self.segments:
            if side in {"both", segment.side} and (not kinds or segment.kind in kinds):
                found |= segment.mask
        return found

    def ml(self, side: str, *kinds: str) -> float:
        """Return the volume of segments."""
        return int(self.mask(side, *kinds).sum()) * self.ct.ml

    def percent(self, side: str) -> float:
        """Return the involvement."""
        return 100 * self.ml(side, *OPACITIES) / self.ml(side)

    def share(self, within: Mask) -> float:
        """Return the percent of lesion voxels that are consolidation."""
        return 100 * float(self.mask("both", CONSOLIDATION)[within].mean())


def parts_of(mask: Mask) -> list[Mask]:
    """Return the connected parts of a mask (all neighbours, also diagonal)."""
    steps = [step for step in product((-1, 0, 1), repeat=mask.ndim) if any(step)]
    left = {tuple(place) for place in np.argwhere(mask).tolist()}
    parts = []
    while left:
        todo = [left.pop()]
        part = np.zeros_like(mask)
        while todo:
            place = todo.pop()
            part[place] = True
            for step in steps:
                near = tuple(at + by for at, by in zip(place, step, strict=True))
                if near in left:
                    left.remove(near)
                    todo.append(near)
        parts.append(part)
    return parts


def long_axis(lesion: Mask, spacing: tuple[float, float, float]) -> float:
    """Return the longest distance of two pixel centres of one part of one slice; >= a pixel."""
    longest = min(spacing[1:])
    for plane in lesion:
        for part in parts_of(plane):
            points = np.argwhere(part) * spacing[1:]
            gaps = points[:, None] - points[None]
            longest = max(longest, float(np.hypot(gaps[..., 0], gaps[..., 1]).max()))
    return longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A measurement group of an SR; ``numbers`` by code value, with the UCUM unit."""

    tracking: str
    tracking_uid: str
    numbers: Mapping[str, tuple[float, str]]
    segment: tuple[str, int] | None


def read_groups(path: Path) -> list[Group]:
    """Return the measurement groups of an SR."""
    return [_group(item) for item in _items(pydicom.dcmread(path)) if _name(item) == "125007"]


def _group(item: Dataset) -> Group:
    content = list(item.ContentSequence)
    references = [
        child.ReferencedSOPSequence[0]
        for child in content
        if child.ValueType == "IMAGE" and _name(child) == "121191"
    ]
    return Group(
        tracking=next(str(child.TextValue) for child in content if _name(child) == "112039"),
        tracking_uid=next(str(child.UID) for child in content if _name(child) == "112040"),
        numbers={
            _name(child): (
                float(child.MeasuredValueSequence[0].NumericValue),
                str(child.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue),
            )
            for child in content
            if child.ValueType == "NUM"
        },
        segment=next(
            (
                (str(sop.ReferencedSOPInstanceUID), int(sop.ReferencedSegmentNumber))
                for sop in references
            ),
            None,
        ),
    )


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _items(child)


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


VOLUME, MEAN_HU, COUNT = "118565006", "112031", "246206008"
LONG_AXIS, SHORT_AXIS = "103339001", "103340004"


def expected(group: Group, chest: Chest, findings: Mapping[str, Any]) -> dict[str, float]:
    """Return every number that a group without a segment must state."""
    covered = str(findings["covers"])
    match group.tracking:
        case "Summary":
            return _summary(chest, findings, covered)
        case "Left lung" | "Right lung":
            side = group.tracking.split()[0].lower()
            return {} if covered not in {side, "both"} else _lung(chest, findings, side)
        case "Lung lesions (opacities)":
            lesion = chest.mask("both", *OPACITIES)
            return {
                "LESION_VOLUME": chest.ml("both", *OPACITIES),
                MEAN_HU: float(chest.ct.hu[lesion].mean()),
                "PCT_HIGH_OPACITY": chest.share(lesion),
            }
        case _:
            lesion = chest.lesions[int(group.tracking.removeprefix("Lesion ")) - 1].mask
            return {VOLUME: int(lesion.sum()) * chest.ct.ml, **_lesion(chest, lesion)}


def _summary(chest: Chest, findings: Mapping[str, Any], covered: str) -> dict[str, float]:
    percents = {
        f"PCT_{side.upper()}_LUNG": chest.percent(side)
        for side in SIDES.values()
        if covered in {side, "both"}
    }
    return {
        **({"PCT_INVOLVED": chest.percent("both")} if covered == "both" else {}),
        "LESION_VOLUME": chest.ml("both", *OPACITIES),
        "LUNG_VOLUME": chest.ml("both"),
        COUNT: len(chest.lesions),
        "PRESENCE_SCORE": findings["presence"]["score"],
        **percents,
    }


def _lung(chest: Chest, findings: Mapping[str, Any], side: str) -> dict[str, float]:
    names = {"upper": "PCT_UPPER_THIRD", "middle": "PCT_MIDDLE_THIRD", "lower": "PCT_LOWER_THIRD"}
    stated = {zone["zone"]: zone["involved_percent"] for zone in findings[side]["zones"]}
    return {
        "LUNG_VOLUME": chest.ml(side),
        "LESION_VOLUME": chest.ml(side, *OPACITIES),
        "PCT_INVOLVED": chest.percent(side),
        **{names[third]: percent for third, percent in thirds(chest, side).items()},
        "PCT_PERIPHERAL": stated["peripheral"],
        "PCT_CENTRAL": stated["central"],
    }


def thirds(chest: Chest, side: str) -> dict[str, float]:
    """Return the involvement of the thirds of the height of a lung."""
    lung, lesion = chest.mask(side), chest.mask(side, *OPACITIES)
    slices = np.flatnonzero(lung.any(axis=(1, 2)))
    ends = np.linspace(slices[0], slices[-1] + 1, 4).round().astype(int)
    parts = list(pairwise(ends))
    upwards = chest.ct.normal[2] > 0
    return {
        third: 100 * float(lesion[first:last].sum() / lung[first:last].sum())
        for third, (first, last) in zip(THIRDS, parts[::-1] if upwards else parts, strict=True)
    }


def _lesion(chest: Chest, lesion: Mask) -> dict[str, float]:
    return {
        MEAN_HU: float(chest.ct.hu[lesion].mean()),
        "PCT_HIGH_OPACITY": chest.share(lesion),
        LONG_AXIS: long_axis(lesion, chest.ct.spacing),
    }
