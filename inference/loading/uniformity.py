"""Refuses slices that differ from the other slices in size, direction or pixel spacing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from chestct.errors import RejectReason, SeriesRejected
from chestct.geometry import Vector, dot, norm
from inference.loading.headers import SliceHeader
from inference.loading.rejections import naming_images

_SAME_DIRECTION = 2e-3
_SAME_SPACING = 1e-3

Difference = Callable[[SliceHeader, SliceHeader], str]
"""Says how a slice differs from the usual slice; empty where it does not."""


def require_uniform(headers: Sequence[SliceHeader]) -> None:
    """Refuse slices that differ from most of the others, and name the first of them.

    Raises:
        SeriesRejected: The slices have several sizes, directions or pixel spacings.
    """
    for difference in (_size_difference, _direction_difference, _spacing_difference):
        _require(headers, difference)


def _require(headers: Sequence[SliceHeader], difference: Difference) -> None:
    usual = headers[0]
    odd = [header for header in headers if difference(usual, header)]
    if 2 * len(odd) > len(headers):
        usual = odd[0]
        odd = [header for header in headers if difference(usual, header)]
    if odd:
        uid, message = odd[0].source.sop_instance_uid, difference(usual, odd[0])
        raise SeriesRejected(
            RejectReason.MIXED_GEOMETRY, naming_images(len(odd), len(headers), uid, message)
        )


def _size_difference(usual: SliceHeader, other: SliceHeader) -> str:
    if (other.rows, other.columns) == (usual.rows, usual.columns):
        return ""
    return (
        f"the slices have different sizes, {usual.rows}x{usual.columns} and "
        f"{other.rows}x{other.columns} pixels, this slice has the latter"
    )


def _direction_difference(usual: SliceHeader, other: SliceHeader) -> str:
    pairs = (
        (usual.row_cosines, other.row_cosines),
        (usual.column_cosines, other.column_cosines),
    )
    turned = max(abs(a - b) for first, second in pairs for a, b in zip(first, second, strict=True))
    if turned <= _SAME_DIRECTION:
        return ""
    degrees = max(_angle(first, second) for first, second in pairs)
    return f"the slices have different directions, this slice is turned by {degrees:.1f} degrees"


def _angle(first: Vector, second: Vector) -> float:
    length = norm(first) * norm(second)
    cosine = dot(first, second) / length if length else 1.0
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _spacing_difference(usual: SliceHeader, other: SliceHeader) -> str:
    pairs = zip(usual.pixel_spacing, other.pixel_spacing, strict=True)
    if max(abs(a - b) for a, b in pairs) <= _SAME_SPACING:
        return ""
    first, second = (
        f"{header.pixel_spacing[0]:g} x {header.pixel_spacing[1]:g} mm" for header in (usual, other)
    )
    return f"the slices differ in Pixel Spacing: most have {first}, this slice has {second}"
