"""Reads from a data set what the receiver needs: its identity, and whether it is whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from chestct.errors import NotDicom, RalesError, SopClassMismatch
from chestct.geometry import cross, dot
from chestct.identity import patient_key
from chestct.series import accession_key
from chestct.uids import Uid
from pynetdicom_guard.budget import Content, Scratch
from scp.elements import character_set, numbers, positive_integer, raw, tag_of, uid, unsigned
from scp.inflate import inflate
from scp.outline import PIXEL_DATA, Place, most_elements, outline
from scp.pixel_data import check_pixel_data
from scp.values import value_digest

_LONGEST_VALUE = 0xFFFE
"""Bytes of a value that is read: those that fit into 16 bits, as in explicit VR all of them do."""
_READ: tuple[BaseTag, ...] = tuple(
    tag_of(keyword)
    for keyword in (
        *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "AccessionNumber"),
        *("PatientName", "PatientID", "IssuerOfPatientID"),
        *("StudyInstanceUID", "SeriesInstanceUID", "ImagePositionPatient"),
        *("ImageOrientationPatient", "NumberOfSeriesRelatedInstances"),
        *("InConcatenationTotalNumber", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns"),
        "BitsAllocated",
    )
)
"""The elements that are read."""
_WANTED = frozenset({*map(int, _READ), PIXEL_DATA})


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


@dataclass(frozen=True, slots=True)
class Parsed:
    """A data set that was read.

    Attributes:
        header: Without the digest of its values.
        transfer_syntax: How it was received.
    """

    header: Header
    transfer_syntax: UID
    _content: Content
    _most: int

    def value_digest(self) -> str:
        """Return the digest of its values; see :func:`scp.values.value_digest`."""
        return value_digest(self._content, self.transfer_syntax, most=self._most)


def parse(content: Content, transfer_syntax: str) -> Header:
    """Read an encoded data set with the digest of its values; see :func:`read`."""
    parsed = read(content, transfer_syntax)
    return replace(parsed.header, value_digest=parsed.value_digest())


def read(content: Content, transfer_syntax: str, *, scratch: Scratch | None = None) -> Parsed:
    """Read an encoded data set (no preamble, no File Meta Information).

    Args:
        content: The data set as it was received.
        transfer_syntax: How it is encoded.
        scratch: Where a large deflated data set is inflated; None: in memory.

    Raises:
        NotDicom: It is not a data set in ``transfer_syntax``, lacks a UID, or its Pixel Data is
            missing or cut off.
        OutOfResources: There is no room to inflate it.
    """
    syntax = UID(transfer_syntax)
    most = most_elements(len(content))
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            content = inflate(content, scratch)
        _check_encoding(content, syntax)
        places = outline(content, implicit=syntax.is_implicit_VR, most=most, wanted=_WANTED)
        dataset = _elements_at(places, content)
        header = read_header(dataset)
        check_pixel_data(content, places.get(PIXEL_DATA), dataset, syntax)
        return Parsed(header, syntax, content, most)
    except RalesError:
        raise
    except EOFError as error:
        raise NotDicom(
            f"the data set is cut off: an element ends beyond its {len(content)} bytes"
        ) from error
    except Exception as error:  # a parser on hostile input raises anything
        raise NotDicom(f"not understood as {syntax.name}: {type(error).__name__}") from error


def read_header(dataset: Dataset) -> Header:
    """Return what the node keeps of a data set.

    Raises:
        NotDicom: A UID is missing or malformed.
    """
    return Header(
        sop_class_uid=uid(dataset, "SOPClassUID"),
        sop_instance_uid=uid(dataset, "SOPInstanceUID"),
        series_uid=uid(dataset, "SeriesInstanceUID"),
        study_uid=uid(dataset, "StudyInstanceUID"),
        patient_key=patient_key(
            raw(dataset, "PatientID"),
            raw(dataset, "IssuerOfPatientID"),
            raw(dataset, "PatientName"),
            character_set(dataset),
        ),
        accession_key=accession_key(raw(dataset, "AccessionNumber").strip()),
        slice_position=_slice_position(dataset),
        expected_instances=(
            positive_integer(dataset, "NumberOfSeriesRelatedInstances")
            or unsigned(dataset, "InConcatenationTotalNumber")
            or None
        ),
    )


def check_identity(header: Header, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Refuse a data set whose UIDs are not those of its request.

    Raises:
        SopClassMismatch: One of them differs.
    """
    for name, actual, requested in (
        ("SOP Class UID", header.sop_class_uid, sop_class_uid),
        ("SOP Instance UID", header.sop_instance_uid, sop_instance_uid),
    ):
        if actual != requested:
            raise SopClassMismatch(f"{name} of data set and request differ: {actual}, {requested}")


def _elements_at(places: dict[int, Place], content: Content) -> Dataset:
    """Return the elements that are read, as they are encoded."""
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag in _READ:
        if (place := places.get(tag)) is None:
            continue
        size = 0 if place.is_sequence else place.end - place.start
        if size > _LONGEST_VALUE:
            raise NotDicom(
                f"{keyword_for_tag(tag)} has {size} bytes; the maximum is {_LONGEST_VALUE}"
            )
        elements[tag] = RawDataElement(
            tag=tag,
            VR="SQ" if place.is_sequence else place.vr.decode("latin-1") or None,
            length=size,
            value=content[place.start : place.start + size],
            value_tell=place.start,
            is_implicit_VR=not place.vr,
            is_little_endian=True,
        )
    return Dataset(elements)


def _check_encoding(content: Content, syntax: UID) -> None:
    """Refuse a data set whose first element is encoded in the other VR (PS3.5 section 7.1).

    pydicom would read it all the same, but the stored file would name the wrong transfer syntax.
    """
    if len(content) < 8:  # noqa: PLR2004 - tag and length
        raise NotDicom("the data set is empty")
    if int.from_bytes(content[:2], "little") <= 0x0002:  # noqa: PLR2004 - group of file meta
        raise NotDicom("the data set starts with File Meta Information")
    explicit = content[4:6].isalpha() and content[4:6].isupper()
    if explicit == syntax.is_implicit_VR:
        raise NotDicom(f"the data set is not encoded as {syntax.name}")


def _slice_position(dataset: Dataset) -> float | None:
    """Return Image Position (Patient) projected on the normal of the slice, mm."""
    position = numbers(dataset, "ImagePositionPatient", 3)
    cosines = numbers(dataset, "ImageOrientationPatient", 6)
    if position is None or cosines is None:
        return None
    x, y, z = position
    a, b, c, d, e, f = cosines
    along_normal = dot((x, y, z), cross((a, b, c), (d, e, f)))
    return along_normal if math.isfinite(along_normal) else None
