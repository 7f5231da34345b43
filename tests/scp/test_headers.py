"""What the receiver reads of a data set, also when somebody has damaged it."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hostile_amplifiers import (
    backslashes,
    deflated,
    empty_items,
    flat,
    fragments,
    large,
    small_sequences,
)
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from chestct.errors import NotDicom
from chestct.jpeg import jpeg_frame
from scp import headers, inflate
from scp.contexts import TRANSFER_SYNTAXES
from scp.spool import Spool

from .conftest import make_ct, to_bytes

EXPLICIT = to_bytes(make_ct(rows=4, columns=4))
IMPLICIT = to_bytes(make_ct(rows=4, columns=4), ImplicitVRLittleEndian)


def _long_element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH", group, number) + vr + struct.pack("<HL", 0, len(value)) + value


def _element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    padded = value + b" " * (len(value) % 2)
    return struct.pack("<HH", group, number) + vr + struct.pack("<H", len(padded)) + padded


def _with(group: int, number: int, vr: bytes, value: bytes, *, before: tuple[int, int]) -> bytes:
    """Return a data set with one raw element more, in its place."""
    place = EXPLICIT.index(struct.pack("<HH", *before))
    return EXPLICIT[:place] + _element(group, number, vr, value) + EXPLICIT[place:]


def _parse(content: bytes, syntax: str = ExplicitVRLittleEndian) -> headers.Header:
    return headers.parse(content, syntax)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"120", 120),
        (b"+7", 7),
        (b"0", None),
        (b"-3", None),
        (b"", None),
        (b"many", None),
        (b"3\\4", None),
        (b"2147483647", 2147483647),
        (b"2147483648", None),
        (b"9" * 20, None),
        (b"9" * 6000, None),
    ],
)
def test_a_strange_count_keeps_no_image_out(value: bytes, expected: int | None) -> None:
    content = _with(0x0020, 0x1209, b"IS", value, before=(0x0028, 0x0002))
    assert _parse(content).expected_instances == expected


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (b"1\\2\\-30.5", -30.5),
        (b"1\\2\\ 3e1 ", 30.0),
        (b"1\\2", None),
        (b"nan\\0\\0", None),
        (b"0\\0\\inf", None),
        (b"0\\0\\1e999", None),
        (b"0\\0\\1_0", None),
        (b"\xe9\\0\\0", None),
        (b"", None),
    ],
)
def test_only_a_proper_position_counts(position: bytes, expected: float | None) -> None:
    start = EXPLICIT.index(struct.pack("<HH", 0x0020, 0x0032))
    end = EXPLICIT.index(struct.pack("<HH", 0x0020, 0x0037))
    content = EXPLICIT[:start] + _element(0x20, 0x32, b"DS", position) + EXPLICIT[end:]
    assert _parse(content).slice_position == expected


def test_the_position_is_along_the_normal_of_the_slice() -> None:
    sagittal = make_ct(ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=[7, 8, 9])
    assert _parse(to_bytes(sagittal)).slice_position == -7


def test_a_patient_is_the_same_in_every_transfer_syntax_and_only_the_same() -> None:
    explicit, implicit = _parse(EXPLICIT), _parse(IMPLICIT, ImplicitVRLittleEndian)
    assert explicit.patient_key == implicit.patient_key
    others = [
        make_ct(PatientID="4712"),
        make_ct(PatientName="Müller^Jürg"),
        make_ct(IssuerOfPatientID="elsewhere"),
        make_ct(PatientID="", PatientName="4711"),
        make_ct(PatientID=None),
    ]
    keys = {_parse(to_bytes(other)).patient_key for other in others}
    assert len(keys) == len(others)
    assert explicit.patient_key not in keys


@pytest.mark.parametrize("content", [EXPLICIT, IMPLICIT])
def test_every_cut_is_seen(content: bytes) -> None:
    syntax = ExplicitVRLittleEndian if content is EXPLICIT else ImplicitVRLittleEndian
    for length in range(len(content)):
        with pytest.raises(NotDicom):
            headers.parse(content[:length], syntax)


def test_every_cut_of_compressed_pixels_is_seen() -> None:
    dataset = make_ct(rows=4, columns=4)
    dataset.PixelData = encapsulate([struct.pack("<16L", 1, 64, *[0] * 14) + bytes(40)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    content = to_bytes(dataset, RLELossless)
    assert _parse(content, RLELossless).slice_position == 2.5
    for length in range(len(content)):
        with pytest.raises(NotDicom):
            headers.parse(content[:length], RLELossless)


_TRAILERS = {
    "padding": _long_element(0xFFFC, 0xFFFC, b"OB", bytes(20)),
    "a sequence": b"\xfa\xff\xfa\xffSQ\0\0\xff\xff\xff\xff"
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    + _element(0x0400, 0x0005, b"US", b"\x01\x00")
    + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0",
}


@pytest.mark.parametrize("name", _TRAILERS)
def test_a_cut_behind_the_pixels_is_seen(name: str) -> None:
    content = EXPLICIT + _TRAILERS[name]
    assert _parse(content).slice_position == 2.5
    for length in range(len(EXPLICIT) + 1, len(content)):
        with pytest.raises(NotDicom):
            headers.parse(content[:length], ExplicitVRLittleEndian)


@pytest.mark.parametrize("count", [1, 7, 8, 100])
def test_zeros_behind_the_data_set_keep_no_image_out(count: int) -> None:
    assert _parse(EXPLICIT + bytes(count)) == _parse(EXPLICIT)


def test_what_hides_behind_an_item_delimiter_is_not_taken() -> None:
    """There, pydicom stops as if the data set had ended."""
    with pytest.raises(NotDicom, match="followed by more"):
        headers.parse(EXPLICIT + b"\xfe\xff\x0d\xe0\0\0\0\0" + EXPLICIT, ExplicitVRLittleEndian)


def _jpeg(marker: int) -> bytes:
    """Return the start of a JPEG stream with a comment before its frame."""
    return b"\xff\xd8\xff\xfe\x00\x04hi\xff" + bytes([marker]) + b"\x00\x0b" + bytes(40)


@pytest.mark.parametrize(
    ("syntax", "marker", "taken"),
    [
        (JPEGLossless, 0xC3, True),
        (JPEGLosslessSV1, 0xC3, True),
        (JPEGLosslessSV1, 0xC1, False),
        (JPEGLosslessSV1, 0xF7, False),
        (JPEGLSLossless, 0xF7, True),
        (JPEGLSNearLossless, 0xF7, True),
        (JPEGLSLossless, 0xC3, False),
    ],
)
def test_a_jpeg_of_another_process_is_a_lie(syntax: str, marker: int, *, taken: bool) -> None:
    dataset = make_ct(rows=4, columns=4)
    dataset.PixelData = encapsulate([_jpeg(marker)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    content = to_bytes(dataset, syntax)
    if taken:
        assert _parse(content, syntax).slice_position == 2.5
    else:
        with pytest.raises(NotDicom, match="does not hold"):
            headers.parse(content, syntax)


@given(st.binary(max_size=80))
def test_a_damaged_jpeg_stream_is_searched_to_an_end(noise: bytes) -> None:
    frame = jpeg_frame(b"\xff\xd8" + noise)
    assert frame is None or frame.marker in {*range(0xC0, 0xD0), 0xF7}


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflate, "_IN_MEMORY", 1 << 20)
    fair = zlib.compress(EXPLICIT, wbits=-15)
    assert _parse(fair, DeflatedExplicitVRLittleEndian).slice_position == 2.5
    bomb = zlib.compress(EXPLICIT + bytes(20 << 20), wbits=-15)
    with pytest.raises(NotDicom, match="more than"):
        headers.parse(bomb, DeflatedExplicitVRLittleEndian)


_TOO_COSTLY = {
    "elements": (lambda: flat(1 << 17), ExplicitVRLittleEndian),
    "elements, implicit": (lambda: flat(1 << 17, implicit=True), ImplicitVRLittleEndian),
    "elements, deflated": (lambda: deflated(flat(1 << 17)), DeflatedExplicitVRLittleEndian),
    "items": (lambda: empty_items(1 << 17), ExplicitVRLittleEndian),
    "sequences": (lambda: small_sequences(1 << 15), ExplicitVRLittleEndian),
    "fragments": (lambda: fragments(1 << 17), RLELossless),
    "values": (lambda: backslashes(1 << 20), ImplicitVRLittleEndian),
}


@pytest.mark.parametrize("kind", _TOO_COSTLY)
def test_to_refuse_what_would_cost_much_costs_little(kind: str) -> None:
    make, syntax = _TOO_COSTLY[kind]
    content = make()
    tracemalloc.start()
    try:
        with pytest.raises(NotDicom, match=r"more than 65536 elements|the maximum is 65534"):
            headers.parse(content, syntax)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000


def test_pixels_are_not_copied() -> None:
    content = large(16 << 20)
    tracemalloc.start()
    try:
        headers.parse(content, ExplicitVRLittleEndian)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@given(
    st.sampled_from([(EXPLICIT, ExplicitVRLittleEndian), (IMPLICIT, ImplicitVRLittleEndian)]),
    st.lists(st.tuples(st.integers(0, len(IMPLICIT) - 1), st.integers(0, 255)), max_size=12),
    st.integers(0, 40),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_data_set_is_refused_or_read_but_never_anything_else(
    whole: tuple[bytes, str], changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(whole[0])
    for place, value in changes:
        content[place] = value
    damaged = bytes(content[: len(content) - cut])
    with suppress(NotDicom):
        header = _parse(damaged, whole[1])
        assert header.expected_instances is None or header.expected_instances > 0
        assert len(header.patient_key) == 64


@given(st.binary(max_size=300), st.sampled_from(TRANSFER_SYNTAXES))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_noise_is_refused_in_every_transfer_syntax(noise: bytes, syntax: str) -> None:
    with pytest.raises(NotDicom):
        headers.parse(noise, syntax)


@pytest.mark.parametrize(("total", "expected"), [(None, None), (0, None), (3, 3)])
def test_the_parts_of_a_concatenation_are_announced(
    total: int | None, expected: int | None
) -> None:
    dataset = make_ct()
    if total is not None:
        dataset.InConcatenationTotalNumber = total
    assert _parse(to_bytes(dataset)).expected_instances == expected


def _with_uid(value: bytes) -> bytes:
    start = EXPLICIT.index(struct.pack("<HH", 0x0008, 0x0018))
    (length,) = struct.unpack_from("<H", EXPLICIT, start + 6)
    after = EXPLICIT[start + 8 + length :]
    return EXPLICIT[:start] + _element(0x0008, 0x0018, b"UI", value) + after


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_with_uid(b""), "SOPInstanceUID is missing"),
        (_with_uid(b"1." * 34 + b"12"), "no UID of 1-64 digits and dots: 70 long"),
        (_with_uid(b"1.2.3DOE^JOHN"), "no UID of 1-64 digits and dots: wrong at 6"),
        (
            _with_uid(b"1.2.3").replace(b"\x08\x00\x18\x00UI", b"\x08\x00\x18\x00LO"),
            "SOPInstanceUID has the VR LO, not UI",
        ),
        (EXPLICIT[:-20], f"an element ends beyond its {len(EXPLICIT) - 20} bytes"),
        (EXPLICIT + b"more", f"at byte {len(EXPLICIT)} of {len(EXPLICIT) + 4}"),
        (to_bytes(make_ct(rows=4, columns=0)), "Columns is missing or 0"),
    ],
)
def test_a_refusal_says_where_and_what_the_limit_is(content: bytes, said: str) -> None:
    with pytest.raises(NotDicom) as refused:
        _parse(content)
    assert said in str(refused.value)
    assert "DOE" not in str(refused.value)


@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_what_is_large_is_inflated_in_a_file_and_reads_the_same(
    tmp_path: Path, padding: bytes
) -> None:
    """Noise of 18 MB, which deflates to about as much; 16 MiB are inflated in memory."""
    dataset = make_ct(rows=3000, columns=3000)
    noise = np.random.default_rng(1).integers(0, 1 << 16, 3000 * 3000, dtype=np.uint16)
    dataset.PixelData = noise.tobytes()
    plain = to_bytes(dataset)
    deflated = zlib.compress(plain, wbits=-15) + padding
    spool = Spool(tmp_path)
    whole = headers.parse(plain, ExplicitVRLittleEndian)
    in_a_file = headers.read(deflated, DeflatedExplicitVRLittleEndian, scratch=spool)
    assert in_a_file.value_digest() == whole.value_digest
    assert replace(in_a_file.header, value_digest=whole.value_digest) == whole
    del in_a_file
    assert headers.parse(deflated, DeflatedExplicitVRLittleEndian) == whole
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(NotDicom, match="deflated data set is cut off"):
        headers.read(deflated[:-1000], DeflatedExplicitVRLittleEndian, scratch=spool)
