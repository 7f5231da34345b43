"""Where the frames of encapsulated Pixel Data begin and end (PS3.5 annex A.4)."""

from __future__ import annotations

import struct
from io import BytesIO
from itertools import pairwise

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, parse_basic_offsets, parse_fragments

from inference.loading.elements import value_of


class OffsetsInvalid(ValueError):
    """An offset table that does not fit the fragments: frames would be exchanged or mixed."""


def encoded_frames(dataset: Dataset, frames: int) -> list[bytes]:
    """Return the codestream of every frame, in order.

    Raises:
        OffsetsInvalid: An offset table is not that of these fragments.
        ValueError: There are more or fewer frames than ``frames``.
    """
    content = dataset.PixelData
    extended = _extended(dataset)
    if frames > 1:
        _require_consistent(content, frames, extended)
    found = list(generate_frames(content, number_of_frames=frames))
    if len(found) != frames:
        raise ValueError(f"{len(found)} of {frames} frames")
    return found


def _extended(dataset: Dataset) -> tuple[int, ...]:
    """Return the Extended Offset Table (PS3.3 C.7.6.3.1.8), empty where there is none."""
    table = value_of(dataset, "ExtendedOffsetTable") or b""
    return struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8])


def _require_consistent(content: bytes, frames: int, extended: tuple[int, ...]) -> None:
    """Refuse tables that do not name the starts of fragments, in order, one for each frame."""
    buffer = BytesIO(content)
    basic = tuple(parse_basic_offsets(buffer))
    begin = buffer.tell()
    count, places = parse_fragments(buffer)
    starts = [place - begin for place in places]
    if extended and (count != frames or list(extended) != starts):
        raise OffsetsInvalid("the Extended Offset Table is not that of the fragments")
    if not basic:
        return
    ascending = all(before < after for before, after in pairwise(basic))
    if len(basic) != frames or basic[0] != 0 or not ascending or not set(basic) <= set(starts):
        raise OffsetsInvalid("the Basic Offset Table is not that of the fragments")
