"""Checks that a written SEG holds the computed mask, frame by frame.

The check shares no code with the writer: it reads the encoded file, finds the source image and the
segment of each frame, and compares the bits of the frame with the mask of that segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chestct.errors import ResultInvalid
from chestct.geometry import Geometry
from dicom_out.encodings import Part, data_set_of, parts_of
from dicom_out.objects.segments import Segments
from dicom_out.objects.sources import Sources

_PER_FRAME = b"\x00\x52\x30\x92"
_SHARED = b"\x00\x52\x29\x92"
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0"
_SOURCE_UID = b"\x08\x00\x55\x11"
_SOURCE_FRAME = b"\x08\x00\x60\x11"
_SEGMENT = b"\x62\x00\x0b\x00"
_POSITION = b"\x20\x00\x32\x00"
_FRAMES, _ROWS, _COLUMNS = b"\x28\x00\x08\x00", b"\x28\x00\x10\x00", b"\x28\x00\x11\x00"
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_SIZES = frozenset({_FRAMES, _ROWS, _COLUMNS, _PIXEL_DATA})
_SAME_MM = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """What a frame says of itself: its segment, its source image and frame, its position in mm."""

    segment: int
    source: tuple[str, int | None]
    position: tuple[float, ...]


def require_mask(content: bytes, segments: Segments, sources: Sources, geometry: Geometry) -> None:
    """Check voxel by voxel that a binary SEG holds the segments, slice by source slice.

    Raises:
        ResultInvalid: It does not, or a frame lies elsewhere than its source slice.
    """
    parts = list(parts_of(data_set_of(content)))
    frames = list(_frames(parts))
    bits = _bits(parts, len(frames), segments.numbers.shape[1:])
    places: dict[tuple[str, int | None], int] = {
        (source.sop_instance_uid, source.frame_number): index
        for index, source in enumerate(sources.slices)
    }
    numbers = segments.numbers
    held = np.zeros(len(numbers), np.int64)
    seen: set[tuple[int, int]] = set()
    for place, frame in enumerate(frames):
        index = places.get(frame.source, -1)
        mask = _mask(bits, place, numbers.shape[1] * numbers.shape[2])
        if (
            index < 0
            or not np.allclose(frame.position, geometry.slice_position(index), atol=_SAME_MM)
            or (index, frame.segment) in seen
            or not np.array_equal(mask, (numbers[index] == frame.segment).ravel())
        ):
            raise ResultInvalid(
                f"frame {place + 1} of the SEG does not hold the mask that was computed, where it "
                "was computed"
            )
        seen.add((index, frame.segment))
        held[index] += np.count_nonzero(mask)
    if held.tolist() != [np.count_nonzero(plane) for plane in numbers]:
        raise ResultInvalid("the SEG lacks frames of the mask that was computed")


def _bits(parts: list[Part], count: int, plane: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the pixel data of ``count`` frames of the size of ``plane``."""
    values = {part.tag: part.value for part in parts if part.tag in _SIZES}
    bits = np.frombuffer(values[_PIXEL_DATA], np.uint8)
    size = tuple(int.from_bytes(values[tag], "little") for tag in (_ROWS, _COLUMNS))
    needed = -(-count * plane[0] * plane[1] // 8)
    if (int(values[_FRAMES]), size, bits.size) != (count, plane, needed + needed % 2):
        raise ResultInvalid("the size of the SEG is not that of the mask that was computed")
    return bits


def _mask(bits: NDArray[np.uint8], place: int, pixels: int) -> NDArray[np.bool_]:
    """Return the pixels of a frame, bool (pixels,); frames follow each other without gaps."""
    first, offset = divmod(place * pixels, 8)
    own = np.unpackbits(bits[first : first + (offset + pixels + 7) // 8], bitorder="little")
    return own[offset : offset + pixels].view(np.bool_)


def _frames(parts: list[Part]) -> Iterator[_Frame]:
    """Yield the frames of the functional groups."""
    (shared,) = _items(parts, _SHARED)
    for item in _items(parts, _PER_FRAME):
        values = shared | item
        frame = values.get(_SOURCE_FRAME)
        yield _Frame(
            segment=int.from_bytes(values[_SEGMENT], "little"),
            source=(
                values[_SOURCE_UID].rstrip(b"\0").decode("ascii"),
                None if frame is None else int(frame),
            ),
            position=tuple(map(float, values[_POSITION].split(b"\\"))),
        )


def _items(parts: list[Part], sequence: bytes) -> Iterator[dict[bytes, bytes]]:
    """Yield each item of a sequence of the data set: all values inside it by their tags."""
    begin = next(place for place, part in enumerate(parts) if part.tag == sequence)
    depth = 0
    values: dict[bytes, bytes] = {}
    for part in parts[begin + 1 :]:
        if part.tag == _ITEM:
            depth += 1
            values = {} if depth == 1 else values
        elif part.tag == _ITEM_END:
            depth -= 1
            if depth == 0:
                yield values
        elif depth == 0:
            return
        else:
            values[part.tag] = part.value
