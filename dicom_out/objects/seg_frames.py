"""The frames of a binary SEG: its bits and its functional groups, encoded at once.

highdicom builds a data set for each frame, and pydicom encodes each by itself: seconds for the
thousand frames of thin slices. But the frames of a slice differ in two numbers alone. So highdicom
builds a *draft*, a SEG of a few pixels with one frame for each slice, and each frame of the SEG is
the encoded frame of its slice with its own numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

from dicom_out.objects.segments import Segments

PER_FRAME = Tag("PerFrameFunctionalGroupsSequence")
_DIMENSIONS = b"\x20\x00\x57\x91UL\x08\x00"
"""The header of Dimension Index Values (0020,9157), whose two values follow."""
_SEGMENT = b"\x62\x00\x0b\x00US\x02\x00"
"""The header of Referenced Segment Number (0062,000B), whose value follows."""
_ITEM = b"\xfe\xff\x00\xe0"


def draft_pixels(segments: Segments) -> NDArray[np.uint8]:
    """Return the pixels of the draft (slice, 1, column): each slice with voxels has a frame.

    The first column holds the first segment in each of these slices. The second column holds the
    second segment in one of them, so that the frames name their segments.
    """
    covered = np.flatnonzero(segments.per_slice.any(axis=1))
    pixels = np.zeros((len(segments.numbers), 1, min(2, len(segments.plans))), np.uint8)
    pixels[covered, 0, 0] = 1
    if len(segments.plans) > 1:
        pixels[covered[:1], 0, 1] = 2
    return pixels


def draft_sources(stack: Sequence[Dataset], segments: Segments) -> list[Dataset]:
    """Return the source images with the rows and columns of the draft."""
    # New elements: a new value would change the element that both data sets share.
    rows = DataElement("Rows", "US", 1)
    columns = DataElement("Columns", "US", min(2, len(segments.plans)))
    sources = []
    for image in stack:
        source = Dataset()
        source.update(image)
        source.add(rows)
        source.add(columns)
        sources.append(source)
    return sources


def add_frames(seg: Dataset, segments: Segments, slices: Sequence[int]) -> None:
    """Turn a draft into the SEG: replace its frames by those of every segment.

    Args:
        seg: The draft, complete but for its frames.
        segments: The segments of the SEG.
        slices: The slice that each frame of the draft shows, in the order of frames.
    """
    slices = slices[: int(np.count_nonzero(segments.per_slice.any(axis=1)))]
    items = [
        _encoded(groups)
        for groups, _ in zip(seg.PerFrameFunctionalGroupsSequence, slices, strict=False)
    ]
    frames = [
        (plan.number, place, index)
        for plan in segments.plans
        for place, index in enumerate(slices)
        if segments.per_slice[index, plan.number - 1]
    ]
    groups = b"".join(
        piece for number, place, _ in frames for piece in _numbered(items[place], number)
    )
    seg[PER_FRAME] = RawDataElement(PER_FRAME, "SQ", len(groups), groups, 0, False, True)  # noqa: FBT003 - pydicom's fields
    seg.NumberOfFrames = len(frames)
    seg.Rows, seg.Columns = segments.numbers.shape[1:]
    masks = (segments.numbers[index] == number for number, _, index in frames)
    seg.PixelData = _packed(masks, seg.Rows * seg.Columns)


def _encoded(groups: Dataset) -> bytes:
    """Return the functional groups of a frame in explicit VR little endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, groups)
    return bytes(buffer.getvalue())


def _numbered(item: bytes, number: int) -> Iterator[bytes]:
    """Yield the pieces of an encoded item for the frame of a segment.

    A draft of one segment names it in the shared functional groups, so that its frames lack it.
    """
    yield _ITEM + len(item).to_bytes(4, "little")
    begin = 0
    for header, value in (
        (_DIMENSIONS, number.to_bytes(4, "little")),
        (_SEGMENT, number.to_bytes(2, "little")),
    ):
        if (found := item.find(header, begin)) >= 0 and number > 1:
            at = found + len(header)
            yield item[begin:at] + value
            begin = at + len(value)
    yield item[begin:]


def _packed(masks: Iterator[NDArray[np.bool_]], pixels: int) -> bytes:
    """Return the bits of frames without gaps, the first bit lowest (PS3.5 section 8.1.1)."""
    if pixels % 8 == 0:
        return b"".join(np.packbits(mask, bitorder="little").tobytes() for mask in masks)
    content = np.packbits(np.concatenate([mask.ravel() for mask in masks]), bitorder="little")
    return content.tobytes() + b"\0" * (content.size % 2)
