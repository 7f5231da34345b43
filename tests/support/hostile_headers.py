"""Headers whose text no reader can trust: character sets that are none, and text of none of them.

A reader that takes any name that Python knows for a character set meets codecs that raise, that
give no text, or that give text that cannot be written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydicom
from hostile_datasets import element
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

_SURROGATE = b"\\ud800^\\udfff"
"""What the codecs of Python's own escapes make lone surrogates of."""
_UTF8_SURROGATE = b"\xed\xa0\x80^\xed\xbf\xbf"
_ANY = b"\xff\xfe\x00\xd8^+2AA-\xe4\x80xn--"
_CODECS = (
    *("unicode_escape", "raw_unicode_escape", "utf_7", "utf_16", "utf_32", "idna", "punycode"),
    *("rot13", "undefined", "zlib", "bz2", "hex", "base64", "uu", "quopri", "palmos", "charmap"),
    *("mbcs", "oem", "utf_8_sig", "hz", "iso2022_kr", "unicode_internal", "\x00", "../x", "\ud800"),
)
_TEXTS = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID"),
    *("StudyDescription", "SeriesDescription", "ReferringPhysicianName", "InstitutionName"),
    *("ProtocolName", "ConvolutionKernel", "PatientComments"),
)
_CODES = ("PatientSex", "BodyPartExamined", "PatientPosition")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileHeader:
    """Values by keyword that replace those of an honest image."""

    name: str
    values: dict[str, bytes]


def headers() -> list[HostileHeader]:
    """Return them all."""
    found = [
        _of(f"character set {codec!r}", _SURROGATE, codec.encode("utf-8", "surrogatepass"))
        for codec in _CODECS
    ]
    found += [
        _of(f"{name} in {charset.decode() or 'no'} character set", text, charset)
        for name, text in (
            ("a surrogate", _UTF8_SURROGATE),
            ("any bytes", _ANY),
            ("NUL", b"A\0B^\0\0C"),
            ("an escape that ends nowhere", b"A^\x1b$"),
            ("64 KB", b"&" * 65_000),
        )
        for charset in (b"", b"ISO_IR 192", b"ISO 2022 IR 13\\ISO 2022 IR 87")
    ]
    found.append(
        HostileHeader(
            name="other character sets after an escape",
            values={
                "SpecificCharacterSet": b"unicode_escape\\rot13\\zlib",
                "PatientName": b"\x1b$B!",
            },
        )
    )
    found += [
        HostileHeader(
            name=f"{keyword} of {value[:8]!r}",
            values={"SpecificCharacterSet": b"unicode_escape", keyword: value},
        )
        for keyword in (*_CODES, "FrameOfReferenceUID")
        for value in (_UTF8_SURROGATE, _SURROGATE, b"\0A\0", b"&" * 65_000)
    ]
    return found


def _of(name: str, text: bytes, charset: bytes) -> HostileHeader:
    return HostileHeader(
        name=name, values={"SpecificCharacterSet": charset} | dict.fromkeys(_TEXTS, text)
    )


def encoded(path: Path, header: HostileHeader, *, series: str, number: int) -> tuple[str, bytes]:
    """Return the SOP Instance UID and the data set of an image with the hostile values.

    The image is one of another series and study, so that one folder serves for all.
    """
    dataset = pydicom.dcmread(path)
    dataset.SeriesInstanceUID = series
    dataset.StudyInstanceUID = f"{series}.1"
    dataset.SOPInstanceUID = f"{series}.2.{number}"
    return str(dataset.SOPInstanceUID), _raw(dataset, header.values)


def _raw(dataset: Dataset, values: dict[str, bytes]) -> bytes:
    parts: dict[int, bytes] = {}
    for one in dataset:
        alone = Dataset()
        alone.add(one)
        content = encode(alone, is_implicit_vr=False, is_little_endian=True)
        assert content is not None
        parts[int(one.tag)] = content
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword) or 0
        vr = dictionary_VR(tag).encode()
        parts[tag] = element((tag >> 16, tag & 0xFFFF), vr, value)
    return b"".join(part for _, part in sorted(parts.items()))
