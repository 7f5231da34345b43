"""The forms in which a verified object travels, made of its bytes.

No value passes through a decoder: a patient's name arrives as it was received, also where its
bytes do not fit the character set that the source declares.
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
_DEEPEST = 64


class NotEncoded(ValueError):
    """The bytes are no whole object in explicit VR little endian."""


class Part(NamedTuple):
    """An element, the begin of a sequence or item, or the end of one, and where it starts.

    ``tag`` is as encoded; ``value`` is empty but for an element.
    """

    tag: bytes
    vr: bytes
    value: bytes
    start: int


def data_set_of(file: bytes) -> bytes:
    """Return the data set of a Part 10 file in explicit VR little endian.

    Raises:
        NotEncoded: It is no such file, or one that is cut off.
    """
    if file[_PREFIX - 4 : _PREFIX] != b"DICM":
        raise NotEncoded("the file is no DICOM file")
    syntax, begin = b"", len(file)
    for part in _Reader(file, start=_PREFIX).parts():
        if part.tag[:2] != _META_GROUP:
            begin = part.start
            break
        if part.tag == _SYNTAX:
            syntax = part.value.rstrip(b"\0")
    if syntax != ExplicitVRLittleEndian.encode():
        raise NotEncoded(f"the file is not in {ExplicitVRLittleEndian.name}")
    return file[begin:]


def check_whole(file: bytes) -> None:
    """Let a Part 10 file in explicit VR little endian pass.

    Raises:
        NotEncoded: It is no such file, or one that is cut off.
    """
    in_syntax(data_set_of(file), ExplicitVRLittleEndian)


def in_syntax(data_set: bytes, syntax: UID) -> bytes:
    """Return a data set (explicit VR little endian, uncompressed) as it travels in ``syntax``.

    Raises:
        NotEncoded: It is not whole, or what was made of it does not say the same.
    """
    parts = list(_Reader(data_set).parts())
    if syntax == ExplicitVRLittleEndian:
        return data_set
    if syntax == ImplicitVRLittleEndian:
        return _implicit(parts)
    if syntax == DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return _even(deflater.compress(data_set) + deflater.flush())
    if syntax == RLELossless:
        return _run_lengths(data_set, parts)
    raise NotEncoded(f"results are not sent in {syntax.name}")


def _implicit(parts: list[Part]) -> bytes:
    """Write the parts without VR; sequences and items end with delimiters."""
    pieces: list[bytes] = []
    for tag, vr, value, _ in parts:
        if vr == _SEQUENCE or tag == _ITEM:
            pieces += (tag, _NO_LENGTH)
        else:
            pieces += (tag, len(value).to_bytes(4, "little"), value)
    encoded = b"".join(pieces)
    again = _Reader(encoded, implicit=True).parts()
    if [(one.tag, one.value) for one in again] != [(one.tag, one.value) for one in parts]:
        raise NotEncoded("the object in implicit VR does not say the same")
    return encoded


def _run_lengths(data_set: bytes, parts: list[Part]) -> bytes:
    """Put compressed pixels in the place of the native ones; nothing else changes."""
    image = pydicom.dcmread(BytesIO(data_set), force=True)
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.compress(RLELossless, generate_instance_uid=False)
    places = [number for number, part in enumerate(parts) if part.tag == _PIXEL_DATA]
    if not places:
        raise NotEncoded("the object has no pixels to compress")
    begin = parts[places[-1]].start
    end = parts[places[-1] + 1].start if places[-1] + 1 < len(parts) else len(data_set)
    header = _PIXEL_DATA + b"OB\0\0" + _NO_LENGTH
    pixels: bytes = image.PixelData
    return data_set[:begin] + header + pixels + _SEQUENCE_END + bytes(4) + data_set[end:]


def _even(content: bytes) -> bytes:
    return content + b"\0" * (len(content) % 2)


class _Reader:
    """Takes an encoded data set apart, and nothing for granted of it."""

    def __init__(self, data: bytes, *, start: int = 0, implicit: bool = False) -> None:
        self._data = data
        self._place = start
        self._implicit = implicit

    def parts(self) -> Iterator[Part]:
        """Yield every part of the data set, in order.

        Raises:
            NotEncoded: An element reaches beyond what it lies in, or is none.
        """
        while self._place < len(self._data):
            yield from self._element(len(self._data), 0)

    def _element(self, end: int, depth: int) -> Iterator[Part]:
        start = self._place
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
        while self._goes_on(length, end, _SEQUENCE_END):
            start = self._place
            if self._take(4, end) != _ITEM:
                raise NotEncoded("a sequence holds something else than items")
            inner = int.from_bytes(self._take(4, end), "little")
            yield Part(_ITEM, b"", b"", start)
            last = self._end(inner, end)
            while self._goes_on(inner, last, _ITEM_END):
                yield from self._element(last, depth)
            yield Part(_ITEM_END, b"", b"", self._place)
        yield Part(_SEQUENCE_END, b"", b"", self._place)

    def _end(self, length: int, outer: int) -> int:
        if length == _UNDEFINED:
            return outer
        if self._place + length > outer:
            raise NotEncoded("a sequence is cut off")
        return self._place + length

    def _goes_on(self, length: int, end: int, delimiter: bytes) -> bool:
        """Tell whether more follows; a delimiter that ends it is passed over."""
        if length != _UNDEFINED:
            return self._place < end
        if self._data[self._place : self._place + 4] != delimiter:
            return True
        self._take(8, end)
        return False

    def _header(self, end: int) -> tuple[bytes, bytes, int]:
        """Return tag, VR and length of the element that begins here."""
        tag = self._take(4, end)
        if self._implicit:
            length = int.from_bytes(self._take(4, end), "little")
            return tag, _SEQUENCE if length == _UNDEFINED else b"", length
        vr = self._take(2, end)
        if vr in _SHORT:
            return tag, vr, int.from_bytes(self._take(2, end), "little")
        if vr not in _LONG:
            raise NotEncoded("an element has no VR")
        self._take(2, end)
        return tag, vr, int.from_bytes(self._take(4, end), "little")

    def _take(self, count: int, end: int) -> bytes:
        if self._place + count > end:
            raise NotEncoded("the object is cut off")
        self._place += count
        return self._data[self._place - count : self._place]
