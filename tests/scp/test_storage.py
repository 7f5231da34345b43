"""A C-STORE on a real socket: what is answered, what is durable, and what is refused."""

from __future__ import annotations

import errno
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import (
    JPEG2000LosslessEncoder,
    JPEGLSLosslessEncoder,
    RLELosslessEncoder,
)
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from chestct.errors import OutOfResources
from scp import spool as spool_module
from scp.durable import fsync_keeps_names
from scp.server import RunningScp

from .conftest import MemoryIntake, Scu, data_set_of, make_ct, store, to_bytes

_VERIFICATION = "1.2.840.10008.1.1"
_META_ELEMENT = b"\x02\x00\x10\x00UI\x16\x00" + JPEGLSLossless.encode()

strange_uids = pytest.mark.filterwarnings(
    "ignore:Invalid value for VR UI", "ignore:The value length"
)
"""pydicom warns of them, in the SCU that sends and in the SCP that looks."""


def _files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_an_accepted_data_set_is_durable_byte_for_byte(
    node: RunningScp, intake: MemoryIntake, syntax: str
) -> None:
    dataset = make_ct(NumberOfSeriesRelatedInstances="40")
    assert store(node, dataset, syntax).Status == 0x0000
    (instance,) = intake.instances
    assert data_set_of(instance.path) == to_bytes(dataset, syntax)
    reread = pydicom.dcmread(instance.path)
    assert reread == dataset
    assert reread.file_meta.TransferSyntaxUID == syntax
    assert reread.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert instance.transfer_syntax_uid == syntax
    assert instance.calling_ae == "SCANNER"
    assert instance.slice_position == 2.5
    assert instance.expected_instances == 40
    assert instance.size == instance.path.stat().st_size


def _compressed(codestream: bytes, syntax: str) -> Dataset:
    dataset = make_ct()
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _encoded(encoder: object) -> bytes:
    dataset = make_ct()
    described = {
        "rows": 64,
        "columns": 64,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "bits_allocated": 16,
        "bits_stored": 16,
        "pixel_representation": 1,
        "photometric_interpretation": "MONOCHROME2",
    }
    return bytes(encoder.encode(dataset.PixelData, **described))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("syntax", "encoder"),
    [
        (RLELossless, RLELosslessEncoder),
        (JPEGLSLossless, JPEGLSLosslessEncoder),
        (JPEG2000Lossless, JPEG2000LosslessEncoder),
    ],
)
def test_compressed_pixels_arrive_as_they_were_sent(
    node: RunningScp, intake: MemoryIntake, syntax: str, encoder: object
) -> None:
    dataset = _compressed(_encoded(encoder), syntax)
    assert store(node, dataset, syntax).Status == 0x0000
    (instance,) = intake.instances
    assert data_set_of(instance.path) == to_bytes(dataset, syntax)
    pixels = pydicom.dcmread(instance.path).pixel_array
    assert pixels.tobytes() == make_ct().PixelData


@pytest.mark.parametrize(
    ("syntax", "start"),
    [
        (JPEGLosslessSV1, b"\xff\xd8\xff\xc3"),
        (JPEGLSNearLossless, b"\xff\xd8\xff\xf7"),
        (JPEG2000, b"\xff\x4f\xff\x51"),
        (HTJ2KLossless, b"\xff\x4f\xff\x51"),
        (HTJ2KLosslessRPCL, b"\xff\x4f\xff\x51"),
        (HTJ2K, b"\xff\x4f\xff\x51"),
    ],
)
def test_the_other_compressed_syntaxes_are_taken(
    node: RunningScp, intake: MemoryIntake, syntax: str, start: bytes
) -> None:
    # No encoder is at hand; the receiver looks at how a codestream starts, not further.
    dataset = _compressed(start + bytes(60), syntax)
    assert store(node, dataset, syntax).Status == 0x0000
    assert intake.instances[0].transfer_syntax_uid == syntax


@pytest.mark.parametrize(
    "sop_class", [EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage]
)
def test_multiframe_ct_is_taken_when_all_frames_are_there(node: RunningScp, sop_class: str) -> None:
    whole = make_ct(SOPClassUID=sop_class, NumberOfFrames="2", PixelData=bytes(16384))
    assert store(node, whole).Status == 0x0000
    half = make_ct(SOPClassUID=sop_class, NumberOfFrames="2")
    assert store(node, half).Status == 0xC000


def test_contexts_of_other_classes_and_of_big_endian_are_not_accepted(node: RunningScp) -> None:
    with Scu(node.port, sop_class=SecondaryCaptureImageStorage) as scu:
        assert not scu.accepted
    with Scu(node.port, syntax=ExplicitVRBigEndian) as scu:
        assert not scu.accepted


_DATASET = make_ct()
_CONTENT = to_bytes(_DATASET)
_UID = str(_DATASET.SOPInstanceUID)

_REFUSED: dict[str, tuple[int, str, str, str, str | None, bytes]] = {
    # name: status, word of the reason, transfer syntax, SOP class and instance, content
    "garbage": (0xC000, "", ExplicitVRLittleEndian, CTImageStorage, _UID, b"\x93\x07" * 999),
    "nothing": (0xC000, "empty", ExplicitVRLittleEndian, CTImageStorage, _UID, b""),
    "a whole Part 10 file": (
        *(
            0xC000,
            "starts with File Meta Information",
            ImplicitVRLittleEndian,
            CTImageStorage,
            _UID,
        ),
        bytes(128) + b"DICM" + _CONTENT,
    ),
    "another transfer syntax in a file meta of its own": (
        *(
            0xC000,
            "starts with File Meta Information",
            ExplicitVRLittleEndian,
            CTImageStorage,
            _UID,
        ),
        _META_ELEMENT + _CONTENT,
    ),
    "explicit as implicit": (
        *(0xC000, "not encoded", ImplicitVRLittleEndian, CTImageStorage, _UID),
        _CONTENT,
    ),
    "implicit as explicit": (
        *(0xC000, "not encoded", ExplicitVRLittleEndian, CTImageStorage, _UID),
        to_bytes(_DATASET, ImplicitVRLittleEndian),
    ),
    "implicit inside deflated": (
        *(0xC000, "not encoded", DeflatedExplicitVRLittleEndian, CTImageStorage, _UID),
        zlib.compress(to_bytes(_DATASET, ImplicitVRLittleEndian), wbits=-15),
    ),
    "not deflated": (
        *(0xC000, "Deflated", DeflatedExplicitVRLittleEndian, CTImageStorage, _UID),
        _CONTENT,
    ),
    "deflated, cut off": (
        *(0xC000, "cut off", DeflatedExplicitVRLittleEndian, CTImageStorage, _UID),
        zlib.compress(_CONTENT, wbits=-15)[:-9],
    ),
    "native as JPEG-LS": (
        *(0xC000, "JPEG-LS", JPEGLSLossless, CTImageStorage, _UID),
        _CONTENT,
    ),
    "JPEG as JPEG 2000": (
        *(0xC000, "JPEG 2000", JPEG2000Lossless, CTImageStorage, None),
        to_bytes(_compressed(b"\xff\xd8\xff\xf7" + bytes(60), JPEG2000Lossless), JPEG2000Lossless),
    ),
    "one byte of the pixels is missing": (
        *(0xC000, "cut off", ExplicitVRLittleEndian, CTImageStorage, _UID),
        _CONTENT[:-1],
    ),
    "half of the header is missing": (
        *(0xC000, "cut off", ExplicitVRLittleEndian, CTImageStorage, _UID),
        _CONTENT[:150],
    ),
    "no pixels": (
        *(0xC000, "Pixel Data", ExplicitVRLittleEndian, CTImageStorage, None),
        to_bytes(make_ct(PixelData=None)),
    ),
    "no series": (
        *(0xC000, "SeriesInstanceUID", ExplicitVRLittleEndian, CTImageStorage, None),
        to_bytes(make_ct(SeriesInstanceUID=None)),
    ),
    "no study": (
        *(0xC000, "StudyInstanceUID", ExplicitVRLittleEndian, CTImageStorage, None),
        to_bytes(make_ct(StudyInstanceUID="")),
    ),
    "another class inside": (
        *(0xA900, "SOP Class", ExplicitVRLittleEndian, CTImageStorage, None),
        to_bytes(make_ct(SOPClassUID=SecondaryCaptureImageStorage)),
    ),
    "another instance inside": (
        *(0xA900, "SOP Instance", ExplicitVRLittleEndian, CTImageStorage, "1.2.3"),
        _CONTENT,
    ),
    "another class in the request": (
        *(0x0122, "Secondary", ExplicitVRLittleEndian, SecondaryCaptureImageStorage, _UID),
        _CONTENT,
    ),
    "an empty instance UID": (
        *(0xC000, "missing", ExplicitVRLittleEndian, CTImageStorage, ""),
        _CONTENT,
    ),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_what_cannot_be_taken_is_refused_with_its_reason_and_not_kept(
    node: RunningScp,
    intake: MemoryIntake,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    case: str,
) -> None:
    status, reason, syntax, sop_class, sop_instance, content = _REFUSED[case]
    if sop_instance is None:
        sop_instance = str(_uid_inside(content, syntax))
    with caplog.at_level(logging.WARNING, "scp"), Scu(node.port, syntax=syntax) as scu:
        answer = scu.store(content, sop_class=sop_class, sop_instance=sop_instance)
    assert answer.Status == status
    assert reason in answer.ErrorComment
    assert len(answer.ErrorComment) <= 64
    (line,) = caplog.messages
    assert f"refused 0x{status:04X}" in line
    assert reason in line
    assert "4711" not in caplog.text
    assert intake.instances == []
    assert _files(tmp_path) == []
    assert store(node, make_ct()).Status == 0x0000, "the node no longer serves"


def _uid_inside(content: bytes, syntax: str) -> str:
    implicit = syntax == ImplicitVRLittleEndian
    place = content.index(struct.pack("<HH", 0x0008, 0x0018)) + (8 if implicit else 6)
    length = struct.unpack("<H", content[place : place + 2])[0]
    return content[place + 2 : place + 2 + length].rstrip(b"\0").decode()


@strange_uids
@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("uid", ["../../escaped", "/etc/passwd", "..", "1.2/3", "1.2\n3"])
def test_no_path_is_made_from_a_uid(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path, keyword: str, uid: str
) -> None:
    dataset = make_ct(**{keyword: uid})
    before = set(tmp_path.rglob("*"))
    assert store(node, dataset).Status == 0xC000
    assert set(tmp_path.rglob("*")) == before
    assert intake.instances == []


@strange_uids
@pytest.mark.parametrize(
    "uid", ["1.2.392.200036.9116.2.5.1.48.0048", "1.02.3", "1..2", "1.2.", "7"]
)
def test_a_uid_that_is_not_well_formed_names_its_object_all_the_same(
    node: RunningScp, intake: MemoryIntake, uid: str
) -> None:
    """Scanners write such UIDs; the syntax for UIDs that are written is no gate for others."""
    dataset = make_ct(SOPInstanceUID=uid, SeriesInstanceUID=uid, StudyInstanceUID=uid)
    assert store(node, dataset).Status == 0x0000
    (instance,) = intake.instances
    assert (instance.sop_instance_uid, instance.series_uid, instance.study_uid) == (uid, uid, uid)
    reread = pydicom.dcmread(instance.path)
    assert reread.file_meta.MediaStorageSOPInstanceUID == reread.SOPInstanceUID == uid


@strange_uids
@pytest.mark.parametrize(
    ("sop_class", "sop_instance"),
    [(CTImageStorage, "1." + "2" * 80), ("", "1.2.3"), ("1.2.3.4.5.6", "1.2.3")],
)
def test_a_request_that_has_no_proper_answer_ends_the_association_at_once(
    node: RunningScp,
    intake: MemoryIntake,
    caplog: pytest.LogCaptureFixture,
    sop_class: str,
    sop_instance: str,
) -> None:
    with (
        caplog.at_level(logging.WARNING, "scp"),
        Scu(node.port) as scu,
        pytest.raises(ConnectionAbortedError, match="type 7"),
    ):
        scu.store(_CONTENT, sop_class=sop_class, sop_instance=sop_instance)
    assert any("aborted" in line for line in caplog.messages)
    assert intake.instances == []
    assert store(node, make_ct()).Status == 0x0000


def test_a_request_without_instance_uid_is_answered(node: RunningScp) -> None:
    with Scu(node.port) as scu:
        assert scu.store(_CONTENT, sop_instance=None).Status == 0xC000


def test_a_c_store_is_never_answered_as_if_it_were_an_echo(
    node: RunningScp, intake: MemoryIntake
) -> None:
    with Scu(node.port) as scu:
        answer = scu.store(_CONTENT, sop_class=_VERIFICATION, sop_instance=_UID)
    assert answer.Status == 0x0122
    assert intake.instances == []


def test_the_same_instance_again_makes_no_second_file(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path
) -> None:
    for _ in range(2):
        assert store(node, _DATASET).Status == 0x0000
    assert len(_files(tmp_path)) == len(intake.instances) == 1


def test_other_content_under_the_same_uid_is_kept_beside_the_first_and_logged(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_ct(SOPInstanceUID=_UID, PatientID="0815")
    with caplog.at_level(logging.WARNING, "scp"):
        assert store(node, _DATASET).Status == 0x0000
        assert store(node, other).Status == 0x0000
    assert [data_set_of(one.path) for one in intake.instances] == [_CONTENT, to_bytes(other)]
    assert len(_files(tmp_path)) == 2
    assert intake.instances[0].patient_key != intake.instances[1].patient_key
    lines = [line for line in caplog.messages if "other content" in line]
    assert len(lines) == 1
    assert not [line for line in caplog.messages if "0815" in line]


@pytest.mark.parametrize(
    "failing", [("write", errno.ENOSPC), ("fsync", errno.EIO), ("open", errno.EMFILE)]
)
def test_what_cannot_be_made_durable_is_refused_and_taken_later(
    node: RunningScp,
    intake: MemoryIntake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: tuple[str, int],
) -> None:
    call, code = failing

    def fail(*_: object, **__: object) -> int:
        raise OSError(code, "made to fail")

    with Scu(node.port) as scu, monkeypatch.context() as patch:
        patch.setattr(spool_module.os, call, fail)
        answer = scu.store(_CONTENT, sop_instance=_UID)
    assert answer.Status == 0xA700
    assert "made to fail" in answer.ErrorComment
    assert _files(tmp_path) == []
    assert intake.instances == []
    assert store(node, _DATASET).Status == 0x0000
    assert data_set_of(intake.instances[0].path) == _CONTENT


@pytest.mark.parametrize(
    ("error", "status", "comment"),
    [
        (OutOfResources("the state file is full"), 0xA700, "the state file is full"),
        (RuntimeError("patient Müller"), 0x0110, "internal error"),
        (MemoryError(), 0x0110, "internal error"),
    ],
)
def test_an_intake_that_fails_is_never_answered_as_success(
    node: RunningScp, intake: MemoryIntake, error: Exception, status: int, comment: str
) -> None:
    intake.error = error
    answer = store(node, _DATASET)
    assert (answer.Status, answer.ErrorComment) == (status, comment)
    intake.error = None
    assert store(node, _DATASET).Status == 0x0000
    assert len(intake.instances) == 1


def test_the_bytes_are_durable_before_they_are_recorded_and_recorded_before_the_answer(
    serve: Callable[..., RunningScp],
    intake: MemoryIntake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    real = spool_module.os.fsync
    monkeypatch.setattr(
        spool_module.os, "fsync", lambda handle: (seen.append("fsync"), real(handle))[1]
    )
    record = intake.record
    intake.record = lambda instance: (seen.append("record"), record(instance))[1]  # type: ignore[method-assign]
    assert store(serve(), _DATASET).Status == 0x0000
    # Of a new file; where that does not keep its name, also the new folder's entry and its own.
    assert seen == [*["fsync"] * (1 if fsync_keeps_names(tmp_path) else 3), "record"]
