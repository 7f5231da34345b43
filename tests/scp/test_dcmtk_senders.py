"""dcmtk's SCUs, which nobody here wrote, send to the receiver on a real socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from scp.admission import Admission
from scp.ports import AssociationEnd
from scp.server import RunningScp

from .conftest import MemoryIntake, data_set_of, make_ct

pytestmark = [
    pytest.mark.dcmtk,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

_NEAR = 2
_ENCODERS: dict[str, list[str]] = {
    DeflatedExplicitVRLittleEndian: ["dcmconv", "+td"],
    RLELossless: ["dcmcrle"],
    JPEGLossless: ["dcmcjpeg", "+el"],
    JPEGLosslessSV1: ["dcmcjpeg", "+e1"],
    JPEGLSLossless: ["dcmcjpls", "+el"],
    JPEGLSNearLossless: ["dcmcjpls", "+en", "+md", str(_NEAR)],
}
"""Each of dcmtk's; beside them pydicom compresses JPEG 2000, which dcmtk cannot."""


def _run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TCP_NODELAY": "1"},
    )


def _send(node: RunningScp, *what: object, tool: str = "storescu", called: str = "RALES") -> str:
    """Send as SCANNER and return what the tool printed; it must have succeeded."""
    done = _run(tool, "-v", *what[:-1], *_address(node, called), what[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _address(node: RunningScp, called: str = "RALES") -> list[str]:
    return ["-aet", "SCANNER", "-aec", called, "127.0.0.1", str(node.port)]


def _write(path: Path, dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a Part 10 file, with its pixels encoded by the means at hand."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == JPEG2000Lossless:
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    if syntax in _ENCODERS:
        plain = path.rename(path.with_suffix(".plain"))
        keep_uid = ["+un"] if syntax == JPEGLSNearLossless else []
        done = _run(*_ENCODERS[syntax], *keep_uid, plain, path)
        assert done.returncode == 0, done.stderr
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    return path


def _inflated(content: bytes, syntax: str) -> bytes:
    deflated = syntax == DeflatedExplicitVRLittleEndian
    return zlib.decompress(content, wbits=-zlib.MAX_WBITS) if deflated else content


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, JPEG2000Lossless, *_ENCODERS],
    ids=lambda syntax: UID(syntax).name.replace(",", "")[:40],
)
def test_every_syntax_is_stored_as_sent_and_shows_the_same_image(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path, syntax: str
) -> None:
    truth = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) % 301
    dataset = make_ct(rows=64, columns=48, PixelRepresentation=0, PixelData=truth.tobytes())
    file = _write(tmp_path / "sent.dcm", dataset, syntax)
    _send(node, "-dn", file, tool="dcmsend")
    (instance,) = intake.instances
    assert instance.transfer_syntax_uid == syntax
    assert instance.calling_ae == "SCANNER"
    sent, kept = data_set_of(file), data_set_of(instance.path)
    assert _inflated(kept, syntax) == _inflated(sent, syntax)
    error = np.abs(pydicom.dcmread(instance.path).pixel_array.astype(int) - truth).max()
    assert error <= (_NEAR if syntax == JPEGLSNearLossless else 0)


@pytest.mark.parametrize(
    ("proposal", "syntax"),
    [
        (["-x="], ExplicitVRLittleEndian),
        (["-xi"], ImplicitVRLittleEndian),
        (["-xd", "+C"], ExplicitVRLittleEndian),
        (["-xb", "+C"], ExplicitVRLittleEndian),
    ],
    ids=["one context for each", "implicit alone", "deflated first", "big endian first"],
)
def test_of_what_a_sender_offers_uncompressed_little_endian_is_taken(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path, proposal: list[str], syntax: str
) -> None:
    file = _write(tmp_path / "sent.dcm", make_ct())
    _send(node, *proposal, file)
    (instance,) = intake.instances
    assert instance.transfer_syntax_uid == syntax
    assert pydicom.dcmread(instance.path) == pydicom.dcmread(file)


def test_an_echo_is_answered_without_a_trace_in_the_record(
    node: RunningScp, intake: MemoryIntake
) -> None:
    assert _run("echoscu", *_address(node)).returncode == 0
    assert intake.instances == []
    assert intake.ends == []


def test_a_series_over_four_associations_at_once_ends_once_with_the_last(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path
) -> None:
    for number in range(40):
        folder = tmp_path / f"part-{number % 4}"
        folder.mkdir(exist_ok=True)
        _write(folder / f"{number}.dcm", make_ct(number=number))
    senders = [
        subprocess.Popen(
            ["storescu", *_address(node), "+sd", str(tmp_path / f"part-{part}")],
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        for part in range(4)
    ]
    assert [one.wait(timeout=60) for one in senders] == [0, 0, 0, 0]
    intake.wait_for(lambda: bool(intake.ends))
    series = frozenset(one.series_uid for one in intake.instances)
    sent = {
        pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID: data_set_of(path)
        for path in tmp_path.glob("part-*/*.dcm")
    }
    kept = {one.sop_instance_uid: data_set_of(one.path) for one in intake.instances}
    assert len(kept) == len(intake.instances) == 40
    assert kept == sent
    ends = [end for end in intake.ends if end[0]]
    assert ends[-1] == (series, "SCANNER", AssociationEnd.RELEASED)


def test_a_resent_file_is_a_success_that_changes_nothing(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path
) -> None:
    file = _write(tmp_path / "sent.dcm", make_ct())
    printed = _send(node, "--repeat", "3", file)
    assert printed.count("Received Store Response (Success)") == 3
    assert len(intake.instances) == 1
    assert len(list((tmp_path / "spool").rglob("*.dcm"))) == 1


def test_an_abort_after_the_last_image_is_told_as_an_abort(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path
) -> None:
    _send(node, "--abort", _write(tmp_path / "sent.dcm", make_ct()))
    intake.wait_for(lambda: bool(intake.ends))
    (instance,) = intake.instances
    assert intake.ends == [(frozenset([instance.series_uid]), "SCANNER", AssociationEnd.ABORTED)]


@pytest.mark.parametrize("tool", ["echoscu", "storescu"])
def test_a_wrong_called_ae_title_is_rejected(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path, tool: str
) -> None:
    what = [_write(tmp_path / "sent.dcm", make_ct())] if tool == "storescu" else []
    done = _run(tool, *_address(node, called="ELSEWHERE"), *what)
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr
    assert intake.instances == []
    assert _run("echoscu", *_address(node)).returncode == 0


def test_only_the_calling_ae_titles_of_the_list_are_let_in(
    serve: Callable[..., RunningScp], intake: MemoryIntake, tmp_path: Path
) -> None:
    node = serve(admission=Admission(callers={"SCANNER": ()}))
    file = _write(tmp_path / "sent.dcm", make_ct())
    stranger = ["-aet", "STRANGER", "-aec", "RALES", "127.0.0.1", str(node.port)]
    done = _run("storescu", *stranger, file)
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stdout + done.stderr
    assert intake.instances == []
    _send(node, file)
    assert len(intake.instances) == 1


def test_what_is_no_ct_finds_no_presentation_context(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path
) -> None:
    capture = _write(tmp_path / "capture.dcm", make_ct(SOPClassUID=SecondaryCaptureImageStorage))
    done = _run("storescu", "-R", *_address(node), capture)
    assert done.returncode != 0
    assert "No Acceptable Presentation Contexts" in done.stdout + done.stderr
    _send(node, _write(tmp_path / "sent.dcm", make_ct()))
    assert len(intake.instances) == 1


def test_a_refused_object_does_not_keep_the_next_ones_out(
    node: RunningScp, intake: MemoryIntake, tmp_path: Path
) -> None:
    """A middle file without a series: its sender is told, goes on (``-nh``) and is heard."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(3):
        dataset = make_ct(number=number)
        if number == 1:
            del dataset.SeriesInstanceUID
        _write(folder / f"{number}.dcm", dataset)
    done = _run("storescu", "-v", "-nh", *_address(node), "+sd", folder)
    printed = done.stdout + done.stderr
    assert printed.count("Received Store Response (Success)") == 2
    assert "CannotUnderstand" in printed or "0xc000" in printed.lower()
    assert len(intake.instances) == 2
