"""Writes the beginning of the files that hold received data sets."""

from __future__ import annotations

from struct import pack

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from chestct.ae_title import check_ae_title
from scp.headers import Header

_START = bytes(128) + b"DICM"
_VERSION = pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"


def file_start(
    header: Header, transfer_syntax: str, *, calling_ae: str = "", called_ae: str = ""
) -> bytes:
    """Return preamble, prefix and File Meta Information for a data set (PS3.10 section 7.1).

    Sending and Receiving Application Entity Title record who sent the data set to whom; a title
    that is no AE title is left out.
    """
    elements = b"".join(
        (
            _VERSION,
            _text(0x0002, "UI", header.sop_class_uid),
            _text(0x0003, "UI", header.sop_instance_uid),
            _text(0x0010, "UI", transfer_syntax),
            _text(0x0012, "UI", PYNETDICOM_IMPLEMENTATION_UID),
            _text(0x0013, "SH", PYNETDICOM_IMPLEMENTATION_VERSION),
            _title(0x0017, calling_ae),
            _title(0x0018, called_ae),
        )
    )
    return _START + pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _title(element: int, title: str) -> bytes:
    try:
        return _text(element, "AE", check_ae_title(title))
    except ValueError:
        return b""


def _text(element: int, vr: str, text: str) -> bytes:
    """Return an element of group 0002 in Explicit VR Little Endian, padded to even length."""
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return pack("<HH2sH", 0x0002, element, vr.encode("ascii"), len(value)) + value
