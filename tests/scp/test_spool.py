"""The spool: whole files or none, one file for one content, nothing left of a crash."""

from __future__ import annotations

import threading
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


def test_a_folder_that_another_thread_made_is_synced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spool(tmp_path).write(SERIES, b"m", b"one")
    synced: list[Path] = []
    sync = spool_module._sync_folder
    monkeypatch.setattr(
        spool_module, "_sync_folder", lambda folder: (synced.append(folder), sync(folder))
    )
    spooled = Spool(tmp_path).write(SERIES, b"m", b"one")
    assert synced == [tmp_path, spooled.path.parent]


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
