"""The start of frame of a JPEG stream (ISO 10918-1), which names its process and size."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SOF3_LOSSLESS, SOF55_JPEG_LS = 0xC3, 0xF7
_SOF0, _SOF15 = 0xC0, 0xCF
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""DHT, JPG and DAC: the markers among those of SOF0 to SOF15 that start no frame."""
_WITHOUT_SEGMENT = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length (ISO 10918-1 table B.1)."""
_PREFIX = 0xFF
"""The first byte of each marker; repeated, it is a fill byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegFrame:
    """The start of frame of a stream; ``marker`` names the process (SOF0 to SOF15, SOF55)."""

    marker: int
    rows: int
    columns: int
    components: int


def jpeg_frame(stream: bytes) -> JpegFrame | None:
    """Return the start of frame (ISO 10918-1 annex B.2.2); None where none is found.

    It may be missing because the stream is damaged, or because ``stream`` is only its beginning.
    """
    place = 2
    while place + 10 <= len(stream) and stream[place] == _PREFIX:
        marker = stream[place + 1]
        if (_SOF0 <= marker <= _SOF15 and marker not in _NO_FRAME) or marker == SOF55_JPEG_LS:
            rows, columns = struct.unpack_from(">HH", stream, place + 5)
            return JpegFrame(
                marker=marker, rows=rows, columns=columns, components=stream[place + 9]
            )
        if marker == _PREFIX:
            place += 1
        elif marker in _WITHOUT_SEGMENT:
            place += 2
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None
