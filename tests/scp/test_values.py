"""One digest for one set of values, in whatever transfer syntax they come."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLossless,
    JPEGLosslessSV1,
)

from scp.headers import parse
from scp.values import value_digest

from .conftest import make_ct, to_bytes

_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)


def _encoded(dataset: Dataset, syntax: str) -> bytes:
    stream = DicomBytesIO()
    stream.is_implicit_VR = syntax == ImplicitVRLittleEndian
    stream.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(stream, dataset)
    return stream.getvalue()


def _digest(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> str:
    return value_digest(_encoded(dataset, syntax), syntax)


_TEXTS = st.text("ABC^ 012.-", max_size=9).map(lambda text: "x" + text)
_SHORTS = st.lists(st.integers(0, 65535), max_size=3)
_ELEMENTS = st.one_of(
    st.tuples(
        st.sampled_from([(0x00100010, "PN"), (0x00081030, "LO"), (0x00204000, "LT")]), _TEXTS
    ),
    st.tuples(st.sampled_from([(0x00280010, "US"), (0x00280106, "US")]), _SHORTS),
    st.tuples(st.sampled_from([(0x00189310, "FD")]), st.floats(allow_nan=False)),
    st.tuples(st.sampled_from([(0x00091002, "LO"), (0x00091003, "SH")]), _TEXTS),
    st.tuples(st.sampled_from([(0x00420011, "OB")]), st.binary(max_size=20).map(bytes)),
    st.tuples(st.sampled_from([(0x00280301, "CS"), (0x00080060, "CS")]), st.just("CT")),
)


@st.composite
def _datasets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    dataset = Dataset()
    for (tag, vr), value in draw(st.lists(_ELEMENTS, max_size=5)):
        dataset[tag] = DataElement(tag, vr, value)
    if depth and draw(st.booleans()):
        for tag in draw(st.sets(st.sampled_from([0x00081140, 0x00091001]), min_size=1)):
            items = draw(st.lists(_datasets(depth=depth - 1), max_size=2))
            sequence = Sequence(items)
            sequence.is_undefined_length = draw(st.booleans())
            for item in items:
                item.is_undefined_length_sequence_item = draw(st.booleans())
            dataset[tag] = DataElement(tag, "SQ", sequence)
            dataset[tag].is_undefined_length = sequence.is_undefined_length
    return dataset


def _turned(dataset: Dataset) -> Dataset:
    """Return a copy whose sequences have lengths where they had none, and the other way."""
    copy = deepcopy(dataset)
    for element in copy:
        if element.VR == "SQ":
            element.is_undefined_length = not element.is_undefined_length
            element.value = Sequence([_turned(item) for item in element.value])
            for item in element.value:
                item.is_undefined_length_sequence_item = element.is_undefined_length
    return copy


@settings(max_examples=150, deadline=None)
@given(_datasets())
def test_every_native_encoding_of_the_same_values_has_one_digest(dataset: Dataset) -> None:
    found = {_digest(one, syntax) for syntax in _NATIVE for one in (dataset, _turned(dataset))}
    assert len(found) == 1


@settings(max_examples=150, deadline=None)
@given(_datasets(), _datasets())
def test_other_values_have_another_digest(one: Dataset, other: Dataset) -> None:
    for syntax in _NATIVE[:2]:
        same = _plain(one) == _plain(other)
        assert (_digest(one) == _digest(other, syntax)) == same


def _plain(dataset: Dataset) -> list[object]:
    """Return what the data set says, as Python values; an empty sequence is an empty value."""
    found: list[object] = []
    for element in dataset:
        if element.VR == "SQ":
            found.append((element.tag, [_plain(item) for item in element.value] or b""))
        else:
            alone = Dataset()
            alone[element.tag] = element
            value = _encoded(alone, ImplicitVRLittleEndian)[8:]
            known_text = not element.tag.is_private and element.VR in {"PN", "LO", "LT", "CS"}
            found.append((element.tag, value.rstrip(b" \0") if known_text else value))
    return found


def test_a_received_image_has_one_digest_in_every_syntax_that_is_taken() -> None:
    dataset = make_ct(SOPInstanceUID="1.2.3")
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    found = {parse(to_bytes(dataset, syntax), syntax).value_digest for syntax in syntaxes}
    assert len(found) == 1
    assert len(found.pop()) == 64


def _group_length(content: bytes) -> bytes:
    return b"\x08\x00\x00\x00UL\x04\x00\x2a\x00\x00\x00" + content


def _padding(content: bytes) -> bytes:
    return content + b"\xfc\xff\xfc\xffOB\x00\x00\x04\x00\x00\x00abcd"


def _zeros(content: bytes) -> bytes:
    return content + bytes(7)


def _padded_with_null(content: bytes) -> bytes:
    changed = content.replace(b"LO\x06\x004711  ", b"LO\x06\x004711\0\0")
    assert changed != content
    return changed


@pytest.mark.parametrize("change", [_group_length, _padding, _zeros, _padded_with_null])
def test_what_says_nothing_does_not_count(change: Callable[[bytes], bytes]) -> None:
    content = to_bytes(make_ct(SOPInstanceUID="1.2.3", PatientID="4711"))
    content = content.replace(b"LO\x04\x004711", b"LO\x06\x004711  ")
    assert value_digest(change(content), ExplicitVRLittleEndian) == value_digest(
        content, ExplicitVRLittleEndian
    )


@pytest.mark.parametrize("place", [0, 4095, -1])
def test_one_other_pixel_counts(place: int) -> None:
    dataset = make_ct(SOPInstanceUID="1.2.3")
    pixels = np.frombuffer(dataset.PixelData, np.int16).copy()
    pixels[place] += 1
    other = deepcopy(dataset)
    other.PixelData = pixels.tobytes()
    assert _digest(other) != _digest(dataset)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("RescaleIntercept", "-1023"),
        ("PatientName", "Other^One"),
        ("Rows", 32),
        ("PixelPaddingValue", 0),
        ("SliceThickness", ""),
    ],
)
def test_one_other_element_counts(keyword: str, value: object) -> None:
    dataset = make_ct(SOPInstanceUID="1.2.3")
    other = make_ct(SOPInstanceUID="1.2.3")
    setattr(other, keyword, value)
    assert _digest(other) != _digest(dataset)


def test_an_unknown_sequence_is_the_same_in_un_and_in_implicit_vr() -> None:
    """A writer that does not know a private sequence keeps it as UN (PS3.5 section 6.2.2)."""
    dataset = Dataset()
    dataset[0x00091001] = DataElement(0x00091001, "SQ", Sequence([make_ct(PixelData=None)]))
    inside = _encoded(dataset, ImplicitVRLittleEndian)[8:]
    as_un = b"\x09\x00\x01\x10UN\x00\x00" + len(inside).to_bytes(4, "little") + inside
    assert value_digest(as_un, ExplicitVRLittleEndian) == _digest(dataset)


def test_a_known_sequence_is_the_same_in_un() -> None:
    """Of a writer with an older dictionary."""
    dataset = Dataset()
    dataset.ReferencedImageSequence = [make_ct(PixelData=None)]
    inside = _encoded(dataset, ImplicitVRLittleEndian)[8:]
    as_un = b"\x08\x00\x40\x11UN\x00\x00" + len(inside).to_bytes(4, "little") + inside
    assert value_digest(as_un, ExplicitVRLittleEndian) == _digest(dataset)


def test_of_compressed_pixels_the_fragments_count_and_their_table_does_not() -> None:
    dataset = make_ct(SOPInstanceUID="1.2.3")

    def digest(stream: bytes, syntax: str = JPEGLossless, *, table: bool) -> str:
        dataset.PixelData = encapsulate([stream], has_bot=table)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        return value_digest(_encoded(dataset, syntax), syntax)

    kept = digest(b"stream", table=True)
    assert digest(b"stream", table=False) == kept
    assert digest(b"Stream", table=True) != kept
    assert digest(b"stream", JPEGLosslessSV1, table=True) != kept


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(_NATIVE))
def test_whatever_the_bytes_there_is_a_digest(content: bytes, syntax: str) -> None:
    assert len(value_digest(content, syntax)) == 64
