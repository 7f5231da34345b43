"""Checks the size in a compressed frame before a decoder allocates memory for it.

A codestream has its own width and height. Decoders allocate memory for these, whatever Rows and
Columns say: 60 bytes can ask for 60 gigabytes.
"""

from __future__ import annotations

import struct

from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from chestct.jpeg import jpeg_frame

_CODESTREAM = b"\xff\x4f\xff\x51"
"""SOC and SIZ (ISO 15444-1 annex A.5.1)."""
_BOXES = 4096
"""A codestream begins within these bytes, also where the writer wrapped it into a JP2 file."""


class CodestreamInvalid(ValueError):
    """A codestream has no size, or another size than the header."""


def check(stream: bytes, syntax: UID, rows: int, columns: int) -> None:
    """Reject a frame whose codestream is not a single component of ``rows`` by ``columns``.

    The decoders detect all other damage themselves.

    Raises:
        CodestreamInvalid: The size is missing or differs from ``rows`` by ``columns``.
    """
    if syntax == RLELossless:
        return  # RLE has no size of its own; the decoder writes into Rows times Columns
    if syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        size = _jpeg(stream)
    elif syntax in JPEG2000TransferSyntaxes or "High-Throughput" in syntax.name:
        size = _jpeg2000(stream)
    else:
        return
    if size != (rows, columns, 1):
        raise CodestreamInvalid(
            f"the codestream has {size[0]}x{size[1]} pixels of {size[2]} components, "
            f"the header says {rows}x{columns} of 1 component"
        )


def _jpeg2000(stream: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components of SIZ (ISO 15444-1 annex A.5.1)."""
    place = stream.find(_CODESTREAM, 0, _BOXES)
    if place < 0 or len(stream) < place + 42:
        raise CodestreamInvalid("the codestream has no size")
    right, bottom, left, top = struct.unpack_from(">LLLL", stream, place + 8)
    (components,) = struct.unpack_from(">H", stream, place + 40)
    return bottom - top, right - left, components


def _jpeg(stream: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components of the start of frame."""
    frame = jpeg_frame(stream)
    if frame is None:
        raise CodestreamInvalid("the codestream has no size")
    return frame.rows, frame.columns, frame.components
