"""What the receiver reads of a data set: who it is, and whether it is whole.

Elements are read raw: one wrong value somewhere in a header must not keep an image out.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from chestct.errors import NotDicom
from chestct.geometry import cross, dot
from chestct.identity import patient_key
from chestct.series import accession_key
from chestct.uids import Uid
from scp.nesting import check_extent
from scp.values import value_digest

_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0"
_SOF3_LOSSLESS = 0xC3
_SOF55_JPEG_LS = 0xF7
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""DHT, JPG and DAC: the markers among those of SOF0 to SOF15 that start no frame."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
"""A decimal string (DS, PS3.5 section 6.2)."""
_INTEGER = re.compile(r"\+?\d{1,11}\Z", re.ASCII)
"""A positive integer string (IS, PS3.5 section 6.2)."""
_INTEGER_MAXIMUM = (1 << 31) - 1
_INFLATED_LEAST = 1 << 26
_INFLATED_RATIO = 16
"""A deflated data set may have 64 MiB or 16 times its size when inflated; images stay far
below, and a bomb (up to 1032 times) must not take the memory."""
_UID_ENCODINGS = frozenset({None, "UI", "UN"})
"""VRs of an element that is read as a UID: none is stated in implicit VR, and UN is what those
write who do not know the element (PS3.5 section 6.2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the node keeps of a data set; see :class:`chestct.series.ReceivedInstance`."""

    sop_class_uid: Uid
    sop_instance_uid: Uid
    series_uid: Uid
    study_uid: Uid
    patient_key: str
    accession_key: str
    slice_position: float | None
    expected_instances: int | None
    value_digest: str = ""


def parse(content: bytes, transfer_syntax: str) -> tuple[Header, Dataset]:
    """Parse an encoded data set (no preamble, no file meta information).

    Raises:
        NotDicom: It cannot be understood under ``transfer_syntax``, lacks a UID, or its
            pixel data is missing or cut off.
    """
    syntax = UID(transfer_syntax)
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            content = inflate(content)
        dataset = _read(content, syntax)
        header = replace(read_header(dataset), value_digest=value_digest(content, syntax))
        check_pixel_data(dataset, syntax)
    except NotDicom:
        raise
    except EOFError as error:
        raise NotDicom("the data set is cut off") from error
    except Exception as error:  # a parser on hostile input raises anything
        raise NotDicom(f"not understood as {syntax.name}: {type(error).__name__}") from error
    return header, dataset


def _read(content: bytes, syntax: UID) -> Dataset:
    _check_encoding(content, syntax)
    check_extent(content, implicit=syntax.is_implicit_VR)
    stream = BytesIO(content)
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    end = 0
    for element in data_element_generator(stream, syntax.is_implicit_VR, is_little_endian=True):
        end = max(stream.tell(), _end_of(element))
        if end > len(content):
            raise EOFError
        elements[element.tag] = element
    if content[end:].strip(b"\0"):  # some writers pad files with zeros
        raise NotDicom("the data set is cut off inside an element, or something follows it")
    return Dataset(elements)


def _end_of(element: DataElement | RawDataElement) -> int:
    """Return where a raw element should end; 0 for a sequence, which was read to its end."""
    if not isinstance(element, RawDataElement):
        return 0
    if element.length == _UNDEFINED_LENGTH:
        return element.value_tell + len(element.value or b"") + 8  # the delimiter
    return element.value_tell + element.length


def inflate(content: bytes) -> bytes:
    """Return the data set (PS3.5 annex A.5), unless it grows beyond measure."""
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    limit = max(_INFLATED_LEAST, _INFLATED_RATIO * len(content))
    inflated = inflater.decompress(content, limit)
    if inflater.unconsumed_tail:
        raise NotDicom(f"the deflated data set has more than {limit} bytes")
    if not inflater.eof:
        raise NotDicom("the deflated data set is cut off")
    return inflated


def _check_encoding(content: bytes, syntax: UID) -> None:
    """Refuse a data set whose first element is encoded the other way (PS3.5 section 7.1).

    pydicom would read it all the same, but the stored file would then be one that lies; so
    would one whose data set begins with file meta information of its own.
    """
    if len(content) < 8:  # noqa: PLR2004 - tag and length
        raise NotDicom("the data set is empty")
    if int.from_bytes(content[:2], "little") <= 0x0002:  # noqa: PLR2004 - group of file meta
        raise NotDicom("the data set begins with what is not part of one")
    explicit = content[4:6].isalpha() and content[4:6].isupper()
    if explicit == syntax.is_implicit_VR:
        raise NotDicom(f"the data set is not encoded as {syntax.name}")


def read_header(dataset: Dataset) -> Header:
    """Return what the node keeps of a data set.

    Raises:
        NotDicom: One of the UIDs is missing or malformed.
    """
    return Header(
        sop_class_uid=_uid(dataset, "SOPClassUID"),
        sop_instance_uid=_uid(dataset, "SOPInstanceUID"),
        series_uid=_uid(dataset, "SeriesInstanceUID"),
        study_uid=_uid(dataset, "StudyInstanceUID"),
        patient_key=patient_key(
            _raw(dataset, "PatientID"),
            _raw(dataset, "IssuerOfPatientID"),
            _raw(dataset, "PatientName"),
            _character_set(dataset),
        ),
        accession_key=accession_key(_raw(dataset, "AccessionNumber").strip()),
        slice_position=_slice_position(dataset),
        expected_instances=(
            _integer(dataset, "NumberOfSeriesRelatedInstances")
            or _unsigned(dataset, "InConcatenationTotalNumber")
            or None
        ),
    )


def _raw(dataset: Dataset, keyword: str) -> bytes:
    """Return the encoded value without padding; empty when there is none."""
    tag: BaseTag = Tag(keyword)
    if tag not in dataset:
        return b""
    element: Any = dataset.get_item(tag)
    if element.VR == "SQ":
        raise NotDicom(f"{keyword} is a sequence")
    value = element.value if isinstance(element, RawDataElement) else str(element.value).encode()
    return (value or b"").rstrip(b"\0 ")


def _character_set(dataset: Dataset) -> bytes:
    """Return Specific Character Set; one that is a sequence says nothing, and costs nothing."""
    keyword = "SpecificCharacterSet"
    is_sequence = keyword in dataset and dataset.get_item(keyword).VR == "SQ"
    return b"" if is_sequence else _raw(dataset, keyword)


def _text(dataset: Dataset, keyword: str) -> str:
    return _raw(dataset, keyword).decode("ascii", "replace").strip()


def _uid(dataset: Dataset, keyword: str) -> Uid:
    value = _text(dataset, keyword)
    if value and dataset.get_item(keyword).VR not in _UID_ENCODINGS:
        raise NotDicom(f"{keyword} has the VR of something else")
    try:
        return Uid(value)
    except ValueError as error:
        raise NotDicom(f"{keyword} is {'malformed' if value else 'missing'}") from error


def _integer(dataset: Dataset, keyword: str) -> int | None:
    """Return a positive IS value; None when it is missing, malformed or out of range."""
    text = _text(dataset, keyword)
    value = int(text) if _INTEGER.match(text) else 0
    return value if 0 < value <= _INTEGER_MAXIMUM else None


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    parts = [part.strip() for part in _text(dataset, keyword).split("\\")]
    if len(parts) != count or not all(_NUMBER.match(part) for part in parts):
        return None
    return tuple(float(part) for part in parts)


def _slice_position(dataset: Dataset) -> float | None:
    """Return Image Position (Patient) projected on the normal of the slice, mm."""
    position = _numbers(dataset, "ImagePositionPatient", 3)
    cosines = _numbers(dataset, "ImageOrientationPatient", 6)
    if position is None or cosines is None:
        return None
    x, y, z = position
    a, b, c, d, e, f = cosines
    along_normal = dot((x, y, z), cross((a, b, c), (d, e, f)))
    return along_normal if math.isfinite(along_normal) else None


def check_pixel_data(dataset: Dataset, syntax: UID) -> None:
    """Refuse pixel data that is missing, cut off, or not of the transfer syntax.

    pydicom accepts a data set that ends inside Pixel Data (3.0.2), hence our own count.

    Raises:
        NotDicom: With what is wrong.
    """
    tag = Tag("PixelData")
    if tag not in dataset:
        raise NotDicom("Pixel Data is missing")
    element: Any = dataset.get_item(tag)
    encapsulated = isinstance(element, RawDataElement) and element.length == _UNDEFINED_LENGTH
    value: bytes = element.value or b""
    if syntax.is_encapsulated != encapsulated:
        raise NotDicom(f"Pixel Data is not encoded as {syntax.name}")
    if encapsulated:
        _check_fragments(value, syntax)
        return
    wanted = _native_length(dataset)
    if len(value) < wanted:
        raise NotDicom(f"Pixel Data is cut off: {len(value)} of {wanted} bytes")


def _native_length(dataset: Dataset) -> int:
    """Return the bytes that the image needs (PS3.5 section 8.1.1)."""
    rows, columns = _unsigned(dataset, "Rows"), _unsigned(dataset, "Columns")
    samples, bits = _unsigned(dataset, "SamplesPerPixel"), _unsigned(dataset, "BitsAllocated")
    frames = _integer(dataset, "NumberOfFrames") or 1
    if 0 in (rows, columns, samples, bits):
        raise NotDicom("Rows, Columns, Samples per Pixel or Bits Allocated is missing")
    return (rows * columns * samples * frames * bits + 7) // 8


def _unsigned(dataset: Dataset, keyword: str) -> int:
    """Return an US value, 0 when it is missing or malformed."""
    tag = Tag(keyword)
    element: Any = dataset.get_item(tag) if tag in dataset else None
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if len(value) == 2 else 0  # noqa: PLR2004 - US
    return int(value) if isinstance(value, int) else 0


def _check_fragments(value: bytes, syntax: UID) -> None:
    """Walk the fragments (PS3.5 annex A.4) and look at the first codestream."""
    place, first, table_seen = 0, b"", False
    while place < len(value):
        if len(value) < place + 8 or value[place : place + 4] not in {_ITEM, _DELIMITER}:
            raise NotDicom("Pixel Data is cut off between fragments")
        length = int.from_bytes(value[place + 4 : place + 8], "little")
        if value[place : place + 4] == _DELIMITER:
            break
        place += 8
        if place + length > len(value):
            raise NotDicom("Pixel Data is cut off inside a fragment")
        if table_seen and not first:
            first = value[place : place + length]
        table_seen = True
        place += length
    if not _is_codestream(first, syntax):
        raise NotDicom(f"Pixel Data does not hold {syntax.name}")


def _is_codestream(start: bytes, syntax: UID) -> bool:
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
