"""The spool: whole files or none, one file for one content, nothing left of a crash."""

from __future__ import annotations

import errno
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chestct.errors import OutOfResources
from chestct.uids import Uid
from scp import spool as spool_module
from scp.spool import Spool

SERIES = Uid("1.2.3")


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_a_file_holds_meta_and_content_and_its_name_says_neither(tmp_path: Path) -> None:
    spooled = Spool(tmp_path).write(SERIES, b"meta", b"content")
    assert spooled.path.read_bytes() == b"metacontent"
    assert spooled.size == 11
    assert len(spooled.content_digest) == 64
    assert SERIES not in str(spooled.path.relative_to(tmp_path))
    assert _files(tmp_path) == [spooled.path]


def test_content_decides_the_file_and_series_the_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = spool.write(SERIES, b"m", b"one")
    assert spool.write(SERIES, b"m", b"one") == first
    assert spool.write(SERIES, b"m", b"two").path.parent == first.path.parent
    other = spool.write(Uid("1.2.4"), b"m", b"one")
    assert other.path.parent != first.path.parent
    assert other.content_digest == first.content_digest
    assert len(_files(tmp_path)) == 3


def test_many_threads_with_one_content_make_one_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    together = threading.Barrier(8)
    failed: list[Exception] = []

    def write(number: int) -> None:
        try:
            together.wait(10)
            spool.write(SERIES, b"m", b"same" * 1000)
            spool.write(SERIES, b"m", str(number).encode())
        except Exception as error:  # noqa: BLE001 - reported below
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert failed == []
    assert len(_files(tmp_path)) == 9


def test_what_a_crash_left_half_written_is_removed_and_the_rest_kept(tmp_path: Path) -> None:
    kept = Spool(tmp_path).write(SERIES, b"m", b"one").path
    (kept.parent / "abc.partial").write_bytes(b"half")
    Spool(tmp_path)
    assert _files(tmp_path) == [kept]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what makes files and names durable, in order."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(f"sync {'folder' if path.is_dir() else path.suffix}")
        fsync(descriptor)

    def recorded_replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    return done


@pytest.mark.parametrize("keeps_names", [True, False])
def test_a_new_file_has_its_name_before_its_one_fsync(
    tmp_path: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch, *, keeps_names: bool
) -> None:
    monkeypatch.setattr(spool_module, "fsync_keeps_names", lambda _: keeps_names)
    spool = Spool(tmp_path)
    spool.write(SERIES, b"m", b"one")
    new_folder, names = ([], []) if keeps_names else (["sync folder"], ["sync folder"])
    assert steps == [*new_folder, "rename", "sync .dcm", *names]
    steps.clear()
    spool.write(SERIES, b"m", b"two")
    steps_of_second = ["rename", "sync .dcm", *names]
    assert steps[-len(steps_of_second) :] == steps_of_second


def test_a_file_that_has_its_name_is_replaced_only_by_a_durable_one(
    tmp_path: Path, steps: list[str]
) -> None:
    spool = Spool(tmp_path)
    path = spool.write(SERIES, b"m", b"one").path
    for file_meta, damaged in ((b"other", False), (b"m", True)):
        if damaged:
            path.write_bytes(b"torn")
        steps.clear()
        spool.write(SERIES, file_meta, b"one")
        assert steps == ["sync .partial", "rename", "sync folder", "sync folder"]


def test_a_repeated_file_is_synced_for_its_first_writer_may_have_crashed(
    tmp_path: Path, steps: list[str]
) -> None:
    Spool(tmp_path).write(SERIES, b"m", b"one")
    steps.clear()
    assert not Spool(tmp_path).write(SERIES, b"m", b"one").written
    assert steps == ["sync .dcm", "sync folder", "sync folder"]


def test_a_file_whose_fsync_fails_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    spool = Spool(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OutOfResources, match="cannot store"):
            spool.write(SERIES, b"m", b"one")
    assert _files(tmp_path) == []
    assert spool.write(SERIES, b"m", b"one").written


def test_the_time_of_a_file_is_that_of_its_reception(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    path = Spool(tmp_path).write(SERIES, b"m", b"one", received_at=at).path
    assert datetime.fromtimestamp(path.stat().st_mtime, UTC) == at


def test_a_folder_that_was_cleared_away_is_made_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = spool.write(SERIES, b"m", b"one")
    first.path.unlink()
    first.path.parent.rmdir()
    assert spool.write(SERIES, b"m", b"one").path.read_bytes() == b"mone"


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_spool_that_cannot_be_used_says_so_at_once(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutOfResources, match="cannot be used"):
        Spool(tmp_path / "file" / inside)


def test_a_folder_that_is_gone_is_no_crash(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool").rmdir()
    with pytest.raises(OutOfResources, match="cannot store"):
        spool.write(SERIES, b"m", b"one")
