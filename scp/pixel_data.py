"""Checks that Pixel Data is whole and encoded in the transfer syntax of its data set."""

from __future__ import annotations

import math

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from chestct.errors import NotDicom
from chestct.jpeg import SOF3_LOSSLESS, SOF55_JPEG_LS, jpeg_frame
from pynetdicom_guard.budget import Content
from scp.elements import positive_integer, unsigned
from scp.outline import Place

_ITEM_TAG_AND_LENGTH = 8
_CODESTREAM_BYTES = 1 << 16
"""Bytes of a codestream that are read."""
_RLE_HEADER, _RLE_SEGMENTS = 64, 15
"""Bytes of an RLE header, and the segments that it can name (PS3.5 annex G.5)."""


def check_pixel_data(content: Content, place: Place | None, dataset: Dataset, syntax: UID) -> None:
    """Refuse Pixel Data that is missing, cut off, or not of the transfer syntax.

    Args:
        content: The encoded data set.
        place: Where Pixel Data lies in it; None: it is missing.
        dataset: The elements that give its size.
        syntax: The transfer syntax of the data set.

    Raises:
        NotDicom: With what is wrong.
    """
    if place is None:
        raise NotDicom("Pixel Data is missing")
    if syntax.is_encapsulated != place.endless:
        raise NotDicom(f"Pixel Data is not encoded as {syntax.name}")
    if place.endless:
        if not _is_codestream(_first_codestream(content, place), syntax):
            raise NotDicom(f"Pixel Data does not hold {syntax.name}")
        return
    expected = _native_length(dataset)
    actual = 0 if place.is_sequence else place.end - place.start
    if actual < expected:
        raise NotDicom(f"Pixel Data is cut off: {actual} of {expected} bytes")


def _native_length(dataset: Dataset) -> int:
    """Return the bytes that uncompressed pixels need (PS3.5 section 8.1.1)."""
    keywords = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    numbers = [unsigned(dataset, keyword) for keyword in keywords]
    if 0 in numbers:
        raise NotDicom(f"{keywords[numbers.index(0)]} is missing or 0")
    frames = positive_integer(dataset, "NumberOfFrames") or 1
    return (math.prod(numbers) * frames + 7) // 8


def _first_codestream(content: Content, pixel_data: Place) -> bytes:
    """Return the beginning of the first fragment with content, after the offset table."""
    place, is_offset_table = pixel_data.start, True
    while place < pixel_data.end:
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        place += _ITEM_TAG_AND_LENGTH
        if length and not is_offset_table:
            return content[place : place + min(length, _CODESTREAM_BYTES)]
        is_offset_table = False
        place += length
    return b""


def _is_codestream(start: bytes, syntax: UID) -> bool:
    """Return whether the first fragment can be of ``syntax``."""
    if syntax == RLELossless:
        segments = int.from_bytes(start[:4], "little")
        return len(start) >= _RLE_HEADER and 1 <= segments <= _RLE_SEGMENTS
    if syntax in JPEG2000TransferSyntaxes or "High-Throughput" in syntax.name:
        return start.startswith((b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP"))
    if syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        process = SOF55_JPEG_LS if syntax in JPEGLSTransferSyntaxes else SOF3_LOSSLESS
        frame = jpeg_frame(start)  # it may lie in another fragment
        return start.startswith(b"\xff\xd8\xff") and (frame is None or frame.marker == process)
    return bool(start)
