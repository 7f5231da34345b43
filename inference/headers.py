"""Parses CT headers into what the loader and the rules need, one record per slice."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import Vector
from chestct.uids import Uid
from chestct.volume import SliceSource

UNPARSABLE = (
    BytesLengthException,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    struct.error,
)
"""What pydicom raises when a value is not one of its VR."""

LARGEST_SIDE = 4096
"""Rows and Columns that are read; scanners make up to 2048."""
_FARTHEST_MM = 1e5
"""How far a slice may lie from the origin of its frame of reference."""
_SPACING_MM = (0.01, 50.0)
_SLOPES = (1e-6, 1e6)
_LARGEST_INTERCEPT = 1e6
"""Rescale values beyond make no 32-bit float of a stored value that means anything."""


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
    """What the eligibility rules look at; texts upper-cased, empty when missing.

    ``image_types`` holds every Image Type (or Frame Type) that occurs in the series.
    """

    modality: str
    body_part: str
    series_description: str
    kernel: str
    image_types: tuple[tuple[str, ...], ...]
    slices: int
    thickness_mm: float | None


def slice_headers(datasets: Sequence[Dataset]) -> list[SliceHeader]:
    """Parse every slice of a series.

    Raises:
        SeriesRejected: A slice lacks a position, an orientation, a spacing or a rescale, or
            one of them is no number that an image can have.
    """
    headers: list[SliceHeader] = []
    for index, dataset in enumerate(datasets):
        if "PerFrameFunctionalGroupsSequence" in dataset:
            frames = _functional_groups(dataset)
            headers += [
                _parse(groups, dataset, index, frame=frame) for frame, groups in enumerate(frames)
            ]
        else:
            headers.append(_parse(dataset, dataset, index, frame=None))
    return headers


def series_facts(dataset: Dataset, headers: Sequence[SliceHeader]) -> SeriesFacts:
    """Collect what the rules look at from the first data set and all slices."""
    thicknesses = [one.thickness_mm for one in headers if one.thickness_mm is not None]
    enhanced = "PerFrameFunctionalGroupsSequence" in dataset
    groups = _functional_groups(dataset)[0] if enhanced else dataset
    return SeriesFacts(
        modality=_upper(dataset, "Modality"),
        body_part=_upper(dataset, "BodyPartExamined"),
        series_description=_upper(dataset, "SeriesDescription"),
        kernel=_upper(groups, "ConvolutionKernel"),
        image_types=tuple(dict.fromkeys(header.image_type for header in headers)),
        slices=len(headers),
        thickness_mm=max(thicknesses, default=None),
    )


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value; None where it is missing or cannot be parsed."""
    try:
        return dataset.get(keyword)
    except UNPARSABLE:
        return None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Return an integer element; None where it is missing or not one integer."""
    value = value_of(dataset, keyword)
    return int(value) if isinstance(value, int) else None


def image_type(dataset: Dataset) -> tuple[str, ...]:
    """Return the values of Image Type, upper-cased."""
    return tuple(_upper(dataset, "ImageType").split("\\"))


def cosines_of(dataset: Dataset) -> tuple[Vector, Vector] | None:
    """Return the row and column direction cosines of a single-frame image, None without."""
    numbers = _numbers(dataset, "ImageOrientationPatient", 6)
    if numbers is None:
        return None
    return (numbers[0], numbers[1], numbers[2]), (numbers[3], numbers[4], numbers[5])


def _upper(dataset: Dataset, keyword: str) -> str:
    value = value_of(dataset, keyword)
    if value is None:
        return ""
    parts = list(value) if isinstance(value, list | tuple | MultiValue) else [value]
    return "\\".join(str(part).strip().upper() for part in parts)


class _Groups(Dataset):
    """The functional groups of one frame, seen as one flat data set."""


def _functional_groups(dataset: Dataset) -> list[Dataset]:
    try:
        return _enhanced(dataset)
    except UNPARSABLE as error:
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY, "the functional groups cannot be read"
        ) from error


def _enhanced(dataset: Dataset) -> list[Dataset]:
    """Flatten shared and per-frame functional groups (PS3.3 A.38 and C.7.6.16).

    Raises:
        SeriesRejected: There is not one item for each frame: some would stay unread.
    """
    shared = value_of(dataset, "SharedFunctionalGroupsSequence") or [Dataset()]
    per_frame = dataset.PerFrameFunctionalGroupsSequence
    stated = integer(dataset, "NumberOfFrames")
    if not per_frame or stated != len(per_frame):
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY, f"{stated} frames, but {len(per_frame)} are described"
        )
    frames: list[Dataset] = []
    for own in per_frame:
        flat = _Groups()
        for groups in (shared[0], own):
            for element in groups:
                if element.VR == "SQ" and element.value:
                    flat.update({inner.tag: inner for inner in element.value[0]})
        if "FrameType" in flat:
            flat.ImageType = flat.FrameType
        frames.append(flat)
    return frames


def _parse(groups: Dataset, dataset: Dataset, index: int, *, frame: int | None) -> SliceHeader:
    """Parse one slice; ``groups`` holds the frame's own values, ``dataset`` the common ones."""
    position = _vector(groups, "ImagePositionPatient", 3, RejectReason.NO_POSITIONS)
    cosines = _vector(groups, "ImageOrientationPatient", 6, RejectReason.NO_POSITIONS)
    spacing = _vector(groups, "PixelSpacing", 2, RejectReason.BAD_GEOMETRY)
    slope, intercept = _rescale(groups)
    _require_plausible(position, cosines, spacing)
    rows, columns = _sides(dataset)
    return SliceHeader(
        source=SliceSource(
            sop_class_uid=_uid(dataset, "SOPClassUID"),
            sop_instance_uid=_uid(dataset, "SOPInstanceUID"),
            frame_number=None if frame is None else frame + 1,
        ),
        instance=index,
        frame=frame or 0,
        rows=rows,
        columns=columns,
        position=(position[0], position[1], position[2]),
        row_cosines=(cosines[0], cosines[1], cosines[2]),
        column_cosines=(cosines[3], cosines[4], cosines[5]),
        pixel_spacing=(spacing[0], spacing[1]),
        slope=slope,
        intercept=intercept,
        padding=_padding(dataset),
        thickness_mm=_number(groups, "SliceThickness"),
        gantry_tilt=_number(groups, "GantryDetectorTilt") or 0.0,
        image_type=image_type(groups),
    )


def _require_plausible(
    position: Sequence[float], cosines: Sequence[float], spacing: Sequence[float]
) -> None:
    """Refuse numbers whose squares or products would be none any more."""
    if max(map(abs, position)) > _FARTHEST_MM:
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY, f"a slice lies more than {_FARTHEST_MM:g} mm away"
        )
    if max(map(abs, cosines)) > 2:  # noqa: PLR2004 - a unit vector's are at most 1
        raise SeriesRejected(RejectReason.BAD_GEOMETRY, "the slice directions are no directions")
    low, high = _SPACING_MM
    if any(0 < one < low or one > high for one in spacing):  # not positive: see Geometry
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY, f"Pixel Spacing is not between {low:g} and {high:g} mm"
        )


def _sides(dataset: Dataset) -> tuple[int, int]:
    """Return Rows and Columns."""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    if rows < 1 or columns < 1:
        raise SeriesRejected(RejectReason.BAD_PIXELS, "an image has no usable Rows and Columns")
    if max(rows, columns) > LARGEST_SIDE:
        raise SeriesRejected(
            RejectReason.TOO_LARGE,
            f"an image has {rows}x{columns} pixels, at most {LARGEST_SIDE}x{LARGEST_SIDE} are read",
        )
    return rows, columns


def _uid(dataset: Dataset, keyword: str) -> Uid:
    value = value_of(dataset, keyword)
    try:
        return Uid(value if isinstance(value, str) else "")
    except ValueError as error:
        raise SeriesRejected(
            RejectReason.BAD_PIXELS, f"an image has no usable {keyword}"
        ) from error


def _vector(dataset: Dataset, keyword: str, count: int, reason: RejectReason) -> tuple[float, ...]:
    numbers = _numbers(dataset, keyword, count)
    if numbers is None:
        raise SeriesRejected(reason, f"a slice has no usable {_spoken(keyword)}")
    return numbers


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return ``count`` finite numbers: a NaN would pass every comparison that follows."""
    value = value_of(dataset, keyword)
    try:
        numbers = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _number(dataset: Dataset, keyword: str) -> float | None:
    value = value_of(dataset, keyword)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _rescale(dataset: Dataset) -> tuple[float, float]:
    """Return slope and intercept to HU (PS3.3 C.11.1)."""
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    kind = _upper(dataset, "RescaleType")
    low, high = _SLOPES
    if (
        slope is None
        or intercept is None
        or not low <= slope <= high
        or abs(intercept) > _LARGEST_INTERCEPT
    ):
        raise SeriesRejected(
            RejectReason.BAD_RESCALE, "a slice has no usable Rescale Slope and Intercept"
        )
    if kind not in {"", "HU", "US"}:
        raise SeriesRejected(
            RejectReason.BAD_RESCALE, f"the pixels are {kind[:16]}, not Hounsfield units"
        )
    return slope, intercept


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return the range of Pixel Padding Value (PS3.3 C.7.5.1.1.2), as stored pixels are read.

    Writers are found that encode a negative one as US: it has the sign of the pixels.
    """
    value = integer(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = integer(dataset, "PixelPaddingRangeLimit")
    bits = 8 if integer(dataset, "BitsAllocated") == 8 else 16  # noqa: PLR2004 - others are refused
    signed = integer(dataset, "PixelRepresentation") == 1
    ends = [
        _as_stored(end, bits, signed=signed) for end in (value, value if limit is None else limit)
    ]
    return min(ends), max(ends)


def _as_stored(value: int, bits: int, *, signed: bool) -> int:
    wrapped = value % (1 << bits)
    return wrapped - (1 << bits) if signed and wrapped >= 1 << (bits - 1) else wrapped


def _spoken(keyword: str) -> str:
    return {
        "ImagePositionPatient": "Image Position (Patient)",
        "ImageOrientationPatient": "Image Orientation (Patient)",
        "PixelSpacing": "Pixel Spacing",
    }[keyword]
