"""Splits segments over several SEGs for viewers that skip a SEG with many frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dicom_out.objects.segments import Segments

MOST_FRAMES = 399
"""Weasis 4.6.0 skips a SEG with more than 400 frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegPart:
    """One segment, or a part of it, for a SEG of its own."""

    segments: Segments
    description: str


def split(segments: Segments) -> Iterator[SegPart]:
    """Yield each segment alone; in several parts if it covers more slices than a SEG may have."""
    for plan in segments.plans:
        slices = np.flatnonzero(segments.per_slice[:, plan.number - 1])
        chunks = np.array_split(slices, -(-len(slices) // MOST_FRAMES))
        for number, chunk in enumerate(chunks, start=1):
            numbers = np.zeros_like(segments.numbers)
            numbers[chunk] = segments.numbers[chunk] == plan.number
            per_slice = np.zeros((len(numbers), 1), np.int64)
            per_slice[chunk, 0] = segments.per_slice[chunk, plan.number - 1]
            yield SegPart(
                segments=Segments(
                    plans=(replace(plan, number=1),), numbers=numbers, per_slice=per_slice
                ),
                description=(
                    plan.label
                    if len(chunks) == 1
                    else f"{plan.label}, part {number} of {len(chunks)}"
                ),
            )
