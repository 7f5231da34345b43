"""Encodes elements, items and sequences in explicit VR little endian (PS3.5 section 7).

pydicom takes about 20 µs for an element. What repeats for each source image of a series, hundreds
of times with another UID, is therefore put together here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import cache

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

_LONG = frozenset({"OB", "SQ", "UC", "UT"})
"""VRs with a length of four bytes (PS3.5 table 7.1-1)."""
_ITEM = b"\xfe\xff\x00\xe0"


def element(keyword: str, value: bytes) -> bytes:
    """Return an element with an encoded value."""
    tag, vr = _tag_and_vr(keyword)
    value = padded(value, vr)
    return header(tag, vr, len(value)) + value


def header(tag: int, vr: str, length: int) -> bytes:
    """Return tag, VR and length of an element."""
    size = struct.pack("<2xL" if vr in _LONG else "<H", length)
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode() + size


def item(content: bytes) -> bytes:
    """Return an item of a sequence; ``content`` is its elements in the order of their tags."""
    return _ITEM + struct.pack("<L", len(content)) + content


def sequence(keyword: str, items: Iterable[bytes]) -> bytes:
    """Return a sequence with encoded items."""
    return element(keyword, b"".join(items))


def sequence_of_one(keyword: str, content: bytes) -> bytes:
    """Return a sequence of one item."""
    return sequence(keyword, [item(content)])


def encoded_reference(
    sop_class_uid: str, sop_instance_uid: str, frames: Sequence[int] | None
) -> bytes:
    """Return the elements of the item that references a SOP Instance, or some of its frames."""
    numbers = "\\".join(str(frame) for frame in frames or ()).encode()
    return (
        element("ReferencedSOPClassUID", sop_class_uid.encode())
        + element("ReferencedSOPInstanceUID", sop_instance_uid.encode())
        + (element("ReferencedFrameNumber", numbers) if numbers else b"")
    )


def encoded_elements(dataset: Dataset) -> bytes:
    """Return the elements of a data set."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def without(dataset: Dataset, start: str) -> Dataset:
    """Return the elements whose keyword does not start with ``start``."""
    rest = Dataset()
    for data_element in dataset:
        if not data_element.keyword.startswith(start):
            rest.add(data_element)
    return rest


def set_encoded(result: Dataset, keyword: str, value: bytes) -> None:
    """Set an element to an encoded value."""
    number, vr = _tag_and_vr(keyword)
    tag, value = Tag(number), padded(value, vr)
    result[tag] = RawDataElement(
        tag=tag,
        VR=vr,
        length=len(value),
        value=value,
        value_tell=0,
        is_implicit_VR=False,
        is_little_endian=True,
    )


def padded(value: bytes, vr: str) -> bytes:
    """Return a value with the padding of its VR and no other (PS3.5 section 6.2)."""
    return value + (b"\0" if vr in {"OB", "UI"} else b" ") * (len(value) % 2)


@cache
def _tag_and_vr(keyword: str) -> tuple[int, str]:
    return int(Tag(keyword)), dictionary_VR(keyword)
