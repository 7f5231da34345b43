"""Converts a verified result file to another transfer syntax.

No value is decoded: Patient's Name arrives as received, even if its bytes do not fit the declared
character set.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

_PREFIX = 132
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs with a length of four bytes (PS3.5 table 7.1-1)."""
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_SEQUENCE = b"SQ"
_UNDEFINED = 0xFFFFFFFF
_NO_LENGTH = b"\xff\xff\xff\xff"
_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_END = b"\xfe\xff\x0d\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0"
_META_GROUP = b"\x02\x00"
_SYNTAX = b"\x02\x00\x10\x00"
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_PHOTOMETRIC_INTERPRETATION = b"\x28\x00\x04\x00"
_TRANSFORMED = _PHOTOMETRIC_INTERPRETATION + b"CS\x08\0YBR_RCT "
_DEEPEST = 64


class NotEncoded(ValueError):
    """The bytes are not a complete object in explicit VR little endian."""


class Part(NamedTuple):
    """An element, or the begin or end of a sequence or item, and its offset ``start``.

    ``tag`` is encoded. Only an element has a ``value``.
    """

    tag: bytes
    vr: bytes
    value: bytes
    start: int


def data_set_of(file: bytes) -> bytes:
    """Return the data set of a Part 10 file in explicit VR little endian.

    Raises:
        NotEncoded: The file has another format, or it is truncated.
    """
    if file[_PREFIX - 4 : _PREFIX] != b"DICM":
        raise NotEncoded("the file has no DICM prefix")
    syntax, begin = b"", len(file)
    for part in _Reader(file, start=_PREFIX).parts():
        if part.tag[:2] != _META_GROUP:
            begin = part.start
            break
        if part.tag == _SYNTAX:
            syntax = part.value.rstrip(b"\0")
    if syntax != ExplicitVRLittleEndian.encode():
        raise NotEncoded(f"the transfer syntax is not {ExplicitVRLittleEndian.name}")
    return file[begin:]


def check_whole(file: bytes) -> None:
    """Check that a Part 10 file in explicit VR little endian is complete.

    Raises:
        NotEncoded: The file has another format, or it is truncated.
    """
    in_syntax(data_set_of(file), ExplicitVRLittleEndian)


def parts_of(data_set: bytes) -> Iterator[Part]:
    """Yield every part of a data set in explicit VR little endian, in order.

    Raises:
        NotEncoded: An element reaches beyond its container, or has no valid header.
    """
    return _Reader(data_set).parts()


def in_syntax(data_set: bytes, syntax: UID) -> bytes:
    """Convert a data set in uncompressed explicit VR little endian to ``syntax``.

    Raises:
        NotEncoded: The data set is incomplete, or the converted data set has other values.
    """
    parts = list(_Reader(data_set).parts())
    if syntax == ExplicitVRLittleEndian:
        return data_set
    if syntax == ImplicitVRLittleEndian:
        return _implicit(parts)
    if syntax == DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return _even(deflater.compress(data_set) + deflater.flush())
    if syntax in {RLELossless, JPEG2000Lossless}:
        return _compressed(data_set, parts, syntax)
    raise NotEncoded(f"results cannot be converted to {syntax.name}")


def _implicit(parts: list[Part]) -> bytes:
    """Write the parts without VR; sequences and items end with delimiters."""
    pieces: list[bytes] = []
    for tag, vr, value, _ in parts:
        if vr == _SEQUENCE or tag == _ITEM:
            pieces += (tag, _NO_LENGTH)
        else:
            pieces += (tag, len(value).to_bytes(4, "little"), value)
    encoded = b"".join(pieces)
    converted = _Reader(encoded, implicit=True).parts()
    if [(part.tag, part.value) for part in converted] != [(part.tag, part.value) for part in parts]:
        raise NotEncoded("the object has other values in implicit VR")
    return encoded


def _compressed(data_set: bytes, parts: list[Part], syntax: UID) -> bytes:
    """Replace the native Pixel Data by compressed Pixel Data, and nothing else.

    JPEG 2000 stores colours by the reversible transform (PS3.5 section 8.2.4), which makes them
    small where they are grey; Photometric Interpretation then states it.
    """
    image = pydicom.dcmread(BytesIO(data_set), force=True)
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    begin, end = _last(data_set, parts, _PIXEL_DATA)
    is_transformed = syntax == JPEG2000Lossless and image.PhotometricInterpretation == "RGB"
    if is_transformed:
        image.PhotometricInterpretation = "YBR_RCT"
    image.compress(syntax, generate_instance_uid=False)
    head = data_set[:begin]
    if is_transformed:
        first, behind = _last(data_set, parts, _PHOTOMETRIC_INTERPRETATION)
        head = data_set[:first] + _TRANSFORMED + data_set[behind:begin]
    header = _PIXEL_DATA + b"OB\0\0" + _NO_LENGTH
    pixels: bytes = image.PixelData
    return head + header + pixels + _SEQUENCE_END + bytes(4) + data_set[end:]


def _last(data_set: bytes, parts: list[Part], tag: bytes) -> tuple[int, int]:
    """Return begin and end of the last element with a tag.

    Raises:
        NotEncoded: No element has the tag.
    """
    positions = [number for number, part in enumerate(parts) if part.tag == tag]
    if not positions:
        raise NotEncoded("the object has no Pixel Data to compress")
    begin, following = parts[positions[-1]].start, positions[-1] + 1
    return begin, parts[following].start if following < len(parts) else len(data_set)


def _even(content: bytes) -> bytes:
    return content + b"\0" * (len(content) % 2)


class _Reader:
    """Splits an encoded data set into its parts; trusts no length in it."""

    def __init__(self, data: bytes, *, start: int = 0, implicit: bool = False) -> None:
        self._data = data
        self._offset = start
        self._implicit = implicit

    def parts(self) -> Iterator[Part]:
        """Yield every part of the data set, in order.

        Raises:
            NotEncoded: An element reaches beyond its container, or has no valid header.
        """
        while self._offset < len(self._data):
            yield from self._element(len(self._data), 0)

    def _element(self, end: int, depth: int) -> Iterator[Part]:
        start = self._offset
        tag, vr, length = self._header(end)
        if vr == _SEQUENCE:
            yield Part(tag, vr, b"", start)
            yield from self._sequence(length, end, depth + 1)
        else:
            yield Part(tag, vr, self._take(length, end), start)

    def _sequence(self, length: int, outer: int, depth: int) -> Iterator[Part]:
        if depth > _DEEPEST:
            raise NotEncoded(f"sequences are nested more than {_DEEPEST} deep")
        end = self._end(length, outer)
        while self._continues(length, end, _SEQUENCE_END):
            start = self._offset
            if self._take(4, end) != _ITEM:
                raise NotEncoded(f"a sequence has no item at offset {start}")
            inner = int.from_bytes(self._take(4, end), "little")
            yield Part(_ITEM, b"", b"", start)
            last = self._end(inner, end)
            while self._continues(inner, last, _ITEM_END):
                yield from self._element(last, depth)
            yield Part(_ITEM_END, b"", b"", self._offset)
        yield Part(_SEQUENCE_END, b"", b"", self._offset)

    def _end(self, length: int, outer: int) -> int:
        if length == _UNDEFINED:
            return outer
        if self._offset + length > outer:
            raise NotEncoded(f"the sequence at offset {self._offset} is truncated")
        return self._offset + length

    def _continues(self, length: int, end: int, delimiter: bytes) -> bool:
        """Return whether the container goes on; skip the delimiter that ends it."""
        if length != _UNDEFINED:
            return self._offset < end
        if self._data[self._offset : self._offset + 4] != delimiter:
            return True
        self._take(8, end)
        return False

    def _header(self, end: int) -> tuple[bytes, bytes, int]:
        """Read the tag, VR and length of the next element."""
        tag = self._take(4, end)
        if self._implicit:
            length = int.from_bytes(self._take(4, end), "little")
            return tag, _SEQUENCE if length == _UNDEFINED else b"", length
        vr = self._take(2, end)
        if vr in _SHORT:
            return tag, vr, int.from_bytes(self._take(2, end), "little")
        if vr not in _LONG:
            raise NotEncoded(f"the element before offset {self._offset} has the unknown VR {vr!r}")
        self._take(2, end)
        return tag, vr, int.from_bytes(self._take(4, end), "little")

    def _take(self, count: int, end: int) -> bytes:
        if self._offset + count > end:
            raise NotEncoded(f"the object is truncated at offset {self._offset}")
        self._offset += count
        return self._data[self._offset - count : self._offset]
