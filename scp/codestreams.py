"""Whether encapsulated pixels can be of the transfer syntax that is claimed for them."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from pynetdicom_guard.budget import Content
from scp.outline import Place

_SOF3_LOSSLESS = 0xC3
_SOF55_JPEG_LS = 0xF7
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""DHT, JPG and DAC: the markers among those of SOF0 to SOF15 that start no frame."""
_ITEM_TAG_AND_LENGTH = 8
_ENOUGH = 1 << 16
"""Bytes of a codestream that are looked at."""


def first_codestream(content: Content, at: Place) -> bytes:
    """Return the begin of the first fragment that is not empty, behind the offset table."""
    place, table_seen = at.start, False
    while place < at.end:
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        place += _ITEM_TAG_AND_LENGTH
        if table_seen and length:
            return content[place : place + min(length, _ENOUGH)]
        table_seen = True
        place += length
    return b""


def is_codestream(start: bytes, syntax: UID) -> bool:
    """Tell whether the first fragment can be of ``syntax``."""
    if syntax == RLELossless:
        segments = int.from_bytes(start[:4], "little")
        return len(start) >= 64 and 1 <= segments <= 15  # noqa: PLR2004 - PS3.5 annex G.5
    if syntax in JPEG2000TransferSyntaxes or "High-Throughput" in syntax.name:
        return start.startswith((b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP"))
    if syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        process = _SOF55_JPEG_LS if syntax in JPEGLSTransferSyntaxes else _SOF3_LOSSLESS
        return start.startswith(b"\xff\xd8\xff") and _start_of_frame(start) in {process, None}
    return bool(start)


def _start_of_frame(stream: bytes) -> int | None:
    """Return the marker that names the process of a JPEG stream (ISO 10918-1 annex B).

    None when it does not come before the scan, or lies in another fragment.
    """
    place = 2
    while stream[place : place + 1] == b"\xff" and place + 4 <= len(stream):
        marker = stream[place + 1]
        if marker == _SOF55_JPEG_LS or (marker & 0xF0 == 0xC0 and marker not in _NO_FRAME):  # noqa: PLR2004 - SOF0 to SOF15
            return marker
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None
