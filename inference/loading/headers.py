"""Parses CT headers: a record for each slice, and the facts that the eligibility rules check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import Vector
from chestct.text import printable
from chestct.uids import Uid
from chestct.volume import SliceSource
from inference.loading.elements import integer, number_of, numbers_of, raw_of, text_of, value_of
from inference.loading.frames import Frame
from inference.loading.rejections import for_each_image

LARGEST_SIDE = 4096
"""Largest accepted Rows and Columns; scanners make up to 2048."""
_FARTHEST_MM = 1e5
"""Largest accepted distance of a slice from the origin of its frame of reference."""
_SPACING_MM = (0.01, 50.0)
_SLOPES = (1e-6, 1e6)
_QUOTED = 100
"""Characters of a value that a rejection quotes."""
_LARGEST_INTERCEPT = 1e6
"""Larger rescale values leave no precision for the pixels in a 32-bit float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceHeader:
    """A slice: a single-frame image, or a frame of a multi-frame image.

    Attributes:
        row_cosines, column_cosines: Image Orientation (Patient).
        pixel_spacing: Between rows, between columns, mm.
        slope, intercept: To HU.
        padding: Lowest and highest stored value that stands for "no pixel".
        instance: Index of the instance that holds the slice; ``frame`` counts from 0 in it.
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
    """The facts that the eligibility rules check; texts are upper-cased, empty when missing.

    For each image, ``image_types`` holds its Image Type (or Frame Type), ``thicknesses`` its Slice
    Thickness in mm, and ``names`` its name in a rejection.
    """

    modality: str
    body_part: str
    series_description: str
    kernel: str
    image_types: tuple[tuple[str, ...], ...]
    slices: int
    thicknesses: tuple[float | None, ...]
    names: tuple[str, ...]


def slice_headers(
    frames: Sequence[Frame], parsed: Mapping[int, SliceHeader] = MappingProxyType({})
) -> list[SliceHeader]:
    """Parse every image of a series.

    Args:
        frames: The images.
        parsed: The headers of single-frame images that were parsed before, by the index of the
            instance.

    Raises:
        SeriesRejected: An image lacks a position, an orientation, a spacing or a rescale, or
            one of these is not plausible.
    """

    def header_of(frame: Frame) -> SliceHeader:
        known = parsed.get(frame.instance)
        return replace(known, instance=frame.instance) if known else _parse(frame)

    return for_each_image(frames, _name_of, header_of)


def _name_of(frame: Frame) -> str:
    uid = str(value_of(frame.dataset, "SOPInstanceUID") or "an image without a UID")
    return uid if frame.number is None else f"{uid} frame {frame.number}"


def series_facts(frames: Sequence[Frame], headers: Sequence[SliceHeader]) -> SeriesFacts:
    """Collect the facts from the first image and, where images may differ, from all of them."""
    first = frames[0]
    return SeriesFacts(
        modality=text_of(first.dataset, "Modality"),
        body_part="\\".join(dict.fromkeys(filter(None, (frame.body_part for frame in frames)))),
        series_description=text_of(first.dataset, "SeriesDescription"),
        kernel=text_of(first.groups, "ConvolutionKernel"),
        image_types=tuple(header.image_type for header in headers),
        slices=len(headers),
        thicknesses=tuple(header.thickness_mm for header in headers),
        names=tuple(_name_of(frame) for frame in frames),
    )


def _parse(frame: Frame) -> SliceHeader:
    groups, dataset = frame.groups, frame.dataset
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
            frame_number=frame.number,
            frame_count=None if frame.number is None else integer(dataset, "NumberOfFrames"),
            rescale=(slope, intercept),
            instance_number=integer(dataset, "InstanceNumber"),
        ),
        instance=frame.instance,
        frame=(frame.number or 1) - 1,
        rows=rows,
        columns=columns,
        position=(position[0], position[1], position[2]),
        row_cosines=(cosines[0], cosines[1], cosines[2]),
        column_cosines=(cosines[3], cosines[4], cosines[5]),
        pixel_spacing=(spacing[0], spacing[1]),
        slope=slope,
        intercept=intercept,
        padding=_padding(dataset),
        thickness_mm=_thickness(groups),
        gantry_tilt=number_of(groups, "GantryDetectorTilt") or 0.0,
        image_type=frame.image_type,
    )


def _require_plausible(
    position: Sequence[float], cosines: Sequence[float], spacing: Sequence[float]
) -> None:
    """Reject numbers so large or small that computing with them loses all precision."""
    if max(map(abs, position)) > _FARTHEST_MM:
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY,
            f"Image Position (Patient) is {max(map(abs, position)):g} mm from the origin, at most "
            f"{_FARTHEST_MM:g} mm is accepted",
        )
    if max(map(abs, cosines)) > 2:  # noqa: PLR2004 - a unit vector's are at most 1
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY,
            f"Image Orientation (Patient) holds {max(map(abs, cosines)):g}, direction cosines are "
            "at most 1",
        )
    low, high = _SPACING_MM
    if any(0 < step < low or step > high for step in spacing):  # not positive: see Geometry
        raise SeriesRejected(
            RejectReason.BAD_GEOMETRY,
            f"Pixel Spacing is {spacing[0]:g} x {spacing[1]:g} mm, not between {low:g} and "
            f"{high:g} mm",
        )


def _sides(dataset: Dataset) -> tuple[int, int]:
    """Return Rows and Columns."""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    if rows < 1 or columns < 1:
        raise SeriesRejected(
            RejectReason.BAD_PIXELS,
            f"Rows and Columns must be positive: they are {_shown(dataset, 'Rows')} and "
            f"{_shown(dataset, 'Columns')}",
        )
    if max(rows, columns) > LARGEST_SIDE:
        raise SeriesRejected(
            RejectReason.TOO_LARGE,
            f"the image has {rows}x{columns} pixels, at most {LARGEST_SIDE}x{LARGEST_SIDE} are "
            "read",
        )
    return rows, columns


def _uid(dataset: Dataset, keyword: str) -> Uid:
    value = value_of(dataset, keyword)
    try:
        return Uid(value.strip(" \0") if isinstance(value, str) else "")
    except ValueError as error:
        raise SeriesRejected(
            RejectReason.BAD_PIXELS, f"{keyword} is missing or not a UID"
        ) from error


def _shown(dataset: Dataset, keyword: str) -> str:
    if keyword not in dataset:
        return "missing"
    return printable(str(value_of(dataset, keyword)), _QUOTED)


def _vector(dataset: Dataset, keyword: str, count: int, reason: RejectReason) -> tuple[float, ...]:
    numbers = numbers_of(dataset, keyword, count)
    if numbers is None:
        raise SeriesRejected(reason, f"{_quoted(dataset, keyword)}, {count} numbers are needed")
    return numbers


def _rescale(dataset: Dataset) -> tuple[float, float]:
    """Return slope and intercept to HU (PS3.3 C.11.1)."""
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    kind = text_of(dataset, "RescaleType")
    low, high = _SLOPES
    if (
        slope is None
        or intercept is None
        or not low <= slope <= high
        or abs(intercept) > _LARGEST_INTERCEPT
    ):
        raise SeriesRejected(
            RejectReason.BAD_RESCALE,
            f"{_quoted(dataset, 'RescaleSlope')}, {_quoted(dataset, 'RescaleIntercept')}; "
            f"a slope of {low:g} to {high:g} and an intercept of at most {_LARGEST_INTERCEPT:g} "
            "are accepted",
        )
    if kind not in {"", "HU", "US"}:
        raise SeriesRejected(
            RejectReason.BAD_RESCALE,
            f"Rescale Type is {kind[:16]}: the pixels are not Hounsfield units",
        )
    return slope, intercept


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return the range of Pixel Padding Value (PS3.3 C.7.5.1.1.2) as stored values.

    Some writers encode a negative value as US, so it is read with the sign of the pixels.
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


def _thickness(dataset: Dataset) -> float | None:
    """Return Slice Thickness; None where it is missing or not plausible."""
    thickness = number_of(dataset, "SliceThickness")
    low, high = _SPACING_MM
    return thickness if thickness is not None and low <= thickness <= high else None


def _quoted(dataset: Dataset, keyword: str) -> str:
    """Name an element and quote its value as it is encoded."""
    name, value = dictionary_description(keyword), raw_of(dataset, keyword).strip(b" \0")
    return f'{name} is "{printable(value, _QUOTED)}"' if value else f"{name} is missing or empty"
