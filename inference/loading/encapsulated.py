"""Splits encapsulated Pixel Data into frames (PS3.5 annex A.4)."""

from __future__ import annotations

import struct
from io import BytesIO
from itertools import pairwise

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, parse_basic_offsets, parse_fragments

from inference.loading.elements import value_of


class OffsetsInvalid(ValueError):
    """An offset table does not match the fragments: frames would be swapped or mixed."""


def encoded_frames(dataset: Dataset, frames: int) -> list[bytes]:
    """Return the codestream of every frame, in order.

    Raises:
        OffsetsInvalid: An offset table does not match the fragments.
        ValueError: The fragments hold more or fewer frames than ``frames``.
    """
    content = dataset.PixelData
    extended = _extended(dataset)
    if frames > 1:
        _require_consistent(content, frames, extended)
    encoded = list(generate_frames(content, number_of_frames=frames))
    if len(encoded) != frames:
        raise ValueError(f"Number of Frames is {frames}, but the fragments hold {len(encoded)}")
    return encoded


def _extended(dataset: Dataset) -> tuple[int, ...]:
    """Return the Extended Offset Table (PS3.3 C.7.6.3.1.8); empty where it is missing."""
    table = value_of(dataset, "ExtendedOffsetTable") or b""
    return struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8])


def _require_consistent(content: bytes, frames: int, extended: tuple[int, ...]) -> None:
    """Reject tables that do not list the start of each frame in order, at fragment starts."""
    buffer = BytesIO(content)
    basic = tuple(parse_basic_offsets(buffer))
    begin = buffer.tell()
    count, places = parse_fragments(buffer)
    starts = [place - begin for place in places]
    if extended and (count != frames or list(extended) != starts):
        raise OffsetsInvalid("the Extended Offset Table does not match the fragments")
    if not basic:
        return
    ascending = all(before < after for before, after in pairwise(basic))
    if len(basic) != frames or basic[0] != 0 or not ascending or not set(basic) <= set(starts):
        raise OffsetsInvalid("the Basic Offset Table does not match the fragments")
