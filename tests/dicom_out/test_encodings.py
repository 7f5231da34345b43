"""What goes on the line says, byte for byte, what was verified."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_out.encodings import NotEncoded, data_set_of, in_syntax

_TEXTS = st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="\\"))


def _element(keyword: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, Any]]:
    return values.map(lambda value: (keyword, value))


def _of(elements: list[tuple[str, Any]]) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements:
        setattr(dataset, keyword, value)
    return dataset


_LEAVES = st.lists(
    _element("PatientComments", _TEXTS)
    | _element("Rows", st.integers(0, 65535))
    | _element("FloatPixelData", st.binary(min_size=1, max_size=3).map(lambda one: one * 4))
    | _element("TextValue", _TEXTS)
    | _element("ImagePositionPatient", st.lists(st.integers(-9999, 9999), min_size=3, max_size=3))
).map(_of)


def _nested(children: st.SearchStrategy[Dataset]) -> st.SearchStrategy[Dataset]:
    def put(pair: tuple[Dataset, list[Dataset]]) -> Dataset:
        dataset = Dataset()
        dataset.update(pair[0])
        dataset.ContentSequence = pair[1]
        return dataset

    return st.tuples(_LEAVES, st.lists(children, max_size=3)).map(put)


DATA_SETS = st.recursive(_LEAVES, _nested, max_leaves=8)


def explicit(dataset: Dataset, *, undefined: bool = False) -> bytes:
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def raw(dataset: Dataset) -> list[Any]:
    """Return tags and undecoded values, items within."""
    found: list[Any] = []
    for tag in sorted(dataset.keys()):
        if dictionary_VR(tag) == "SQ":
            found.append((tag, [raw(item) for item in dataset[tag].value]))
        else:
            found.append((tag, dataset.get_item(tag).value or b""))
    return found


@pytest.mark.parametrize("undefined", [False, True])
@given(dataset=DATA_SETS)
def test_implicit_vr_says_to_pydicom_what_explicit_vr_says(
    dataset: Dataset, *, undefined: bool
) -> None:
    encoded = explicit(dataset, undefined=undefined)
    converted = in_syntax(encoded, ImplicitVRLittleEndian)
    before = read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True)
    after = read_dataset(BytesIO(converted), is_implicit_VR=True, is_little_endian=True)
    assert raw(after) == raw(before)


@given(DATA_SETS)
def test_deflated_inflates_to_the_same_bytes(dataset: Dataset) -> None:
    encoded = explicit(dataset)
    deflated = in_syntax(encoded, DeflatedExplicitVRLittleEndian)
    assert len(deflated) % 2 == 0
    assert zlib.decompress(deflated, -zlib.MAX_WBITS) == encoded


@given(DATA_SETS, st.data())
def test_what_is_cut_off_is_not_sent(dataset: Dataset, data: st.DataObject) -> None:
    encoded = explicit(dataset, undefined=True)
    cut = encoded[: data.draw(st.integers(0, len(encoded)))]
    whole = raw(read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True))
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        try:
            in_syntax(cut, syntax)
        except NotEncoded:
            continue
        # Only between two elements of the data set itself can nobody see it.
        left = raw(read_dataset(BytesIO(cut), is_implicit_VR=False, is_little_endian=True))
        assert left == whole[: len(left)]


@given(st.binary(max_size=200))
def test_any_bytes_bring_one_error_only(content: bytes) -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless):
        with pytest.raises(NotEncoded):
            in_syntax(b"\x08\x00\x05\x00??" + content, syntax)
    with pytest.raises(NotEncoded):
        data_set_of(content)
