"""Whatever is wrong with one file of ``rales analyze`` costs that file one line."""

from __future__ import annotations

import os
import socket
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner
from ct_series import ct_slice, stored_values
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pynetdicom.dsutils import encode

from rales.cli import cli
from rales.cli.inputs import input_files, scan_inputs


def make_ct(number: int = 1) -> Dataset:
    dataset = ct_slice(number, stored_values(1)[0] + number)
    dataset.file_meta = FileMetaDataset()
    return dataset


def to_bytes(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    content = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian)
    assert content is not None
    return bytes(content)


def part10(number: int = 1, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    dataset = make_ct(number)
    buffer = BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(
        buffer,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    return buffer.getvalue()


def looked_at(*inputs: Path) -> tuple[int, dict[str, str]]:
    """Return how many images are found, and what is said of the others by their names."""
    with input_files(list(inputs)) as files:
        found = scan_inputs(files)
        said = dict(files.skipped) | {files.name_of(path): why for path, why in found.skipped}
    images = sum(len(series.instances) for series in found.series)
    return images, {name.rpartition("/")[2]: why for name, why in said.items()}


def nested(levels: int) -> bytes:
    """Return a data set with sequences in sequences of undefined length."""
    opened = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    opened += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return to_bytes(make_ct())[:-2732] + opened * levels


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


META = part10()[: part10().index(b"\x08\x00")]
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is a named pipe"),
    "socket": (a_socket, "is a socket"),
    "terabyte": (sparse, "bytes, more than the limit of 1073741824"),
    "loop": (lambda path: path.symlink_to(path), "cannot be read"),
    "dangling": (lambda path: path.symlink_to(path / "nowhere"), "cannot be read"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "folder": (lambda path: path.symlink_to(path.parent), "is a symbolic link to a directory"),
    "empty": (lambda path: path.touch(), "is not DICOM"),
    "text": (lambda path: path.write_text("no image"), "is not DICOM"),
    "deflate": (
        lambda path: path.write_bytes(part10(syntax=DeflatedExplicitVRLittleEndian)[:-40]),
        "cut off",
    ),
    "nested": (
        lambda path: path.write_bytes(META + nested(3000)),
        "nested more than 64 deep",
    ),
    "cut": (lambda path: path.write_bytes(part10()[:-8]), "cut off"),
    "meta": (lambda path: path.write_bytes(part10()[:150]), "truncated"),
    "big": (
        lambda path: path.write_bytes(b"\0\x08\0\x16UI\0\x1a" + b"1.2.840.10008.5.1.4.1.1.2\0"),
        "big endian",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_bad_file_costs_itself(name: str, tmp_path: Path) -> None:
    make, said = WRONG[name]
    make(tmp_path / name)
    (tmp_path / "good.dcm").write_bytes(part10())
    for inputs in ([tmp_path], [tmp_path / name, tmp_path / "good.dcm"]):
        if name == "folder" and len(inputs) == 2:
            continue  # named on the command line, a link to a directory is a directory
        images, skipped = looked_at(*inputs)
        assert images == 1
        assert said in skipped[name]
        assert list(skipped) == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_is_closed_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "good.dcm").write_bytes(part10())
    (tmp_path / "closed").mkdir(mode=0)
    assert looked_at(tmp_path) == (1, {"closed": "cannot be read: Permission denied"})


def test_a_file_that_changes_while_it_is_read_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.dcm").write_bytes(part10(1))
    (tmp_path / "written").write_bytes(part10(2))
    real = os.fstat
    looks: list[int] = []

    def fstat(descriptor: int) -> os.stat_result:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "written":
            looks.append(descriptor)
            if len(looks) % 3 == 0:  # after it was opened and measured, while it is read
                with (tmp_path / "written").open("ab") as file:
                    file.write(b"\0" * 8)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)
    images, skipped = looked_at(tmp_path)
    assert images == 1
    assert "changed while it was read" in skipped["written"]


@pytest.mark.parametrize("form", ["bare data set", "meta without preamble", "no transfer syntax"])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"]
)
def test_files_without_preamble_or_meta_are_read(form: str, syntax: UID, tmp_path: Path) -> None:
    whole = part10(syntax=syntax)
    if form == "bare data set":
        content = to_bytes(make_ct(), syntax)
    elif form == "meta without preamble":
        content = whole[132:]
    else:
        content = bytes(128) + b"DICM" + to_bytes(make_ct(), syntax)
    (tmp_path / "odd").write_bytes(content)
    with input_files([tmp_path]) as files:
        (series,) = scan_inputs(files).series
        (instance,) = series.instances
        again = pydicom.dcmread(instance.path, force=True)
        assert again.file_meta.TransferSyntaxUID == syntax == instance.transfer_syntax_uid
        assert again.SOPInstanceUID == instance.sop_instance_uid
        assert len(again.PixelData) == 2720


def test_a_compressed_image_without_meta_is_named(tmp_path: Path) -> None:
    dataset = make_ct()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.compress(RLELossless, generate_instance_uid=False)
    (tmp_path / "odd").write_bytes(to_bytes(dataset, RLELossless))
    images, skipped = looked_at(tmp_path)
    assert images == 0
    assert "has no Transfer Syntax UID" in skipped["odd"]


def test_big_endian_is_read(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(part10(syntax=ExplicitVRBigEndian))
    assert looked_at(tmp_path) == (1, {})


def test_a_broken_member_costs_itself(tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as content:
        content.writestr("good.dcm", part10(1))
        content.writestr("broken.dcm", part10(2))
    whole = bytearray(archive.read_bytes())
    whole[whole.rindex(b"\xe0\x7f\x10\x00", 0, whole.index(b"PK\x01\x02"))] ^= 0xFF
    archive.write_bytes(whole)
    images, skipped = looked_at(archive)
    assert images == 1
    ((name, why),) = skipped.items()
    assert "broken.dcm" in name
    assert "CRC" in why


def test_an_archive_that_is_cut_off_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "good.dcm").write_bytes(part10())
    archive = tmp_path / "cut.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("a.dcm", part10())
    whole = bytearray(archive.read_bytes())
    whole[whole.index(b"PK\x01\x02")] = 0
    archive.write_bytes(whole)
    images, skipped = looked_at(archive, tmp_path / "good.dcm")
    assert images == 1
    assert "cannot be unpacked" in skipped["cut.zip"]


def test_an_archive_that_grows_beyond_measure_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "good.dcm").write_bytes(part10())
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as content:
        content.writestr("a.dcm", part10(2))
        with content.open("zeros", "w", force_zip64=True) as member:
            for _ in range(400):
                member.write(bytes(1 << 20))
    assert archive.stat().st_size < 1 << 20
    images, skipped = looked_at(archive, tmp_path / "good.dcm")
    assert images == 1
    assert "unpacks to more than the limit of 256 MiB" in skipped["bomb.zip"]


def test_a_list_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "good.dcm").write_bytes(part10())
    (tmp_path / "list.txt").write_text("\ufeffgood.dcm\nmissing.dcm\n", encoding="utf-8")
    images, skipped = looked_at(tmp_path / "list.txt")
    assert images == 1
    assert "is listed in" in skipped["missing.dcm"]
    (tmp_path / "latin.lst").write_bytes(b"M\xfcller.dcm")
    assert "not a list of files in UTF-8" in looked_at(tmp_path / "latin.lst")[1]["latin.lst"]


def test_images_under_one_uid_are_counted(tmp_path: Path) -> None:
    for number in range(1, 65):
        dataset = make_ct(number)
        dataset.SOPInstanceUID = "1.2.3.4"
        dataset.SeriesInstanceUID = "1.2.3"
        (tmp_path / f"{number:04d}.dcm").write_bytes(to_bytes(dataset, ExplicitVRLittleEndian))
    done = CliRunner().invoke(
        cli, ["analyze", str(tmp_path), "--out", str(tmp_path / "out")], env={"COLUMNS": "300"}
    )
    assert done.exit_code == 1
    assert "64 images came under one SOP Instance UID (1.2.3.4)" in done.output


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_damaged_in_any_compression_costs_itself(method: int, tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w", method) as content:
        content.writestr("good.dcm", part10(1))
        content.writestr("broken.dcm", part10(2))
        broken = content.getinfo("broken.dcm")
    whole = bytearray(archive.read_bytes())
    start = broken.header_offset + 30 + len(broken.filename)
    for place in range(start + 20, start + broken.compress_size):
        whole[place] ^= 0xA5
    archive.write_bytes(whole)
    images, skipped = looked_at(archive)
    assert images == 1
    ((name, why),) = skipped.items()
    assert "broken.dcm" in name
    assert why.startswith("cannot be unpacked")


@pytest.mark.parametrize("line", ["x" * 5000, "../" * 3000, "a\0b", "good.dcm/below"])
def test_a_line_of_a_list_that_is_no_path_costs_itself(line: str, tmp_path: Path) -> None:
    (tmp_path / "good.dcm").write_bytes(part10())
    (tmp_path / "list.txt").write_text(f"{line}\ngood.dcm\n")
    images, skipped = looked_at(tmp_path / "list.txt")
    assert images == 1
    ((_, why),) = skipped.items()
    assert "is listed in" in why


def test_an_image_without_preamble_can_be_read_by_the_loader_too(tmp_path: Path) -> None:
    (tmp_path / "cut.dcm").write_bytes(part10()[128:])
    with input_files([tmp_path]) as files:
        (series,) = scan_inputs(files).series
        assert pydicom.dcmread(series.instances[0].path).PixelData == make_ct().PixelData


@pytest.mark.parametrize("uid", ["1.2.3.4.5", "1.2.840.113619.5.2", "1.2.840.10008.5.1.4.1.1.2"])
def test_a_transfer_syntax_that_is_none_is_named(uid: str, tmp_path: Path) -> None:
    whole = part10()
    place = whole.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(whole[place + 6 : place + 8], "little")
    value = uid.encode() + b"\0" * (len(uid) % 2)
    changed = (
        whole[: place + 6] + len(value).to_bytes(2, "little") + value + whole[place + 8 + length :]
    )
    (tmp_path / "a.dcm").write_bytes(changed)
    images, skipped = looked_at(tmp_path / "a.dcm")
    assert images == 0
    assert uid in skipped["a.dcm"]
    assert "unsupported" in skipped["a.dcm"]
