"""Parses CT headers into what the loader and the rules need, one record per slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import Vector
from chestct.uids import Uid
from chestct.volume import SliceSource


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceHeader:
    """One slice: a single-frame image, or a frame of an Enhanced CT.

    Attributes:
        row_cosines, column_cosines: Image Orientation (Patient).
        pixel_spacing: Between rows, between columns, mm.
        slope, intercept: To HU.
        padding: Lowest and highest stored value that stands for "no pixel".
        instance: Index of the data set that it comes from; ``frame`` counts from 0 in it.
    """

    source: SliceSource
    instance: int
    frame: int
    rows: int
    columns: int
    position: Vector
    row_cosines: Vector
    column_cosines: Vector
    pixel_spacing: tuple[float, float]
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    thickness_mm: float | None
    gantry_tilt: float
    image_type: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What the eligibility rules look at; texts upper-cased, empty when missing."""

    modality: str
    body_part: str
    series_description: str
    kernel: str
    image_type: tuple[str, ...]
    slices: int
    thickness_mm: float | None


def slice_headers(datasets: Sequence[Dataset]) -> list[SliceHeader]:
    """Parse every slice of a series.

    Raises:
        SeriesRejected: A slice lacks a position, an orientation, a spacing or a rescale.
    """
    headers: list[SliceHeader] = []
    for index, dataset in enumerate(datasets):
        if "PerFrameFunctionalGroupsSequence" in dataset:
            headers += _enhanced(dataset, index)
        else:
            headers.append(_parse(dataset, dataset, index, frame=None))
    return headers


def series_facts(dataset: Dataset, headers: Sequence[SliceHeader]) -> SeriesFacts:
    """Collect what the rules look at from the first data set and all slices."""
    thicknesses = [one.thickness_mm for one in headers if one.thickness_mm is not None]
    return SeriesFacts(
        modality=_upper(dataset, "Modality"),
        body_part=_upper(dataset, "BodyPartExamined"),
        series_description=_upper(dataset, "SeriesDescription"),
        kernel=_upper(dataset, "ConvolutionKernel"),
        image_type=headers[0].image_type,
        slices=len(headers),
        thickness_mm=max(thicknesses, default=None),
    )


def _upper(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) else list(value)
    return "\\".join(str(part).strip().upper() for part in parts)


class _Groups(Dataset):
    """The functional groups of one frame, seen as one flat data set."""


def _enhanced(dataset: Dataset, index: int) -> list[SliceHeader]:
    """Flatten shared and per-frame functional groups (PS3.3 A.38 and C.7.6.16)."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    headers = []
    for frame, own in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        flat = _Groups()
        for groups in (shared[0], own):
            for element in groups:
                if element.VR == "SQ" and element.value:
                    flat.update({inner.tag: inner for inner in element.value[0]})
        if "FrameType" in flat:
            flat.ImageType = flat.FrameType
        headers.append(_parse(flat, dataset, index, frame=frame))
    return headers


def _parse(groups: Dataset, dataset: Dataset, index: int, *, frame: int | None) -> SliceHeader:
    """Parse one slice; ``groups`` holds the frame's own values, ``dataset`` the common ones."""
    position = _vector(groups, "ImagePositionPatient", 3, RejectReason.NO_POSITIONS)
    cosines = _vector(groups, "ImageOrientationPatient", 6, RejectReason.NO_POSITIONS)
    spacing = _vector(groups, "PixelSpacing", 2, RejectReason.BAD_GEOMETRY)
    slope, intercept = _rescale(groups)
    return SliceHeader(
        source=SliceSource(
            sop_class_uid=Uid(dataset.SOPClassUID),
            sop_instance_uid=Uid(dataset.SOPInstanceUID),
            frame_number=None if frame is None else frame + 1,
        ),
        instance=index,
        frame=frame or 0,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        position=(position[0], position[1], position[2]),
        row_cosines=(cosines[0], cosines[1], cosines[2]),
        column_cosines=(cosines[3], cosines[4], cosines[5]),
        pixel_spacing=(spacing[0], spacing[1]),
        slope=slope,
        intercept=intercept,
        padding=_padding(dataset),
        thickness_mm=_number(groups, "SliceThickness"),
        gantry_tilt=_number(groups, "GantryDetectorTilt") or 0.0,
        image_type=tuple(_upper(groups, "ImageType").split("\\")),
    )


def _vector(dataset: Dataset, keyword: str, count: int, reason: RejectReason) -> tuple[float, ...]:
    value: Any = dataset.get(keyword)
    try:
        numbers = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count:
        raise SeriesRejected(reason, f"a slice has no usable {_spoken(keyword)}")
    return numbers


def _number(dataset: Dataset, keyword: str) -> float | None:
    value: Any = dataset.get(keyword)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _rescale(dataset: Dataset) -> tuple[float, float]:
    """Return slope and intercept to HU (PS3.3 C.11.1)."""
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    kind = _upper(dataset, "RescaleType")
    if slope is None or intercept is None or slope == 0:
        raise SeriesRejected(
            RejectReason.BAD_RESCALE, "a slice has no usable Rescale Slope and Intercept"
        )
    if kind not in {"", "HU", "US"}:
        raise SeriesRejected(
            RejectReason.BAD_RESCALE, f"the pixels are {kind[:16]}, not Hounsfield units"
        )
    return slope, intercept


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return the range of Pixel Padding Value (PS3.3 C.7.5.1.1.2)."""
    value: Any = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit: Any = dataset.get("PixelPaddingRangeLimit", value)
    other = limit if isinstance(limit, int) else value
    return min(value, other), max(value, other)


def _spoken(keyword: str) -> str:
    return {
        "ImagePositionPatient": "Image Position (Patient)",
        "ImageOrientationPatient": "Image Orientation (Patient)",
        "PixelSpacing": "Pixel Spacing",
    }[keyword]
