"""Hostile series: what the loader may find in files that the receiver has acknowledged.

Each :class:`Harm` changes an honest slice. It lies with raw elements, so that a value, its VR
and its length need not fit each other.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from ct_series import COLUMNS, ROWS, ct_slice, received, stored_values
from hostile_datasets import element, encapsulated, fragment
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from chestct.series import ReceivedInstance, Series

_PIXEL_DATA = 0x7FE00010
SERIES_SLICES = 4


@dataclass
class Raw:
    """A slice as raw elements: VR and value by tag; ``stream`` is its codestream, if it has one."""

    elements: dict[int, tuple[bytes, bytes]]
    stream: bytes | None = None

    def put(self, keyword: str, value: bytes, vr: str | None = None) -> None:
        """Write a value as it is, under a VR that may be another one's."""
        tag = tag_for_keyword(keyword) or 0
        self.elements[tag] = ((vr or dictionary_VR(tag).split(" ")[0]).encode(), value)
        if tag == _PIXEL_DATA:
            self.stream = None

    def encoded(self) -> bytes:
        """Return the data set in explicit VR."""
        parts = {
            tag: element((tag >> 16, tag & 0xFFFF), vr, value)
            for tag, (vr, value) in self.elements.items()
        }
        if self.stream is not None:
            parts[_PIXEL_DATA] = encapsulated(
                fragment(b""), fragment(self.stream + bytes(len(self.stream) % 2))
            )
        return b"".join(part for _, part in sorted(parts.items()))


Change = Callable[[int, Raw], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """One way to do harm.

    Attributes:
        change: Applied to each slice by its index, after it was compressed.
        refused: Whether the series must be refused; else it may be analysed as well.
    """

    name: str
    change: Change
    kind: str = ""
    refused: bool = True
    syntax: UID = ExplicitVRLittleEndian


@cache
def honest(syntax: UID) -> tuple[tuple[Dataset, bytes, Raw], ...]:
    """Return each slice of an honest series: its data set, its file head and its raw elements."""
    made = []
    for index, stored in enumerate(stored_values(SERIES_SLICES)):
        dataset = ct_slice(index, stored)
        if syntax.is_encapsulated:
            dataset.compress(syntax)
        dataset.file_meta.TransferSyntaxUID = syntax
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True, implicit_vr=False, little_endian=True)
        read = pydicom.dcmread(BytesIO(buffer.getvalue()))
        raw = Raw(
            {
                int(tag): (one.VR.encode(), one.value or b"")
                for tag in read.keys()  # noqa: SIM118 - a data set iterates over its elements
                for one in [read.get_item(tag)]
            }
        )
        if syntax.is_encapsulated:
            raw.stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
        head = buffer.getvalue()[: buffer.getvalue().index(b"\x08\x00\x08\x00")]
        made.append((dataset, head, raw))
    return tuple(made)


def write(harm: Harm, folder: Path) -> Series:
    """Write the series that ``harm`` was done to, as a receiver would have recorded it."""
    instances: list[ReceivedInstance] = []
    for index, (dataset, head, raw) in enumerate(honest(harm.syntax)):
        changed = copy.deepcopy(raw)
        harm.change(index, changed)
        path = folder / f"{index}.dcm"
        path.write_bytes(head + changed.encoded())
        instances.append(received(path, dataset))
    return Series.of(instances)


def harms() -> list[Harm]:
    """Return them all."""
    kinds = {
        "numbers": _numbers(),
        "representations": _representations(),
        "shapes": _shapes(),
        "bits": _bits(),
        "codestreams": _codestreams(),
        "texts": _texts(),
    }
    return [replace(harm, kind=kind) for kind, found in kinds.items() for harm in found]


def _everywhere(keyword: str, value: bytes, vr: str | None = None) -> Change:
    return lambda _, raw: raw.put(keyword, value, vr)


def _in_one(keyword: str, value: bytes, vr: str | None = None) -> Change:
    def change(index: int, raw: Raw) -> None:
        if index == SERIES_SLICES // 2:
            raw.put(keyword, value, vr)

    return change


_BAD_NUMBERS = (
    b"nan ",
    b"inf ",
    b"-inf",
    b"1e999 ",
    b"1e300 ",
    b"1e39",
    b"-1e39 ",
    b"1e-300",
    b"-1",
    b"0 ",
)
_BAD_VECTORS = ("nan", "inf", "1e308", "1e155", "1e20", "-1e308")


def _numbers() -> list[Harm]:
    found = []
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        for value in _BAD_NUMBERS:
            if keyword == "RescaleIntercept" and value in {b"1e-300", b"-1", b"0 "}:
                continue
            text = value.decode()
            found.append(Harm(name=f"{keyword} {text}", change=_everywhere(keyword, value)))
            found.append(Harm(name=f"{keyword} {text} once", change=_in_one(keyword, value)))
    return [*found, *_vectors(), *_ignored_numbers()]


def _vectors() -> list[Harm]:
    found = []
    for keyword, count in {
        "ImagePositionPatient": 3,
        "ImageOrientationPatient": 6,
        "PixelSpacing": 2,
    }.items():
        for number in _BAD_VECTORS:
            for place in range(count):
                parts = ["0"] * count
                parts[place] = number
                value = "\\".join(parts).encode()
                value += b" " * (len(value) % 2)
                found.append(Harm(name=f"{keyword} {parts}", change=_everywhere(keyword, value)))
    for value in (
        b"1e-300\\1e-300 ",
        b"1e300\\1e300 ",
        b"0\\0 ",
        b"-1\\-1 ",
        b"1",
        b"1\\1\\1 ",
        b"1e5\\1e5 ",
    ):
        name = f"PixelSpacing {value.decode()}"
        found.append(Harm(name=name, change=_everywhere("PixelSpacing", value)))
    return found


def _ignored_numbers() -> list[Harm]:
    """Numbers that only a rule or the padding looks at: nonsense there may pass for nothing."""
    found = []
    for keyword in ("SliceThickness", "GantryDetectorTilt"):
        for value in _BAD_NUMBERS:
            change = _everywhere(keyword, value)
            found.append(Harm(name=f"{keyword} {value.decode()}", change=change, refused=False))
    for value in (b"\xff\xff", b"\0\0", b"\xff\xff\xff\xff", b"\1", b"\0" * 4):
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
            change = _everywhere(keyword, value, "US")
            found.append(Harm(name=f"{keyword} {value.hex()}", change=change, refused=False))
    return found


_READ = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "BodyPartExamined"),
    *("SeriesDescription", "ConvolutionKernel", "FrameOfReferenceUID", "ImagePositionPatient"),
    *("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "GantryDetectorTilt"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames"),
    *("PhotometricInterpretation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "PixelData"),
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyID"),
    *("AccessionNumber", "InstanceNumber", "PositionReferenceIndicator", "StudyInstanceUID"),
    *("SpecificCharacterSet", "PatientAge", "ReferringPhysicianName", "DimensionIndexSequence"),
)


def _representations() -> list[Harm]:
    """Every element that is read anywhere, with the VR of something else and bytes of nothing."""
    found = []
    for keyword in _READ:
        for vr in ("SQ", "OB", "FD", "PN"):
            for value in (b"\x01\x02\x03\x04\x05\x06\x07\x08", b"abcdefg "):
                change = _everywhere(keyword, value, vr)
                name = f"{keyword} as {vr} {value.hex()}"
                found.append(Harm(name=name, change=change, refused=False))
    return found


def _shapes() -> list[Harm]:
    """Images that are larger than they are."""
    found = []
    for rows, columns in ((65535, 65535), (65535, COLUMNS), (ROWS, 65535), (8192, 8192), (0, 0)):
        sizes = struct.pack("<H", rows), struct.pack("<H", columns)

        def change(_: int, raw: Raw, sizes: tuple[bytes, bytes] = sizes) -> None:
            raw.put("Rows", sizes[0])
            raw.put("Columns", sizes[1])

        for syntax in (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless):
            name = f"{rows} x {columns}, {syntax.name}"
            found.append(Harm(name=name, change=change, syntax=syntax))
    for frames in (b"2147483647", b"0 ", b"-1", b"2 ", b"99999999999999999999", b"many"):
        name = f"{frames.decode()} frames"
        change = _everywhere("NumberOfFrames", frames)
        found.append(Harm(name=name, change=change, refused=len(frames) < 4 or frames < b"3"))
    return found


def _bits() -> list[Harm]:
    found = []
    for allocated in (0, 1, 8, 12, 16, 24, 32, 64, 65535):
        for stored in (0, 1, 8, 16, 17, 65535):
            for signed in (0, 1, 2):
                if (allocated, stored, signed) in {(16, 16, 0), (16, 16, 1)}:
                    continue
                values = {
                    "BitsAllocated": allocated,
                    "BitsStored": stored,
                    "PixelRepresentation": signed,
                }

                def change(_: int, raw: Raw, values: dict[str, int] = values) -> None:
                    for keyword, value in values.items():
                        raw.put(keyword, struct.pack("<H", value))

                honest = allocated in {8, 16} and 1 <= stored <= allocated and signed < 2
                name = f"bits {allocated} {stored} {signed}"
                found.append(Harm(name=name, change=change, refused=not honest))
    return found


def _codestreams() -> list[Harm]:
    """Codestreams that are cut, damaged, or of another size than the header says."""
    found = []
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        for part in (0.05, 0.3, 0.6, 0.9):
            harm = _on_stream(lambda stream, part=part: stream[: int(len(stream) * part)])
            found.append(Harm(name=f"cut at {part}, {syntax.name}", change=harm, syntax=syntax))
        harm = _on_stream(_noisy)
        found.append(
            Harm(name=f"noise within, {syntax.name}", change=harm, syntax=syntax, refused=False)
        )
        harm = _on_stream(lambda stream: stream[:4] + bytes(len(stream) - 4))
        found.append(Harm(name=f"zeros within, {syntax.name}", change=harm, syntax=syntax))
        harm = _on_stream(lambda stream: stream[:4] + b"\xff" * (len(stream) - 4))
        found.append(Harm(name=f"ones within, {syntax.name}", change=harm, syntax=syntax))
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        for side in (1, ROWS - 1, ROWS * 2, 30000, 65535):
            harm = _on_stream(
                lambda stream, side=side, syntax=syntax: resized(stream, side, syntax)
            )
            name = f"a stream of {side} x {side}, {syntax.name}"
            found.append(Harm(name=name, change=harm, syntax=syntax))
    return found


def resized(stream: bytes, side: int, syntax: UID) -> bytes:
    """Return a codestream whose own header says that it is ``side`` by ``side`` pixels."""
    changed = bytearray(stream)
    if syntax == JPEG2000Lossless:  # SIZ: Xsiz, Ysiz and the tile of that size
        place = stream.index(b"\xff\x51") + 6
        struct.pack_into(">LL", changed, place, side, side)
        struct.pack_into(">LL", changed, place + 16, side, side)
        return bytes(changed)
    struct.pack_into(">HH", changed, stream.index(b"\xff\xf7") + 5, side, side)
    return bytes(changed)


def _on_stream(harm: Callable[[bytes], bytes]) -> Change:
    def change(_: int, raw: Raw) -> None:
        assert raw.stream is not None
        raw.stream = harm(raw.stream)

    return change


def _noisy(stream: bytes) -> bytes:
    chance = np.random.default_rng(7)
    changed = bytearray(stream)
    for place in chance.integers(len(stream) // 2, len(stream) - 4, 40):
        changed[place] = int(chance.integers(0, 256))
    return bytes(changed)


_CHARACTER_SETS = (
    *(b"ISO_IR 999", b"\\ISO 2022 IR 87", b"\\\\\\", b"ISO 2022 IR 87\\ISO 2022 IR 13"),
    *(b"utf-8 ", b"../../x ", b"GB18030\\ISO_IR 192", b"ISO_IR 100\\" * 500),
)


def _texts() -> list[Harm]:
    """Character sets that are none, and text that is none of them."""
    found = []
    text = b"\x1b$B\xff\xfe\x00\x1b(J^\xe4\xf6\xfc"
    for value in _CHARACTER_SETS:

        def change(_: int, raw: Raw, value: bytes = value) -> None:
            raw.put("SpecificCharacterSet", value)
            for keyword in ("PatientName", "PatientID", "StudyDescription", "SeriesDescription"):
                raw.put(keyword, text)

        name = f"character set {value[:30]!r}"
        found.append(Harm(name=name, change=change, refused=False))
    return found
