"""What the receiver reads of a data set: who it is, and whether it is whole.

Elements are read raw: one wrong value somewhere in a header must not keep an image out.
"""

from __future__ import annotations

import math
import mmap
import re
import zlib
from dataclasses import dataclass, replace
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from chestct.errors import NotDicom, OutOfResources, RalesError
from chestct.geometry import cross, dot
from chestct.identity import patient_key
from chestct.series import accession_key
from chestct.uids import MAX_UID_LENGTH, Uid
from pynetdicom_guard.budget import Content, Scratch
from scp.codestreams import first_codestream, is_codestream
from scp.outline import Place, most_elements, outline
from scp.values import value_digest

_PIXEL_DATA = 0x7FE00010
_STEP = 1 << 20
_LONGEST_VALUE = 0xFFFE
"""Bytes of a value that is read: what fits into 16 bits, as in explicit VR all of them do."""
_WANTED: tuple[int, ...] = tuple(
    int(Tag(keyword))
    for keyword in (
        *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "AccessionNumber"),
        *("PatientName", "PatientID", "IssuerOfPatientID"),
        *("StudyInstanceUID", "SeriesInstanceUID", "ImagePositionPatient"),
        *("ImageOrientationPatient", "NumberOfSeriesRelatedInstances"),
        *("InConcatenationTotalNumber", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns"),
        "BitsAllocated",
    )
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
"""A decimal string (DS, PS3.5 section 6.2)."""
_INTEGER = re.compile(r"\+?\d{1,11}\Z", re.ASCII)
"""A positive integer string (IS, PS3.5 section 6.2)."""
_INTEGER_MAXIMUM = (1 << 31) - 1
_INFLATED_LEAST = 1 << 24
_INFLATED_RATIO = 16
"""A deflated data set may have 16 MiB or 16 times its size when inflated; images stay far
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


def parse(content: Content, transfer_syntax: str, *, scratch: Scratch | None = None) -> Header:
    """Read an encoded data set (no preamble, no file meta information).

    What is deflated is inflated in memory, or where it is large in a file of ``scratch``.

    Raises:
        NotDicom: It cannot be understood under ``transfer_syntax``, lacks a UID, or its
            pixel data is missing or cut off.
        OutOfResources: There is no room to inflate it.
    """
    syntax = UID(transfer_syntax)
    most = most_elements(len(content))
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            content = inflate(content, scratch)
        _check_encoding(content, syntax)
        places = outline(
            content, implicit=syntax.is_implicit_VR, most=most, wanted={*_WANTED, _PIXEL_DATA}
        )
        dataset = _small_values(content, places)
        header = read_header(dataset)
        check_pixel_data(content, places.get(_PIXEL_DATA), dataset, syntax)
        return replace(header, value_digest=value_digest(content, syntax, most=most))
    except RalesError:
        raise
    except EOFError as error:
        raise NotDicom(
            f"the data set is cut off: an element ends beyond its {len(content)} bytes"
        ) from error
    except Exception as error:  # a parser on hostile input raises anything
        raise NotDicom(f"not understood as {syntax.name}: {type(error).__name__}") from error


def _small_values(content: Content, places: dict[int, Place]) -> Dataset:
    """Return the elements that are read, as they are encoded."""
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag in _WANTED:
        if (at := places.get(tag)) is None:
            continue
        size = 0 if at.is_sequence else at.end - at.start
        if size > _LONGEST_VALUE:
            raise NotDicom(
                f"{keyword_for_tag(tag)} has {size} bytes; at most {_LONGEST_VALUE} are taken"
            )
        elements[BaseTag(tag)] = RawDataElement(
            tag=BaseTag(tag),
            VR="SQ" if at.is_sequence else at.vr.decode("latin-1") or None,
            length=size,
            value=content[at.start : at.start + size],
            value_tell=at.start,
            is_implicit_VR=not at.vr,
            is_little_endian=True,
        )
    return Dataset(elements)


def inflate(content: Content, scratch: Scratch | None) -> Content:
    """Return the data set (PS3.5 annex A.5), unless it grows beyond measure."""
    limit = max(_INFLATED_LEAST, _INFLATED_RATIO * len(content))
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    start = inflater.decompress(content, _INFLATED_LEAST)
    inflated: Content = start
    if inflater.unconsumed_tail and not inflater.eof and limit > _INFLATED_LEAST:
        if scratch is None:
            inflated = start + inflater.decompress(inflater.unconsumed_tail, limit - len(start))
        else:
            inflated = _inflate_to_file(start, inflater, limit, scratch)
    if not inflater.eof:  # behind it there is padding, which zlib counts as not consumed
        if inflater.unconsumed_tail:
            raise NotDicom(f"the deflated data set has more than {limit} bytes")
        raise NotDicom(
            f"the deflated data set is cut off: its stream does not end in its {len(content)} bytes"
        )
    return inflated


def _inflate_to_file(start: bytes, inflater: Any, limit: int, scratch: Scratch) -> Content:
    try:
        with scratch.temporary_file() as file:
            file.write(start)
            size = len(start)
            while inflater.unconsumed_tail and not inflater.eof and size < limit:
                scratch.check_room(_STEP)
                size += file.write(inflater.decompress(inflater.unconsumed_tail, _STEP))
            file.flush()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise OutOfResources(f"cannot inflate: {error.strerror}") from error


def _check_encoding(content: Content, syntax: UID) -> None:
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
    if keyword in dataset and dataset.get_item(keyword).VR == "SQ":
        return b""
    value = _raw(dataset, keyword)
    if b"\0" in value:  # no reader of the file would get any further
        raise NotDicom("Specific Character Set is not text")
    return value


def _text(dataset: Dataset, keyword: str) -> str:
    return _raw(dataset, keyword).decode("ascii", "replace").strip()


def _uid(dataset: Dataset, keyword: str) -> Uid:
    value = _text(dataset, keyword)
    if not value:
        raise NotDicom(f"{keyword} is missing")
    encoding = dataset.get_item(keyword).VR
    if encoding not in _UID_ENCODINGS:
        raise NotDicom(f"{keyword} has the VR {encoding}, not UI")
    try:
        return Uid(value)
    except ValueError as error:
        # Not quoted: what stands in the wrong place may be a name.
        raise NotDicom(f"{keyword} is no UID of 1-64 digits and dots: {_fault(value)}") from error


def _fault(value: str) -> str:
    if len(value) > MAX_UID_LENGTH:
        return f"{len(value)} long"
    place = next((at for at, one in enumerate(value) if one not in "0123456789."), 0)
    return f"wrong at {place + 1}"


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


def check_pixel_data(content: Content, at: Place | None, dataset: Dataset, syntax: UID) -> None:
    """Refuse pixel data that is missing, cut off, or not of the transfer syntax.

    Raises:
        NotDicom: With what is wrong.
    """
    if at is None:
        raise NotDicom("Pixel Data is missing")
    if syntax.is_encapsulated != at.endless:
        raise NotDicom(f"Pixel Data is not encoded as {syntax.name}")
    if at.endless:
        if not is_codestream(first_codestream(content, at), syntax):
            raise NotDicom(f"Pixel Data does not hold {syntax.name}")
        return
    wanted, have = _native_length(dataset), 0 if at.is_sequence else at.end - at.start
    if have < wanted:
        raise NotDicom(f"Pixel Data is cut off: {have} of {wanted} bytes")


def _native_length(dataset: Dataset) -> int:
    """Return the bytes that the image needs (PS3.5 section 8.1.1)."""
    keywords = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    numbers = [_unsigned(dataset, keyword) for keyword in keywords]
    if 0 in numbers:
        raise NotDicom(f"{keywords[numbers.index(0)]} is missing or 0")
    frames = _integer(dataset, "NumberOfFrames") or 1
    return (math.prod(numbers) * frames + 7) // 8


def _unsigned(dataset: Dataset, keyword: str) -> int:
    """Return an US value, 0 when it is missing or malformed."""
    tag = Tag(keyword)
    element: Any = dataset.get_item(tag) if tag in dataset else None
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if len(value) == 2 else 0  # noqa: PLR2004 - US
    return int(value) if isinstance(value, int) else 0
